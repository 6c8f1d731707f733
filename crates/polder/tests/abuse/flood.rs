//! Everything at once: ten thousand silent connections, a thousand that dribble and a thousand that do not read, from many
//! addresses and two processes, while good requests are answered.

use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::{CHAT, Front, KEY, chat};
use crate::support::process;

/// Half of it: each of the two processes does as much.
const SILENT: usize = 5000;
const DRIBBLING: usize = 500;
const DEAF: usize = 500;
/// Connections from one address.
const OF_ONE_ADDRESS: usize = 50;
const ADDRESS: &str = "POLDER_ABUSE_ADDRESS";
/// How long good requests are sent beside it, in seconds, where the environment does not say otherwise.
const SECONDS: u64 = 10;
const SECONDS_NAME: &str = "POLDER_FLOOD_SECONDS";
const MEMORY_MAX: u64 = 1 << 30;

/// What is open now.
#[derive(Default)]
struct Open {
    silent: AtomicUsize,
    dribbling: AtomicUsize,
    deaf: AtomicUsize,
}

impl Open {
    fn all(&self) -> [usize; 3] {
        [&self.silent, &self.dribbling, &self.deaf].map(|count| count.load(Ordering::SeqCst))
    }

    /// As many as were meant, but for those that were sent away and are about to come again.
    fn complete(&self) -> bool {
        let [silent, dribbling, deaf] = self.all();
        silent >= SILENT * 98 / 100 && dribbling >= DRIBBLING * 9 / 10 && deaf >= DEAF * 98 / 100
    }
}

async fn connect(address: SocketAddr, process: u8, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let [_, _, high, low] = u32::try_from(number / OF_ONE_ADDRESS + 1).unwrap_or(1).to_be_bytes();
    socket.bind(SocketAddr::from(([127, process, high, low], 0)))?;
    socket.connect(address).await
}

/// Counted as long as it is there.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Says nothing for as long as it may, and comes again.
async fn silent(address: SocketAddr, process: u8, number: usize, open: &AtomicUsize) {
    loop {
        if let Ok(mut stream) = connect(address, process, number).await {
            let _counted = Counted::new(open);
            drop(stream.read(&mut [0]).await);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a byte a second, of its head or of its body, and comes again.
async fn dribble(address: SocketAddr, process: u8, number: usize, open: &AtomicUsize) {
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n");
    let body = format!("{head}content-length: 10000\r\n\r\n");
    loop {
        if let Ok(mut stream) = connect(address, process, number).await {
            let _counted = Counted::new(open);
            let begun = if number.is_multiple_of(2) { head.as_bytes() } else { body.as_bytes() };
            let (mut sent, mut byte) = (stream.write_all(begun).await, [0]);
            while sent.is_ok() {
                sent = tokio::select! {
                    _ = stream.read(&mut byte) => break,
                    () = tokio::time::sleep(Duration::from_secs(1)) => stream.write_all(b"x").await,
                };
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks for an answer without end and reads a byte a second of it.
async fn deaf(address: SocketAddr, process: u8, number: usize, open: &AtomicUsize) {
    let body = chat("forever", true).to_string();
    let length = body.len();
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    loop {
        if let Ok(mut stream) = connect(address, process, number).await {
            let _counted = Counted::new(open);
            if stream.write_all(request.as_bytes()).await.is_ok() {
                while let Ok(1..) = stream.read(&mut [0]).await {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One process's half of the flood, as long as the runtime is there.
fn flood(runtime: &tokio::runtime::Runtime, address: SocketAddr, process: u8) -> Arc<Open> {
    let open = Arc::new(Open::default());
    let of_kind = |first: usize, count: usize, kind: u8| {
        let open = Arc::clone(&open);
        runtime.spawn(async move {
            for number in first..first + count {
                let open = Arc::clone(&open);
                tokio::spawn(async move {
                    match kind {
                        0 => silent(address, process, number, &open.silent).await,
                        1 => dribble(address, process, number, &open.dribbling).await,
                        _ => deaf(address, process, number, &open.deaf).await,
                    }
                });
                if number % 100 == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
    };
    of_kind(0, SILENT, 0);
    of_kind(SILENT, DRIBBLING, 1);
    of_kind(SILENT + DRIBBLING, DEAF, 2);
    open
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The second client: this program once more, told by the environment whom to flood. Says when its half is open, and how it
/// stands when its input ends.
#[test]
#[ignore = "the second process of the flood, which starts it"]
fn second_client() {
    let address: SocketAddr = std::env::var(ADDRESS).expect("started by the flood").parse().unwrap();
    let runtime = runtime();
    let open = flood(&runtime, address, 2);
    let begun = Instant::now();
    while !open.complete() && begun.elapsed() < Duration::from_secs(40) {
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("open {:?}", open.all());
    std::io::stdout().flush().unwrap();
    drop(std::io::stdin().lock().read_line(&mut String::new()));
    assert!(open.complete(), "{:?}", open.all());
    runtime.shutdown_background();
}

/// Resident memory of a process, and what all TCP sockets of this machine hold.
fn memory(pid: u32) -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP: ")).unwrap();
    let pages: u64 = tcp.split(' ').skip_while(|word| *word != "mem").nth(1).unwrap().parse().unwrap();
    (process::resident_bytes(pid), pages * 4096)
}

#[test]
fn good_requests_are_answered_in_the_middle_of_a_flood() {
    let front = Front::start("");
    let address = front.endpoint.address.parse().unwrap();
    let mut second = Command::new(std::env::current_exe().unwrap());
    second.args(["--exact", "abuse::flood::second_client", "--ignored", "--nocapture"]);
    let mut second =
        second.env(ADDRESS, &front.endpoint.address).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let said = std::io::BufReader::new(second.stdout.take().unwrap());
    let runtime = runtime();
    let open = flood(&runtime, address, 1);
    // Kept to the end: the other process writes to it once more.
    let mut said = said.lines().map_while(Result::ok);
    let ready = said.find(|line| line.contains("open ["));
    assert!(ready.is_some(), "the second client ended");
    let begun = Instant::now();
    while !open.complete() {
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", open.all());
        std::thread::sleep(Duration::from_millis(20));
    }
    let seconds = std::env::var(SECONDS_NAME).ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let beside = Duration::from_secs(seconds);
    let (begun, mut times, mut most) = (Instant::now(), Vec::new(), (0, 0));
    while begun.elapsed() < beside {
        let asked = Instant::now();
        front.is_well();
        times.push(asked.elapsed());
        let now = memory(front.running.pid());
        most = (now.0.max(most.0), now.1.max(most.1));
        std::thread::sleep(Duration::from_millis(20));
    }
    // Dribblers are let go and come again, so a few are always on their way.
    let (now, all) = (open.all().iter().sum::<usize>(), SILENT + DRIBBLING + DEAF);
    assert!(now * 10 >= all * 9, "{:?} at the end", open.all());
    times.sort_unstable();
    let (half, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{} good requests, median {half:?}, slowest {slowest:?}; at most {} MiB resident and {} MiB in sockets; {ready:?}",
        times.len(),
        most.0 >> 20,
        most.1 >> 20
    );
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    assert!(most.0 + most.1 < MEMORY_MAX, "{most:?}");
    drop(second.stdin.take());
    let ended = process::wait(&mut second, Duration::from_secs(30));
    assert!(
        ended.is_some_and(|status| status.success()),
        "the second client: {ended:?} {:?}",
        said.collect::<Vec<_>>()
    );
    runtime.shutdown_background();
    // Everyone who asked for an answer without end is gone, and so are their answers.
    front.engine.until("the end of every answer", |engine| engine.left(), 2 * DEAF);
    front.is_well();
    front.running.end();
}
