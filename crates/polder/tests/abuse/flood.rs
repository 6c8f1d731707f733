//! Everything at once: ten thousand silent connections, a thousand that dribble and a thousand that do not read, from many
//! addresses and two processes, while good requests are answered.

use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Front, KEY, chat};
use crate::support::process;
use crowd::{DEAF, DRIBBLING, SILENT};

/// The crowd itself, which the benchmark lets loose too.
#[path = "../../../../xtask/src/load/crowd.rs"]
mod crowd;

const ADDRESS: &str = "POLDER_ABUSE_ADDRESS";
/// How long good requests are sent beside it, in seconds, where the environment does not say otherwise.
const SECONDS: u64 = 10;
const SECONDS_NAME: &str = "POLDER_FLOOD_SECONDS";
const MEMORY_MAX: u64 = 1 << 30;

/// One process's half of the flood, as long as the runtime is there.
fn flood(runtime: &tokio::runtime::Runtime, address: SocketAddr, process: u8) -> Arc<crowd::Open> {
    let endless = chat("forever", true).to_string();
    crowd::gather(runtime.handle(), crowd::Target { address, process, key: KEY.to_owned(), endless })
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
    // The other node is left alone: what the machine does to everybody is no harm of the flood's.
    let (front, alone) = (Front::start(""), Front::start(""));
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
    let (begun, mut times, mut times_alone, mut most) = (Instant::now(), Vec::new(), Vec::new(), (0, 0));
    while begun.elapsed() < beside {
        for (front, times) in [(&front, &mut times), (&alone, &mut times_alone)] {
            let asked = Instant::now();
            front.is_well();
            times.push(asked.elapsed());
        }
        let now = memory(front.running.pid());
        most = (now.0.max(most.0), now.1.max(most.1));
        std::thread::sleep(Duration::from_millis(20));
    }
    // Dribblers are let go and come again, so a few are always on their way.
    let (now, all) = (open.all().iter().sum::<usize>(), SILENT + DRIBBLING + DEAF);
    assert!(now * 10 >= all * 9, "{:?} at the end", open.all());
    let of = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        (times[times.len() / 2], times[times.len() - 1])
    };
    let ((half, slowest), (half_alone, slowest_alone)) = (of(&mut times), of(&mut times_alone));
    println!(
        "{} good requests, median {half:?}, slowest {slowest:?}; at a node left alone {half_alone:?} and {slowest_alone:?}; at most {} MiB resident and {} MiB in sockets; {ready:?}",
        times.len(),
        most.0 >> 20,
        most.1 >> 20
    );
    assert!(half < half_alone * 5 + Duration::from_millis(20), "{half:?}, and {half_alone:?} where no flood is");
    assert!(
        slowest < slowest_alone * 5 + Duration::from_secs(3),
        "{slowest:?}, and {slowest_alone:?} where no flood is"
    );
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
    alone.running.end();
}
