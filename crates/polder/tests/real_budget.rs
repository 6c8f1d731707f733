//! Keys, budgets, limits and repeats against a running node: what is spent, what is refused, and what is never run twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::counting::{CountingEngine, MODEL};
use support::http::{Endpoint, Reply};
use support::node::Running;
use support::{Ended, Folder, polder, process, run, until};

const CHAT: &str = "/v1/chat/completions";

/// A node in front of a counting engine, at a price of one micro-euro a token.
struct World {
    running: Option<Running>,
    engine: CountingEngine,
    folder: Folder,
    listen: String,
    configured: String,
}

impl World {
    fn start() -> Self {
        let (engine, folder) = (CountingEngine::start(), Folder::new());
        let listen = free_address();
        let arguments = ["up", "--upstream", &engine.url, "--listen", &listen, "--state", "front"];
        Running::start(folder.path(), &arguments).end();
        let config = folder.path().join("front/node.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace("price_microeur_per_mtok = 0", "price_microeur_per_mtok = 1000000");
        let text = text.replace("places = 64", "places = 1024\nqueue = 4096");
        assert!(text.contains("price_microeur_per_mtok = 1000000") && text.contains("places = 1024"), "{text}");
        std::fs::write(&config, text).unwrap();
        let configured = std::fs::read_to_string(folder.path().join("front/key")).unwrap().trim().to_owned();
        let mut world = Self { running: None, engine, folder, listen, configured };
        world.run();
        world
    }

    fn run(&mut self) {
        self.running = Some(Running::start(self.folder.path(), &["up", "--config", "front/node.toml"]));
    }

    fn polder(&self, arguments: &[&str]) -> Ended {
        let mut command = polder(self.folder.path());
        run(command.args(arguments).args(["--socket", "front/state/api.sock"]))
    }

    fn told(&self, arguments: &[&str]) -> Value {
        let ended = self.polder(&[arguments, &["-o", "json"]].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.json()
    }

    /// A new key: its id, and where it speaks.
    fn key(&self, limits: &[&str]) -> (String, Endpoint) {
        let made = self.told(&[&["key", "create", "--project", "default"], limits].concat());
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("id"), self.with(&text("key")))
    }

    fn with(&self, key: &str) -> Endpoint {
        Endpoint::new(&format!("http://{}/v1", self.listen), key)
    }

    /// How an account stands: spent and left, in micro-euro.
    fn stands(&self, account: &str) -> Value {
        let accounts = self.told(&["budget", "show"])["accounts"].clone();
        let found = accounts.as_array().unwrap().iter().find(|one| one["account"] == account).cloned();
        found.unwrap_or_else(|| panic!("no `{account}` in {accounts}"))
    }

    fn end(&mut self) {
        self.running.take().unwrap().end();
    }
}

/// A free address below the ports that connections leave from: these tests open thousands, and a node comes back to its own.
fn free_address() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(61).wrapping_add(COUNT.fetch_add(97, Ordering::SeqCst));
    let mut ports = (0..12_000).map(|step| 20_000 + begin.wrapping_add(step) % 12_000);
    let free = ports.find(|port| TcpListener::bind(format!("127.0.0.1:{port}")).is_ok());
    format!("127.0.0.1:{}", free.unwrap())
}

fn chat(words: &str, max_tokens: u64) -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": words}], "max_tokens": max_tokens})
}

fn streamed(words: &str, max_tokens: Option<u64>) -> Value {
    let mut body = chat(words, 0);
    body["stream"] = true.into();
    match max_tokens {
        Some(tokens) => body["max_tokens"] = tokens.into(),
        None => drop(body.as_object_mut().unwrap().remove("max_tokens")),
    }
    body
}

/// Runs something in many threads at once.
fn at_once<T: Send + 'static>(count: usize, work: impl Fn(usize) -> T + Send + Sync + 'static) -> Vec<T> {
    let (work, barrier) = (Arc::new(work), Arc::new(Barrier::new(count)));
    let spawn = |index| {
        let (work, barrier) = (Arc::clone(&work), Arc::clone(&barrier));
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            barrier.wait();
            work(index)
        });
        thread.unwrap()
    };
    let threads: Vec<_> = (0..count).map(spawn).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn a_thousand_requests_at_once_overrun_no_budget() {
    let mut world = World::start();
    // The project's budget is enough for 150 answers, the key's for 200.
    let (id, endpoint) = world.key(&["--euro", "0.002", "--window", "total"]);
    world.told(&["budget", "set", "project/default", "--euro", "0.0015", "--window", "day"]);
    let replies = at_once(1_000, move |_| endpoint.post(CHAT, &chat("say", 10)));
    let good = replies.iter().filter(|reply| reply.status == 200).count();
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!((reply.status, reply.error().0.as_str()), (429, "insufficient_quota"), "{}", reply.text());
        assert_eq!(reply.header("x-should-retry"), Some("false"));
    }
    assert_eq!((good, world.engine.counted.asked(), world.engine.counted.tokens()), (150, 150, 1_500));
    let stands = world.stands("project/default");
    assert_eq!((&stands["spent_microeur"], &stands["left_microeur"]), (&1_500.into(), &0.into()), "{stands}");
    assert_eq!(world.stands(&format!("key/{id}"))["spent_microeur"], 1_500);
    let usage = world.told(&["budget", "usage"]);
    assert_eq!(
        (&usage["tenant"]["today"]["requests"], &usage["keys"][0]["month"]["microeur"]),
        (&150.into(), &1_500.into())
    );
    // More money, and it goes on; without a restart.
    world.told(&["budget", "set", "project/default", "--euro", "0.0016", "--window", "day"]);
    let endpoint = world.with(&world.configured);
    let reply = until("money", || Some(endpoint.post(CHAT, &chat("say", 10))).filter(|reply| reply.status == 200));
    assert_eq!(reply.json()["usage"]["completion_tokens"], 10);
    world.end();
}

#[test]
fn streams_are_stopped_when_nothing_is_left() {
    let mut world = World::start();
    let (id, endpoint) = world.key(&["--euro", "0.02", "--window", "total"]);
    let replies = at_once(24, move |_| endpoint.post(CHAT, &streamed("drip", None)));
    let (mut tokens, mut stopped) = (0, 0);
    for reply in &replies {
        if reply.status == 429 {
            assert_eq!(reply.error().0, "insufficient_quota");
            continue;
        }
        let events = reply.events();
        tokens += events.iter().filter(|event| event.contains("abc")).count();
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], "insufficient_quota", "{last}");
        stopped += 1;
    }
    assert!(stopped > 10 && tokens <= 20_000, "{stopped} stopped after {tokens} tokens");
    // The factory's receipts say what was really used, and it is no more than there was.
    let account = format!("key/{id}");
    let stands = until("the receipts", || {
        let stands = world.stands(&account);
        let spent = stands["spent_microeur"].as_u64().unwrap();
        let held = stands["held_microeur"].as_u64().unwrap();
        assert!(spent + held <= 20_000, "{stands}");
        (spent >= tokens as u64 && world.told(&["budget", "usage"])["tenant"]["today"]["requests"] == stopped)
            .then_some(stands)
    });
    assert!(stands["left_microeur"].as_u64().unwrap() > 0, "what was reserved and not used is there again: {stands}");
    until("the engine to be let go", || (world.engine.counted.left.load(Ordering::SeqCst) == stopped).then_some(()));
    world.end();
}

#[test]
fn a_crash_overruns_nothing_and_is_reconciled() {
    let mut world = World::start();
    let (id, endpoint) = world.key(&["--euro", "0.006", "--window", "total"]);
    let account = format!("key/{id}");
    let asking = |endpoint: Endpoint| {
        at_once(8, move |_| {
            let mut good = 0_u64;
            // Until the node is gone, or the money.
            while let Ok(stream) = TcpStream::connect(&endpoint.address) {
                drop(stream);
                let asked = std::panic::catch_unwind(|| endpoint.post(CHAT, &chat("wait 20", 10)).status);
                match asked {
                    Ok(200) => good += 1,
                    Ok(429) => break,
                    _ => {}
                }
            }
            good
        })
    };
    let (sender, receiver) = mpsc::channel();
    let one = endpoint.clone();
    std::thread::spawn(move || sender.send(asking(one)).unwrap());
    until("half of it", || (world.engine.counted.tokens() > 2_000).then_some(()));
    process::signal(world.running.as_ref().unwrap().pid(), Signal::KILL);
    receiver.recv().unwrap();
    drop(world.running.take());
    world.run();
    let lost = world.stands(&account);
    assert!(lost["lost_microeur"].as_u64().unwrap() > 0, "{lost}");
    asking(endpoint.clone());
    let stands = world.stands(&account);
    let (spent, gone) = (stands["spent_microeur"].as_u64().unwrap(), stands["lost_microeur"].as_u64().unwrap());
    let tokens = world.engine.counted.tokens();
    assert!(tokens <= 6_000 && tokens <= spent + gone && spent + gone <= 6_000, "{tokens} of {stands}");
    // What no record accounts for is given back when its owner says so.
    // Answers that were under way are asked after first.
    let released = until("the release", || {
        let released = world.told(&["budget", "reconcile"])["released"].clone();
        (released != json!([])).then_some(released)
    });
    assert_eq!((released.as_array().unwrap().len(), &released[0]["account"]), (1, &account.clone().into()));
    assert!(released[0]["microeur"].as_u64().unwrap() <= gone, "{released}");
    assert_eq!(world.stands(&account)["lost_microeur"], 0);
    let reply = until("its use", || Some(endpoint.post(CHAT, &chat("say", 1))).filter(|reply| reply.status == 200));
    assert_eq!(reply.json()["usage"]["completion_tokens"], 1);
    world.end();
}

#[test]
fn whoever_leaves_before_the_first_token_pays_what_the_factory_says() {
    let mut world = World::start();
    let (id, endpoint) = world.key(&["--euro", "0.01", "--window", "total"]);
    let account = format!("key/{id}");
    for body in [chat("wait 20000", 1_000), streamed("wait 20000", Some(400)), streamed("wait 20000", None)] {
        let asked = world.engine.counted.asked();
        let waiting = Open::start(&endpoint, &body);
        until("the question", || (world.engine.counted.asked() > asked).then_some(()));
        let held = world.stands(&account);
        assert!(held["left_microeur"].as_u64().unwrap() <= 10_000, "{held}");
        drop(waiting);
    }
    until("the engine to be let go", || (world.engine.counted.left.load(Ordering::SeqCst) == 3).then_some(()));
    // Nothing was generated: the factory says so, and all that was reserved is there again.
    let usage = until("the factory's word", || {
        let usage = world.told(&["budget", "usage"]);
        (usage["tenant"]["today"]["requests"] == 3).then_some(usage)
    });
    assert_eq!(usage["tenant"]["today"]["microeur"], 0, "{usage}");
    assert!(usage["tenant"]["today"]["prompt_tokens"].as_u64().unwrap() > 0, "what was read counts: {usage}");
    let whole = json!({"model": MODEL, "messages": [{"role": "user", "content": "say"}], "max_tokens": 10_000});
    let reply = until("the whole budget", || Some(endpoint.post(CHAT, &whole)).filter(|reply| reply.status == 200));
    assert_eq!(reply.json()["usage"]["completion_tokens"], 10_000);
    assert_eq!(world.stands(&account)["spent_microeur"], 10_000);
    world.end();
}

#[test]
fn rates_are_kept_and_said_in_openais_words() {
    let mut world = World::start();
    let (_, endpoint) = world.key(&["--requests-per-minute", "3"]);
    for left in ["2", "1", "0"] {
        let reply = endpoint.post(CHAT, &chat("say", 1));
        assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (200, Some(left)));
        assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("3"));
        assert!(reply.header("x-ratelimit-reset-requests").is_some_and(|reset| reset.ends_with("ms")));
        assert_eq!(reply.header("x-ratelimit-limit-tokens"), None, "what is not limited is not said");
    }
    let reply = endpoint.post(CHAT, &chat("say", 1));
    assert_eq!((reply.status, reply.error().0.as_str()), (429, "rate_limit_exceeded"), "{}", reply.text());
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("3"));
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some("0"));
    assert!(
        reply.header("x-ratelimit-reset-requests").unwrap().ends_with("ms") && reply.header("x-should-retry").is_none()
    );

    let (_, endpoint) = world.key(&["--tokens-per-minute", "100"]);
    let embed = json!({"model": MODEL, "input": "x".repeat(60)});
    let left = |reply: &Reply| -> u64 {
        assert_eq!((reply.status, reply.header("x-ratelimit-limit-tokens")), (200, Some("100")), "{}", reply.text());
        reply.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap()
    };
    assert_eq!(left(&endpoint.post("/v1/embeddings", &embed)), 96, "four tokens were read");
    assert_eq!(endpoint.post(CHAT, &chat("say", 200)).status, 429);
    assert!(left(&endpoint.post(CHAT, &streamed("say", Some(20)))) < 80);

    // What no budget pays for is counted with its price all the same.
    let free = world.with(&world.configured);
    assert_eq!(free.post(CHAT, &chat("say", 7)).status, 200);
    let keys = world.told(&["budget", "usage"])["keys"].clone();
    let counted = |one: &&Value| one["key"].as_str().unwrap().starts_with("config-");
    assert_eq!(keys.as_array().unwrap().iter().find(counted).unwrap()["today"]["microeur"], 7, "{keys}");

    let (_, endpoint) = world.key(&["--streams", "1"]);
    let mut held = Open::start(&endpoint, &streamed("hold", Some(9)));
    held.token();
    assert_eq!(endpoint.post(CHAT, &chat("say", 1)).error().0, "rate_limit_exceeded");
    drop(held);
    until("the place", || (endpoint.post(CHAT, &chat("say", 1)).status == 200).then_some(()));
    world.end();
}

/// A stream that is read line by line.
struct Open(BufReader<TcpStream>);

impl Open {
    fn start(endpoint: &Endpoint, body: &Value) -> Self {
        Self::start_with(endpoint, body, &[])
    }

    fn start_with(endpoint: &Endpoint, body: &Value, headers: &[(&str, &str)]) -> Self {
        let body = body.to_string();
        let mut bytes = endpoint.head("POST", CHAT, headers);
        bytes.extend(format!("content-length: {}\r\n\r\n{body}", body.len()).bytes());
        let mut stream = TcpStream::connect(&endpoint.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(&bytes).unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line with data in it; none at the end.
    fn data(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            if let Some(data) = line.trim_end().strip_prefix("data: ") {
                return Some(data.to_owned());
            }
        }
    }

    /// Waits for a token.
    fn token(&mut self) {
        while !self.data().expect("a token").contains("abc") {}
    }
}

#[test]
fn a_revoked_key_ends_within_a_second_and_a_rotated_one_overlaps() {
    let mut world = World::start();
    let (id, endpoint) = world.key(&[]);
    let mut held = Open::start(&endpoint, &streamed("hold", Some(9)));
    held.token();
    assert_eq!(world.polder(&["key", "revoke", &id]).code, 0);
    let begun = Instant::now();
    let ended: Value = serde_json::from_str(&held.data().unwrap()).unwrap();
    assert_eq!(ended["error"]["code"], "invalid_api_key", "{ended}");
    assert_eq!(held.data(), None);
    assert_eq!((endpoint.post(CHAT, &chat("say", 1)).status, endpoint.get("/v1/models").status), (401, 401));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    until("the engine to be let go", || (world.engine.counted.left.load(Ordering::SeqCst) == 1).then_some(()));

    let (id, first) = world.key(&["--name", "desk"]);
    let second = world.told(&["key", "rotate", &id, "--overlap-s", "3"])["key"].as_str().unwrap().to_owned();
    let second = world.with(&second);
    let rotated = Instant::now();
    assert_eq!((first.post(CHAT, &chat("say", 1)).status, second.post(CHAT, &chat("say", 1)).status), (200, 200));
    until("the end of the old one", || (first.post(CHAT, &chat("say", 1)).status == 401).then_some(()));
    assert!(rotated.elapsed() >= Duration::from_secs(2), "{:?}", rotated.elapsed());
    assert_eq!(second.post(CHAT, &chat("say", 1)).status, 200);
    let listed = world.polder(&["key", "list"]);
    assert!(
        listed.stdout.contains("desk") && listed.stdout.contains("revoked") && listed.stdout.contains("configured")
    );
    // The secret may hold the character that stands before it.
    let secret = second.key.strip_prefix("sk-polder-").unwrap().split_once('-').unwrap().1;
    assert!(secret.len() == 43 && !listed.stdout.contains(secret));
    // After a restart what was revoked stays so.
    world.end();
    world.run();
    assert_eq!((first.post(CHAT, &chat("say", 1)).status, second.post(CHAT, &chat("say", 1)).status), (401, 200));
    world.end();
}

#[test]
fn keys_cannot_be_guessed_at_leisure() {
    let mut world = World::start();
    let (id, good) = world.key(&[]);
    assert_eq!(good.get("/v1/models").status, 200);
    // An application's key is no owner's token.
    for path in ["/api/v1/keys", "/api/v1/budgets", "/api/v1/usage"] {
        assert_eq!(good.get(path).status, 403, "{path}");
    }
    assert_eq!(good.post("/api/v1/keys", &json!({"project": "default"})).status, 403);
    assert_eq!(good.post(&format!("/api/v1/keys/{id}/rotate"), &json!({})).status, 403);
    assert_eq!(good.call("DELETE", &format!("/api/v1/keys/{id}"), &[], b"").status, 403);
    let wrong = |key: String| world.with(&key).get("/v1/models");
    let guesses =
        [format!("sk-polder-{id}-{}", "a".repeat(43)), format!("sk-polder-{}-{}", "0".repeat(16), "a".repeat(43))];
    let said: Vec<Reply> = guesses.map(wrong).into();
    assert_eq!((said[0].status, said[0].text()), (401, said[1].text()), "nobody is told which ids there are");
    let mut replies: Vec<Reply> = (0..40).map(|guess| wrong(format!("guess-{guess}"))).collect();
    let last = replies.pop().unwrap();
    assert_eq!((last.status, last.error().0.as_str()), (429, "rate_limit_exceeded"));
    assert!(last.header("retry-after").is_some());
    let let_through = replies.iter().filter(|reply| reply.status == 401).count();
    assert!((25..=29).contains(&let_through), "{let_through}");
    // The operators' surface counts the same guesses, and who was here before is not locked out.
    assert_eq!(world.with("guess").get("/api/v1/status").status, 429);
    assert_eq!(good.get("/v1/models").status, 200);
    world.end();
}

fn named(endpoint: &Endpoint, name: &str, body: &Value) -> Reply {
    endpoint.call(
        "POST",
        CHAT,
        &[("content-type", "application/json"), ("idempotency-key", name)],
        body.to_string().as_bytes(),
    )
}

fn retried(endpoint: &Endpoint, count: &str, body: &Value) -> Reply {
    let headers = [("content-type", "application/json"), ("x-stainless-retry-count", count)];
    endpoint.call("POST", CHAT, &headers, body.to_string().as_bytes())
}

#[test]
fn an_idempotency_key_runs_once() {
    let mut world = World::start();
    let (_, endpoint) = world.key(&["--euro", "1"]);
    let asked = || world.engine.counted.asked();
    let one = endpoint.clone();
    let replies = at_once(20, move |_| named(&one, "order-1", &chat("wait 300", 5)));
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.text() == replies[0].text()), "{replies:?}");
    assert_eq!((asked(), replies.iter().filter(|one| one.header("idempotency-replayed").is_none()).count()), (1, 1));
    assert_eq!(named(&endpoint, "order-1", &chat("wait 300", 5)).text(), replies[0].text());
    let other = named(&endpoint, "order-1", &chat("wait 300", 6));
    assert_eq!((other.status, other.error().0.as_str()), (422, "idempotency_key_reused"));
    // Whoever leaves: the run goes on, and its answer waits.
    drop(Open::start_with(&endpoint, &chat("wait 400", 5), &[("idempotency-key", "order-2")]));
    assert_eq!(named(&endpoint, "order-2", &chat("wait 400", 5)).status, 200);
    assert_eq!(asked(), 2);
    // A stream is heard again from its beginning, also while it still runs.
    let mut first = Open::start_with(&endpoint, &streamed("drip", Some(100)), &[("idempotency-key", "order-3")]);
    first.token();
    let again = named(&endpoint, "order-3", &streamed("drip", Some(100)));
    assert_eq!(again.events().iter().filter(|event| event.contains("abc")).count(), 100, "{}", again.text());
    assert_eq!((again.header("idempotency-replayed"), asked()), (Some("true"), 3));
    // What failed may be tried again under the same key.
    world.engine.counted.failing.store(1, Ordering::SeqCst);
    assert_ne!(named(&endpoint, "order-4", &chat("say", 5)).status, 200);
    let again =
        until("another try", || Some(named(&endpoint, "order-4", &chat("say", 5))).filter(|one| one.status == 200));
    assert_eq!(again.json()["usage"]["completion_tokens"], 5);
    assert_eq!(named(&endpoint, &"x".repeat(256), &chat("say", 5)).status, 400);
    let usage = world.told(&["budget", "usage"])["tenant"]["today"].clone();
    assert_eq!(usage["completion_tokens"], 5 + 5 + 100 + 5, "{usage}");
    world.end();
}

#[test]
fn an_sdks_retry_gets_the_answer_that_was_lost() {
    let mut world = World::start();
    let (_, endpoint) = world.key(&["--euro", "1"]);
    let asked = || world.engine.counted.asked();
    // The first attempt's connection is lost while it runs.
    let lost = Open::start_with(&endpoint, &chat("wait 700", 5), &[("x-stainless-retry-count", "0")]);
    until("the first attempt", || (asked() == 1).then_some(()));
    drop(lost);
    std::thread::sleep(Duration::from_millis(300));
    let reply = retried(&endpoint, "1", &chat("wait 700", 5));
    assert_eq!((reply.status, asked()), (200, 1), "{}", reply.text());
    // Its answer is lost after it was sent.
    assert_eq!(retried(&endpoint, "0", &chat("say", 6)).status, 200);
    assert_eq!((retried(&endpoint, "1", &chat("say", 6)).status, asked()), (200, 2));
    // Two requests that are the same are two, and one answer stands for one retry.
    assert_eq!((retried(&endpoint, "0", &chat("say", 6)).status, asked()), (200, 3));
    assert_eq!(
        (retried(&endpoint, "2", &chat("say", 6)).status, retried(&endpoint, "2", &chat("say", 6)).status),
        (200, 200)
    );
    assert_eq!(asked(), 4);
    // An error was told, so a retry runs.
    world.engine.counted.failing.store(1, Ordering::SeqCst);
    assert_ne!(retried(&endpoint, "0", &chat("say", 7)).status, 200);
    until("the engine", || (retried(&endpoint, "1", &chat("say", 7)).status == 200).then_some(()));
    // Nobody comes back: the engine hears of it within a second.
    let left = world.engine.counted.left.load(Ordering::SeqCst);
    let before = asked();
    let mut endless = chat("hold", 0);
    endless.as_object_mut().unwrap().remove("max_tokens");
    let gone = Open::start_with(&endpoint, &endless, &[("x-stainless-retry-count", "0")]);
    until("the last", || (asked() > before).then_some(()));
    let since = Instant::now();
    drop(gone);
    until("the cancel", || (world.engine.counted.left.load(Ordering::SeqCst) > left).then_some(()));
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    world.end();
}
