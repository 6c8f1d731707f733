//! Who may call what: every route of every surface is asked for by everybody, of running nodes.
//!
//! What must come of it stands in `clients/authorisation.toml`; the page is made of the same file. That the file names every route is
//! `cargo xtask tidy`'s to see.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use support::authorisation::{Object, Route, Surface, Table, Who, root};
use support::demo::Demo;
use support::http::{Endpoint, Reply, socket_call, socket_post, socket_send};
use support::peer::{Peer, Port};
use support::until;

const TENANT: &str = "bank";
const HOME: &str = "bank-home";
const PROJECT: &str = "customer-service";
const OTHER_HOME: &str = "start-up-home";
const BEGIN: &str = "<!-- made of clients/authorisation.toml -->";
const END: &str = "<!-- end of what is made -->";

/// Whoever asks, with what they send.
struct Caller {
    name: &'static str,
    is: Is,
    credential: String,
}

/// What a caller is to this node.
#[derive(Clone, Copy, PartialEq)]
enum Is {
    /// Nobody: what was sent opens nothing here.
    Nobody,
    /// The project's own key.
    Key,
    /// A key of another project of the same tenant.
    OtherKey,
    /// A token's role.
    Role(Who),
}

/// The tenant's home, and who comes to it.
struct World {
    demo: Demo,
    socket: PathBuf,
    endpoint: Endpoint,
    callers: Vec<Caller>,
}

/// An address that nobody came from yet: wrong keys are counted by address.
fn new_address() -> IpAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let [_, high, mid, low] = (COUNT.fetch_add(1, Ordering::SeqCst) + 2).to_be_bytes();
    Ipv4Addr::new(127, 90 + high, mid, low).into()
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn socket_of(demo: &Demo, node: &str) -> PathBuf {
    demo.node_folder(node).join("state/api.sock")
}

/// A field of what a node makes over its own socket.
fn made(demo: &Demo, node: &str, path: &str, body: &Value, field: &str) -> (String, String) {
    let reply = socket_post(&socket_of(demo, node), path, body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = |field: &str| reply.json()[field].as_str().unwrap().to_owned();
    (text("id"), text(field))
}

fn token(demo: &Demo, node: &str, role: &str, expires_ms: Option<u64>) -> (String, String) {
    made(demo, node, "/api/v1/tokens", &json!({"role": role, "expires_ms": expires_ms}), "token")
}

fn key(demo: &Demo, expires_ms: Option<u64>) -> (String, String) {
    made(demo, HOME, "/api/v1/keys", &json!({"project": PROJECT, "expires_ms": expires_ms}), "key")
}

fn deleted(demo: &Demo, path: &str) {
    let reply = socket_call(&socket_of(demo, HOME), "DELETE", path);
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// A secret with its last characters changed.
fn wrong(secret: &str) -> String {
    let (front, last) = secret.split_at(secret.len() - 4);
    format!("{front}{}", if last == "AAAA" { "BBBB" } else { "AAAA" })
}

fn callers(demo: &Demo) -> Vec<Caller> {
    let soon = Some(now_ms() + 400);
    let (expired_key, expired_token) = (key(demo, soon).1, token(demo, HOME, "owner", soon).1);
    let ((revoked_key_id, revoked_key), (revoked_id, revoked)) = (key(demo, None), token(demo, HOME, "owner", None));
    deleted(demo, &format!("/api/v1/keys/{revoked_key_id}"));
    deleted(demo, &format!("/api/v1/tokens/{revoked_id}"));
    let right = key(demo, None).1;
    let role = |role: &str| token(demo, HOME, role, None).1;
    let others = demo.endpoint("start-up", "product").key;
    let caller = |name, is, credential: String| Caller { name, is, credential };
    let all = vec![
        caller("nobody", Is::Nobody, String::new()),
        caller("a made-up key", Is::Nobody, "sk-made-up-by-somebody".to_owned()),
        caller("a key with a wrong secret", Is::Nobody, wrong(&right)),
        caller("a revoked key", Is::Nobody, revoked_key),
        caller("an expired key", Is::Nobody, expired_key),
        caller("another tenant's key", Is::Nobody, others),
        caller("a revoked token", Is::Nobody, revoked),
        caller("an expired token", Is::Nobody, expired_token),
        caller("another home's token", Is::Nobody, token(demo, OTHER_HOME, "owner", None).1),
        caller("a token with a wrong secret", Is::Nobody, wrong(&role("owner"))),
        caller("the project's key", Is::Key, right),
        caller("another project's key", Is::OtherKey, demo.endpoint(TENANT, "website").key),
        caller("an owner", Is::Role(Who::Owner), role("owner")),
        caller("an operator", Is::Role(Who::Operator), role("operator")),
        caller("a reviewer", Is::Role(Who::Reviewer), role("reviewer")),
        caller("an auditor", Is::Role(Who::Auditor), role("auditor")),
    ];
    // What expires soon has expired.
    until("the end of what expires", || (Some(now_ms()) > soon).then_some(()));
    all
}

impl World {
    fn start() -> Self {
        let demo = Demo::start();
        let endpoint = demo.endpoint(TENANT, PROJECT);
        Self { socket: socket_of(&demo, HOME), callers: callers(&demo), endpoint, demo }
    }

    fn key(&self) -> Endpoint {
        let caller = self.callers.iter().find(|caller| caller.is == Is::Key).unwrap();
        self.endpoint.with_key(&caller.credential)
    }

    /// An object of the project's, made for this call.
    fn object(&self, of: Option<Object>) -> String {
        let text = |reply: Reply, pointer: &str| {
            assert_eq!(reply.status, 200, "{}", reply.text());
            reply.json().pointer(pointer).unwrap().as_str().unwrap().to_owned()
        };
        let ask = |path: &str, body: &Value| self.key().post(path, body);
        match of {
            None => "x".to_owned(),
            Some(Object::Model) => "polder-toy".to_owned(),
            Some(Object::Project) => PROJECT.to_owned(),
            Some(Object::Factory) => "paris".to_owned(),
            Some(Object::Version) => "1".to_owned(),
            Some(Object::Key) => key(&self.demo, None).0,
            Some(Object::Token) => token(&self.demo, HOME, "auditor", None).0,
            Some(Object::Response) => {
                let body =
                    json!({"model": "polder-toy", "input": "Hello", "max_output_tokens": 16, "background": true});
                text(ask("/v1/responses", &body), "/id")
            }
            Some(Object::File) => file(&self.key()),
            Some(Object::Batch) => {
                let file = file(&self.key());
                let body =
                    json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
                text(ask("/v1/batches", &body), "/id")
            }
            Some(Object::Decision) => {
                let id = decision(&self.key()).0;
                // A placement does not wait for its leaf.
                let path = format!("/api/v1/decisions/{id}");
                let seen = || socket_call(&self.socket, "GET", &path).status == 200;
                until("the leaf", || seen().then(|| id.clone()))
            }
        }
    }

    fn body(&self, route: &Route, id: &str) -> String {
        let body = route.body.replace("{id}", id);
        if !body.contains("\"{policy}\"") {
            return body;
        }
        let version = socket_call(&self.socket, "GET", "/api/v1/policies/1").json();
        body.replace("\"{policy}\"", &version["text"].to_string())
    }

    fn ask(&self, route: &Route, caller: &Caller, id: &str, from: IpAddr) -> Reply {
        let (method, path) = route.request(id);
        let endpoint = self.endpoint.with_key(&caller.credential);
        let body = self.body(route, id);
        endpoint.call_from(from, method, &path, &[("content-type", "application/json")], body.as_bytes())
    }
}

/// A file with the lines of a batch, enough of them that it is not done at once.
fn file(endpoint: &Endpoint) -> String {
    let line = |index: usize| {
        let body = json!({"model": "polder-toy", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1});
        json!({"custom_id": index.to_string(), "method": "POST", "url": "/v1/chat/completions", "body": body})
    };
    let lines: String = (0..150).map(|index| format!("{}\n", line(index))).collect();
    let part = |head: &str, body: &str| format!("--edge\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n");
    let whole =
        part("name=\"purpose\"", "batch") + &part("name=\"file\"; filename=\"lines.jsonl\"", &lines) + "--edge--\r\n";
    let reply =
        endpoint.call("POST", "/v1/files", &[("content-type", "multipart/form-data; boundary=edge")], whole.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

/// A question's decision and the factory that answered it.
fn decision(endpoint: &Endpoint) -> (String, String) {
    let body = json!({"model": "polder-toy", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1});
    let reply = endpoint.post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let header = |name: &str| reply.header(name).unwrap().to_owned();
    (header("polder-decision"), header("polder-factory"))
}

/// An id of the same shape that nothing has.
fn absent(id: &str) -> String {
    let turned = |digit: char| match digit {
        '0'..='9' => char::from(b'9' - (u8::try_from(digit).unwrap() - b'0')),
        other => other,
    };
    let absent: String = id.chars().map(turned).collect();
    if absent == id { format!("no-{}", &id[3..]) } else { absent }
}

/// What an answer says, without what differs from one to the next.
fn said(reply: &Reply, id: &str) -> (u16, Vec<String>, String) {
    let names = reply.headers.iter().map(|(name, _)| name.clone()).filter(|name| name != "date").collect();
    (reply.status, names, reply.text().replace(id, "ID"))
}

/// Why an answer is not as the surface says no.
fn no(route: &Route, reply: &Reply, status: u16) -> Result<(), String> {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let shaped = match route.surface() {
        Surface::Operators => {
            reply.header("content-type") == Some("application/problem+json") && body["status"] == status
        }
        _ if route.path.starts_with("/v1/messages") => body["type"] == "error" && body["error"]["message"].is_string(),
        _ => body["error"]["code"] == "invalid_api_key",
    };
    let seen = || format!("{} {}", reply.status, reply.text());
    if reply.status == status && shaped { Ok(()) } else { Err(format!("not {status} but {}", seen())) }
}

/// What one caller must see at one route.
fn judge(world: &World, route: &Route, caller: &Caller, shared: &str) -> Result<(), String> {
    let may = |who: Who| route.may.contains(&Who::Everyone) || route.may.contains(&who);
    let own = route.of.is_some_and(Object::is_of_a_project);
    let refused = |status: u16| no(route, &world.ask(route, caller, shared, new_address()), status);
    let let_in = |id: &str| {
        let reply = world.ask(route, caller, id, new_address());
        let good = reply.status == route.answer;
        if good { Ok(()) } else { Err(format!("not {} but {} {}", route.answer, reply.status, reply.text())) }
    };
    match (route.surface(), caller.is) {
        (Surface::Peers, _) => {
            let reply = world.ask(route, caller, shared, new_address());
            if reply.status == 404 { Ok(()) } else { Err(format!("a peer's call is served: {}", reply.status)) }
        }
        _ if may(Who::Everyone) => let_in(&world.object(route.of)),
        (_, Is::Nobody) => refused(401),
        (_, Is::Key) if may(Who::Key) => let_in(&world.object(route.of)),
        (_, Is::OtherKey) if may(Who::Key) && own => {
            let missing = absent(shared);
            let reply = said(&world.ask(route, caller, shared, new_address()), shared);
            let none = said(&world.ask(route, caller, &missing, new_address()), &missing);
            if reply == none && reply.0 >= 400 {
                Ok(())
            } else {
                Err(format!("{reply:?}, and where nothing is {none:?}"))
            }
        }
        (_, Is::OtherKey) if may(Who::Key) => let_in(&world.object(route.of)),
        (Surface::Applications, Is::Role(_)) => refused(401),
        (Surface::Operators, Is::Role(role)) if may(role) => let_in(&world.object(route.of)),
        _ => refused(403),
    }
}

#[test]
fn everybody_is_let_in_where_the_table_says_and_nowhere_else() {
    let (table, world) = (Table::read(), World::start());
    let mut wrong = Vec::new();
    for route in &table.routes {
        let shared = world.object(route.of);
        let mut denied: Vec<(&str, String)> = Vec::new();
        for caller in &world.callers {
            if let Err(problem) = judge(&world, route, caller, &shared) {
                wrong.push(format!("{}: {}: {problem}", route.name(), caller.name));
            }
            // Who was let in before, or elsewhere, is told nothing else than who made something up.
            if caller.is == Is::Nobody && !caller.credential.is_empty() {
                let text = world.ask(route, caller, &shared, new_address()).text();
                denied.push((caller.name, without_request_id(&text)));
            }
        }
        if denied.iter().any(|(_, text)| *text != denied[0].1) {
            wrong.push(format!("{}: those who are nobody are told different things: {denied:?}", route.name()));
        }
        over_the_socket(&world, route, &mut wrong);
        still_there(&world, route, &shared, &mut wrong);
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.routes.len(), wrong.join("\n"));
    others_answer_as_if_it_were_not_there(&table, &world);
    by_anthropics_header(&world);
}

/// A text without the id that every answer to Anthropic's clients has.
fn without_request_id(text: &str) -> String {
    text.split("\"request_id\":").next().unwrap_or_default().to_owned()
}

/// The node's own socket serves the operators' surface, to the full, and what everyone may see of the log; nothing else.
fn over_the_socket(world: &World, route: &Route, wrong: &mut Vec<String>) {
    let id = world.object(route.of);
    let (method, path) = route.request(&id);
    let reply = socket_send(&world.socket, method, &path, &world.body(route, &id));
    let public = ["/log/", "/witness/"].iter().any(|prefix| route.path.starts_with(prefix));
    let expected = if public || route.surface() == Surface::Operators { route.answer } else { 404 };
    if reply.status != expected {
        wrong.push(format!("{} over the socket: not {expected} but {} {}", route.name(), reply.status, reply.text()));
    }
}

/// What those who may not asked to be taken away is still there.
fn still_there(world: &World, route: &Route, id: &str, wrong: &mut Vec<String>) {
    let list = |path: &str, field: &str| {
        let rows = socket_call(&world.socket, "GET", path).json()[field].clone();
        let rows = rows.as_array().cloned().unwrap_or_default();
        rows.iter().any(|row| row["id"] == id && row["revoked_ms"].is_null())
    };
    let there = match route.of {
        Some(Object::Response) => world.key().get(&format!("/v1/responses/{id}")).status == 200,
        Some(Object::File) => world.key().get(&format!("/v1/files/{id}")).status == 200,
        Some(Object::Batch) => world.key().get(&format!("/v1/batches/{id}")).json()["cancelling_at"].is_null(),
        Some(Object::Key) => list("/api/v1/keys", "keys"),
        Some(Object::Token) => list("/api/v1/tokens", "tokens"),
        _ => true,
    };
    if !there {
        wrong.push(format!("{}: somebody who may not took it away", route.name()));
    }
}

/// Another tenant, at its own home, with its own key: what is the first one's does not exist there.
fn others_answer_as_if_it_were_not_there(table: &Table, world: &World) {
    let other = world.demo.endpoint("start-up", "product");
    for route in table.routes.iter().filter(|route| route.may.contains(&Who::Key)) {
        if !route.of.is_some_and(Object::is_of_a_project) {
            continue;
        }
        let id = world.object(route.of);
        let ask = |id: &str| {
            let (method, path) = route.request(id);
            let body = world.body(route, id);
            said(&other.call(method, &path, &[("content-type", "application/json")], body.as_bytes()), id)
        };
        let (there, none) = (ask(&id), ask(&absent(&id)));
        assert!(there == none && there.0 >= 400, "{}: {there:?} {none:?}", route.name());
    }
}

/// Anthropic's clients send their key in a header of their own: it opens what it opens in the other.
fn by_anthropics_header(world: &World) {
    let anonymous = world.endpoint.with_key("");
    for caller in &world.callers {
        let headers = [("x-api-key", caller.credential.as_str())];
        let reply = anonymous.call_from(new_address(), "GET", "/v1/models", &headers, b"");
        let expected = if matches!(caller.is, Is::Key | Is::OtherKey) { 200 } else { 401 };
        assert_eq!(reply.status, expected, "{}: {}", caller.name, reply.text());
    }
}

/// Where a factory's peers come in.
fn port(demo: &Demo, factory: &str) -> Port {
    let folder = demo.node_folder(factory);
    let config: toml::Table = std::fs::read_to_string(folder.join("node.toml")).unwrap().parse().unwrap();
    Port::of(&folder, factory, config["peer_listen"].as_str().unwrap().parse().unwrap())
}

#[test]
fn a_factory_serves_members_alone_and_no_application() {
    let (table, demo) = (Table::read(), Demo::start());
    let (decision, factory) = decision(&demo.endpoint(TENANT, PROJECT));
    let port = port(&demo, &factory);
    let (home, other) = (demo.node_folder(HOME), demo.node_folder(OTHER_HOME));
    for route in &table.routes {
        let (method, path) = route.request(&decision);
        let ask = |from: &Peer<'_>| port.ask(from, method, &path, &route.body);
        for from in [Peer::Stranger, Peer::Nobody] {
            assert_eq!(ask(&from), None, "{}: a channel without a pinned key", route.name());
        }
        let (status, text) = ask(&Peer::Member(&home, HOME)).unwrap_or_else(|| panic!("{}: no answer", route.name()));
        // A factory's log and witness are for peers, too, where they speak to it.
        let also = ["/log/", "/witness/"].iter().any(|part| route.path.starts_with(part));
        let expected = if also || route.surface() == Surface::Peers { route.answer } else { 404 };
        assert_eq!(status, expected, "{} by a member: {text}", route.name());
    }
    // What one home asked for is not there for another.
    let path = format!("/peer/v1/executions/{decision}");
    let own = port.ask(&Peer::Member(&home, HOME), "GET", &path, "").unwrap();
    assert!(own.1.contains(&decision), "{own:?}");
    assert_eq!(port.ask(&Peer::Member(&other, OTHER_HOME), "GET", &path, ""), Some((200, "null".to_owned())));
    on_its_own_port(&table, &demo, &factory);
}

/// A factory's plain port: no application is served there, and its operators' tokens are its own.
fn on_its_own_port(table: &Table, demo: &Demo, factory: &str) {
    let config = std::fs::read_to_string(demo.node_folder(factory).join("node.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let endpoint = Endpoint::new(&format!("http://{}/v1", config["listen"].as_str().unwrap()), "");
    let roles = [Who::Owner, Who::Operator, Who::Reviewer, Who::Auditor];
    let names = ["owner", "operator", "reviewer", "auditor"];
    let tokens = names.map(|role| token(demo, factory, role, None).1);
    let foreign = [String::new(), demo.endpoint(TENANT, PROJECT).key, token(demo, HOME, "owner", None).1];
    for route in &table.routes {
        let (method, path) = route.request("1");
        let ask = |credential: &str| {
            let endpoint = endpoint.with_key(credential);
            let headers = [("content-type", "application/json")];
            endpoint.call_from(new_address(), method, &path, &headers, route.body.as_bytes()).status
        };
        let everyone = route.may.contains(&Who::Everyone);
        for credential in &foreign {
            let expected = match route.surface() {
                Surface::Operators if !everyone => 401,
                Surface::Open => route.answer,
                _ => 404,
            };
            assert_eq!(ask(credential), expected, "{} with `{credential}`", route.name());
        }
        if route.surface() != Surface::Operators || everyone {
            continue;
        }
        for (role, token) in roles.iter().zip(&tokens) {
            let status = ask(token);
            let let_in = status != 401 && status != 403;
            assert_eq!(let_in, route.may.contains(role), "{} by {role:?} of the factory: {status}", route.name());
        }
    }
}

#[test]
fn wrong_tokens_are_counted_by_address_and_do_not_lock_out_who_is_known_there() {
    let demo = Demo::start();
    let config = std::fs::read_to_string(demo.node_folder("paris").join("node.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let factory = Endpoint::new(&format!("http://{}/v1", config["listen"].as_str().unwrap()), "");
    for (node, endpoint) in [(HOME, demo.endpoint(TENANT, PROJECT)), ("paris", factory)] {
        let (known, unknown) = (token(&demo, node, "operator", None).1, token(&demo, node, "operator", None).1);
        let (from, elsewhere) = (new_address(), new_address());
        let status = |token: &str, from: IpAddr| {
            endpoint.with_key(token).call_from(from, "GET", "/api/v1/status", &[], b"").status
        };
        assert_eq!(status(&known, from), 200);
        let tries: Vec<u16> = (0..40).map(|_| status(&wrong(&unknown), from)).collect();
        assert!(tries[..30].iter().all(|status| *status == 401), "{tries:?}");
        assert_eq!(tries[39], 429, "{tries:?}");
        assert_eq!(status(&known, from), 200, "who was known there before");
        assert_eq!(status(&unknown, from), 429, "a right token may be one that was guessed");
        assert_eq!(status(&unknown, elsewhere), 200);
    }
}

#[test]
fn tokens_are_shown_once_and_kept_as_digests() {
    let demo = Demo::start();
    let told = |arguments: &[&str]| {
        let ended = demo.polder(&[arguments, &["--tenant", TENANT, "-o", "json"]].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.json()
    };
    let made = told(&["token", "create", "--role", "auditor", "--name", "court", "--days", "1"]);
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert_eq!(token.len(), "op-polder-".len() + 16 + 1 + 43);
    let list = told(&["token", "list"]);
    assert!(!list.to_string().contains(token) && list.to_string().contains(id), "{list}");
    for entry in std::fs::read_dir(demo.node_folder(HOME).join("state")).unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
        assert!(!found, "the token lies in `{}`", entry.path().display());
    }
    let by_token = demo.endpoint(TENANT, PROJECT).with_key(token);
    assert_eq!(by_token.get("/api/v1/tokens").status, 200);
    assert_eq!(by_token.post("/api/v1/tokens", &json!({"role": "owner"})).status, 403, "no role makes another");
    assert_eq!(told(&["token", "revoke", id])["revoked"], true);
    assert_eq!(by_token.get("/api/v1/tokens").status, 401);
    let again = demo.polder(&["token", "revoke", id, "--tenant", TENANT]);
    assert!(again.code == 1 && again.stderr.contains("no token"), "{again:?}");
}

#[test]
fn the_page_says_what_the_table_says() {
    let path = root().join("docs/authorisation.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page marks where the made part begins");
    let (_, after) = rest.split_once(END).expect("the page marks where the made part ends");
    let made = format!("{before}{BEGIN}\n{}\n{END}{after}", Table::read().page());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
    } else {
        assert!(page == made, "docs/authorisation.md says something else; run this test with UPDATE=1");
    }
}
