//! Routing as processes and sockets show it: dead engines are hidden before the first byte and told after it, breakers open and
//! heal, conversations stay where they began, and keys go nowhere but to their own engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::demo::Demo;
use support::engine::{Engine, Mode};
use support::http::{Endpoint, Reply, socket_call};
use support::node::Running;
use support::{Folder, process, until};

const CHAT: &str = "/v1/chat/completions";

fn chat(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4})
}

fn streamed(model: &str) -> Value {
    let mut body = chat(model, "What is Polder?");
    body["stream"] = true.into();
    body
}

/// What an answer says, which is the name of who gave it.
fn said(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

/// A decision's record, which follows the answer.
fn decision(reply: &Reply, get: impl Fn(&str) -> Reply) -> Value {
    let path = format!("/api/v1/decisions/{}", reply.header("polder-decision").unwrap());
    until("the decision's record", || Some(get(&path)).filter(|reply| reply.status == 200)).json()
}

/// Changes a node's file.
fn edit(path: &Path, change: impl FnOnce(&mut toml::Table)) {
    let mut table: toml::Table = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    change(&mut table);
    std::fs::write(path, toml::to_string(&table).unwrap()).unwrap();
}

fn table(text: &str) -> toml::Value {
    toml::Value::Table(toml::from_str(text).unwrap())
}

/// One node, home and factory, in front of two engines of another name for the model.
struct Front {
    running: Running,
    endpoint: Endpoint,
    socket: PathBuf,
    engines: [Engine; 2],
    _folder: Folder,
}

impl Front {
    fn start(metrics: Option<&str>) -> Self {
        let folder = Folder::new();
        let engines = ["one", "two"].map(|name| Engine::start(name, "org/Model-Instruct"));
        engines
            .iter()
            .zip([metrics, metrics])
            .for_each(|(engine, page)| page.into_iter().for_each(|page| engine.tells(page)));
        let (first, second) = (engines[0].url(), engines[1].url());
        std::fs::write(folder.path().join("one.key"), "key-of-one\n").unwrap();
        std::fs::write(folder.path().join("two.key"), "key-of-two\n").unwrap();
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let up =
            ["up", "--upstream", &first, "--listen", &listen, "--upstream-key-file", "one.key", "--state", "front"];
        Running::start(folder.path(), &up).end();
        let config = folder.path().join("front/node.toml");
        edit(&config, |node| {
            let upstream = node["factory"].as_table_mut().unwrap()["upstream"].as_table_mut().unwrap();
            let replica = table(&format!("url = \"{second}\"\nkey_file = \"../two.key\""));
            upstream.insert("replicas".to_owned(), toml::Value::Array(vec![replica]));
            upstream.insert("first_token_ms".to_owned(), 400.into());
            let models = "[house]\nalias_of = \"org/Model-Instruct\"\noutput_tokens_max = 50";
            upstream.insert("models".to_owned(), table(models));
        });
        let running = Running::start(folder.path(), &["up", "--config", config.to_str().unwrap()]);
        let key = std::fs::read_to_string(folder.path().join("front/key")).unwrap();
        let endpoint = Endpoint { address: listen, key: key.trim().to_owned() };
        let socket = folder.path().join("front/state/api.sock");
        Self { running, endpoint, socket, engines, _folder: folder }
    }

    fn ask(&self) -> Reply {
        self.endpoint.post(CHAT, &chat("house", "What is Polder?"))
    }

    fn factory(&self) -> Value {
        socket_call(&self.socket, "GET", "/api/v1/factories").json()["factories"][0].clone()
    }
}

#[test]
fn a_dead_replica_is_hidden_and_names_and_keys_stay_with_their_own() {
    let front = Front::start(None);
    let [one, two] = &front.engines;
    let answered = said(&front.ask());
    let (dead, alive) = if answered == "one" { (one, two) } else { (two, one) };
    let body = dead.asked().into_iter().rfind(|asked| asked.path == CHAT).unwrap().body;
    assert_eq!(body["model"], "org/Model-Instruct", "the engine hears its own name");
    let why = decision(&front.ask(), |path| socket_call(&front.socket, "GET", path));
    assert_eq!(why["statement"]["request"]["model"], "house", "statements use ours");
    let models = front.endpoint.get("/v1/models").json();
    assert_eq!(models["data"].as_array().unwrap().len(), 1, "{models}");
    assert_eq!(front.endpoint.post(CHAT, &chat("org/Model-Instruct", "hello")).status, 404);
    let mut greedy = chat("house", "hello");
    greedy["max_tokens"] = 51.into();
    assert_eq!(front.endpoint.post(CHAT, &greedy).error().1.as_deref(), Some("max_tokens"));

    let elsewhere = Engine::start("elsewhere", "org/Model-Instruct");
    for mode in [Mode::Status(500), Mode::Status(503), Mode::Redirects(elsewhere.url() + "/chat/completions")] {
        dead.now(mode.clone());
        for _ in 0..3 {
            assert_eq!(said(&front.ask()), if answered == "one" { "two" } else { "one" }, "{mode:?}");
        }
    }
    alive.now(Mode::Redirects(elsewhere.url() + "/chat/completions"));
    let refused = front.ask();
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("redirect"), "{}", refused.text());
    assert!(elsewhere.asked().is_empty(), "no redirect is followed");
    for (engine, key) in [(one, "Bearer key-of-one"), (two, "Bearer key-of-two")] {
        let asked = engine.asked();
        assert!(asked.iter().any(|asked| asked.path == "/metrics"));
        assert!(asked.iter().all(|asked| asked.key.as_deref() == Some(key)), "{asked:?}");
    }
    front.running.end();
}

#[test]
fn a_replica_that_hangs_is_left_and_one_that_breaks_off_is_told() {
    let page = "vllm:num_requests_running 7\nvllm:num_requests_waiting 5\nvllm:kv_cache_usage_perc 0.25\n";
    let front = Front::start(Some(page));
    let [one, two] = &front.engines;
    one.now(Mode::Hangs);
    for _ in 0..4 {
        let begun = Instant::now();
        let reply = front.endpoint.post(CHAT, &streamed("house"));
        let events = reply.events();
        assert!(events.iter().any(|event| event.contains("two")), "{events:?}");
        assert_eq!(events.last().unwrap(), "[DONE]");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    assert!(one.chats() <= 3, "left alone after three");

    for engine in [one, two] {
        engine.now(Mode::Breaks);
    }
    let reply = front.endpoint.post(CHAT, &streamed("house"));
    let events = reply.events();
    assert_eq!(reply.status, 200);
    let began = |event: &String| event.contains("\"one\"") || event.contains("\"two\"");
    assert!(events.iter().any(began), "what came is passed on: {events:?}");
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "engine_failed", "never silently: {events:?}");

    let signals = until("the engines' signals", || {
        Some(front.factory()["signals"].clone()).filter(|signals| signals["running"] == 14)
    });
    assert_eq!((&signals["waiting"], &signals["kv_used_permille"]), (&json!(10), &json!(250)));
    front.running.end();
}

/// The demo, where the two factories that may run the bank's work stand before engines that do what they are told.
struct Federation {
    demo: Demo,
    munich: Engine,
    paris: Engine,
    bank: Endpoint,
    nodes: Vec<Running>,
}

impl Federation {
    fn start(weights: &str) -> Self {
        let demo = Demo::start();
        let (munich, paris) = (Engine::start("munich", "polder-toy"), Engine::start("paris", "polder-toy"));
        let config = |name: &str| demo.node_folder(name).join("node.toml");
        for (name, engine) in [("munich", &munich), ("paris", &paris)] {
            edit(&config(name), |node| {
                let factory = node["factory"].as_table_mut().unwrap();
                factory.remove("models");
                factory.insert("upstream".to_owned(), table(&format!("url = \"{}\"", engine.url())));
            });
        }
        edit(&config("bank-home"), |node| {
            let home = node["home"].as_table_mut().unwrap();
            home.insert("weights".to_owned(), table(weights));
            home.insert("routing".to_owned(), table("first_token_ms = 500\nbreaker_open_ms = 3000"));
        });
        let mut nodes = Vec::new();
        for name in ["munich", "paris", "bank-home"] {
            process::signal(demo.node_pid(name), Signal::KILL);
            until("the node's end", || process::has_ended(demo.node_pid(name)).then_some(()));
            nodes.push(Running::start(demo.around(), &["up", "--config", config(name).to_str().unwrap()]));
        }
        let bank = demo.endpoint("bank", "customer-service");
        let federation = Self { demo, munich, paris, bank, nodes };
        until("both factories", || {
            let factories = federation.factories();
            let up = |name: &str| factories.iter().any(|one| one["factory"] == name && one["up"] == true);
            (up("munich") && up("paris")).then_some(())
        });
        federation
    }

    fn factories(&self) -> Vec<Value> {
        let socket = self.demo.node_folder("bank-home").join("state/api.sock");
        socket_call(&socket, "GET", "/api/v1/factories").json()["factories"].as_array().unwrap().clone()
    }

    fn circuit(&self, name: &str) -> String {
        let factories = self.factories();
        let one = factories.iter().find(|one| one["factory"] == name).unwrap();
        one["circuit"]["state"].as_str().unwrap().to_owned()
    }

    fn ask(&self) -> Reply {
        self.bank.post(CHAT, &chat("polder-toy", "What is Polder?"))
    }

    fn decision(&self, reply: &Reply) -> Value {
        decision(reply, |path| self.bank.get(path))
    }

    fn end(self) {
        self.nodes.into_iter().for_each(Running::end);
    }
}

#[test]
fn a_breaker_opens_is_told_and_heals() {
    let world = Federation::start("price = 1\nload = 0\nlatency = 0");
    assert_eq!(said(&world.ask()), "munich", "the cheaper one");

    world.munich.now(Mode::Status(500));
    let before = world.munich.chats();
    for _ in 0..6 {
        assert_eq!(said(&world.ask()), "paris", "a dead engine is hidden");
    }
    assert_eq!(world.munich.chats() - before, 3, "left alone after three");
    assert_eq!(world.circuit("munich"), "open");
    let factories = world.demo.polder(&["factories", "--tenant", "bank"]);
    let row = factories.stdout.lines().find(|line| line.starts_with("munich")).unwrap().to_owned();
    assert!(row.contains(" open "), "{row}");
    let decision = world.decision(&world.ask());
    let refusals = decision["refusals"].as_array().unwrap();
    let circuit = refusals.iter().find(|one| one["factory"] == "munich").unwrap();
    assert_eq!((&circuit["layer"], &circuit["rule"]), (&json!("availability"), &json!("circuit-open")), "{circuit}");
    assert!(circuit["reason"].as_str().unwrap().contains("UTC"), "until when: {circuit}");

    // The probe fails: closed no sooner, and hidden all the same.
    let before = world.munich.chats();
    until("a probe", || {
        assert_eq!(said(&world.ask()), "paris");
        (world.munich.chats() > before).then_some(())
    });
    assert_eq!((world.circuit("munich").as_str(), world.munich.chats()), ("open", before + 1), "one probe");
    world.munich.now(Mode::Answers);
    until("the healed factory", || (said(&world.ask()) == "munich").then_some(()));
    assert_eq!(world.circuit("munich"), "closed");
    // Every answer on the way has a receipt that holds.
    let told = world.demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]);
    assert_eq!((told.code, told.json()["verified"].as_bool()), (0, Some(true)), "{told:?}");
    world.end();
}

#[test]
fn time_outs_open_it_and_what_has_begun_ends_with_its_error() {
    let world = Federation::start("price = 1\nload = 0\nlatency = 0");
    world.munich.now(Mode::Breaks);
    let reply = world.bank.post(CHAT, &streamed("polder-toy"));
    let events = reply.events();
    assert_eq!((reply.status, reply.header("polder-factory")), (200, Some("munich")));
    assert!(events.iter().any(|event| event.contains("\"munich\"")), "{events:?}");
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "engine_failed", "{events:?}");

    world.munich.now(Mode::Hangs);
    for _ in 0..3 {
        let begun = Instant::now();
        let reply = world.bank.post(CHAT, &streamed("polder-toy"));
        assert_eq!(reply.header("polder-factory"), Some("paris"), "{}", reply.text());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let decision = world.decision(&reply);
        let refusals = decision["refusals"].as_array().unwrap();
        let munich = refusals.iter().find(|one| one["factory"] == "munich").unwrap();
        assert!(["no-answer-in-time", "circuit-open"].contains(&munich["rule"].as_str().unwrap()), "{munich}");
    }
    // The broken stream was the first failure of three.
    assert_eq!(world.circuit("munich"), "open");

    // A factory that stands still hides behind the other.
    world.munich.now(Mode::Answers);
    until("the healed factory", || (said(&world.ask()) == "munich").then_some(()));
    process::signal(world.nodes[0].pid(), Signal::STOP);
    let reply = world.bank.post(CHAT, &streamed("polder-toy"));
    assert_eq!(reply.header("polder-factory"), Some("paris"), "{}", reply.text());
    process::signal(world.nodes[0].pid(), Signal::CONT);

    world.paris.now(Mode::Status(500));
    world.munich.now(Mode::Status(500));
    let refused = until("a refusal", || Some(world.ask()).filter(|reply| reply.status != 200));
    assert_eq!((refused.status, refused.error().0.as_str()), (403, "policy_unsatisfiable"), "{}", refused.text());
    world.end();
}

#[test]
fn a_factory_killed_in_the_middle_of_a_stream_ends_it_with_an_error() {
    let mut world = Federation::start("price = 1\nload = 0\nlatency = 0");
    world.munich.now(Mode::Stalls);
    let bank = world.bank.clone();
    let reading = std::thread::spawn(move || bank.post(CHAT, &streamed("polder-toy")));
    until("the stream at the engine", || (world.munich.chats() > 0).then_some(()));
    // What the engine began is on its way to the client by then.
    std::thread::sleep(Duration::from_millis(400));
    drop(world.nodes.remove(0));
    let reply = reading.join().unwrap();
    let events = reply.events();
    assert_eq!((reply.status, reply.header("polder-factory")), (200, Some("munich")), "{events:?}");
    assert!(events.iter().any(|event| event.contains("\"munich\"")), "what came is passed on: {events:?}");
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "engine_failed", "never silently: {events:?}");
    assert_eq!(said(&world.ask()), "paris");
    world.end();
}

#[test]
fn a_conversation_stays_where_it_began_and_the_statement_says_why() {
    let world = Federation::start("price = 1\nload = 0\nlatency = 0\naffinity = 1");
    let ask = |text: &str| world.bank.post(CHAT, &chat("polder-toy", text));
    let mut places = BTreeSet::new();
    for number in 0..12 {
        let text = format!("conversation {number}");
        let first = ask(&text);
        let place = said(&first);
        places.insert(place.clone());
        let mut later = chat("polder-toy", &text);
        let more = [json!({"role": "assistant", "content": "yes"}), json!({"role": "user", "content": "and then?"})];
        later["messages"].as_array_mut().unwrap().extend(more);
        assert_eq!(said(&world.bank.post(CHAT, &later)), place, "{text}");
        let decision = world.decision(&first);
        for verdict in decision["verdicts"].as_array().unwrap() {
            let admitted = verdict["causes"].as_array().unwrap().is_empty();
            let away = verdict["inputs"]["affinity_ppm"].as_u64().unwrap_or(0);
            assert_eq!(away, if admitted && verdict["factory"] != place.as_str() { 500_000 } else { 0 }, "{verdict}");
            assert!(admitted || verdict["score"] == 0, "nobody is weighed who is refused: {verdict}");
        }
    }
    assert_eq!(places.len(), 2, "twelve conversations fall on both");
    let why = world.demo.polder(&["why", "last", "--tenant", "bank"]);
    assert!(why.stdout.contains("affinity ") && why.stdout.contains("price "), "{}", why.stdout);
    let told = world.demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]);
    assert_eq!((told.code, told.json()["verified"].as_bool()), (0, Some(true)), "{told:?}");
    // Dead, the place of a conversation is another's, and nothing is said of it in clear.
    world.munich.now(Mode::Status(500));
    assert!((0..6).all(|number| said(&ask(&format!("conversation {number}"))) == "paris"));
    world.end();
}
