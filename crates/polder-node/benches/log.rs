//! What the log costs: durable leaves while tiles are served, a request's share, proofs, and growth to a hundred million leaves.
//!
//! Prints one JSON object a line; `cargo xtask bench log` reads them. Everything runs on real files and a real database in a folder
//! of its own, over loopback where it is served, with the allocator that ships. `POLDER_BENCH_LEAVES` makes the largest log smaller.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use polder_core::canonical::Digest;
use polder_core::ids::{DecisionId, NodeId};
use polder_core::keys::Role;
use polder_core::merkle::{leaf_hash, root_from_inclusion};
use polder_core::tiles::{self, Edge, Place, TileError, tile_bytes};
use polder_node::keys::NodeKeys;
use polder_node::log::{Archive, Log, Signing, router};
use polder_node::store::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LEAVES: u64 = 300_000;
const STATEMENT_BYTES: usize = 500;
const WRITERS: u64 = 4;
const PROOFS: u64 = 20_000;
/// Requests a second, and for how long, when a request's share is measured; each hands over two leaves, of home and factory.
const PACES: [u64; 2] = [1_000, 5_000];
const PACED_SECONDS: u64 = 5;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn row(name: &str, value: f64, unit: &str) {
    println!("{{\"name\": \"{name}\", \"value\": {value:.3}, \"unit\": \"{unit}\"}}");
}

/// Processor time of this process so far, threads that have ended included.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    // In user mode and in the system's, in hundredths of a second.
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|number| number.parse::<u64>().unwrap());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1000.0
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

async fn open(folder: &Path) -> (Log, Store) {
    let keys = NodeKeys::open_or_create(&folder.join("keys"), &NodeId::parse("bench").unwrap()).unwrap();
    let key: SigningKey = keys.key(Role::Log).unwrap().clone();
    let store = Store::open(&folder.join("node.db")).await.unwrap();
    let archive = Archive::folder(&folder.join("log")).unwrap();
    let signing = Signing::of(key, Arc::new(keys.card.clone()));
    let log = Log::open_in(Some(archive), store.clone(), signing, &[]).await.unwrap();
    log.count(None);
    (log, store)
}

/// A statement of 500 bytes that compresses as a decision does: mostly the same, with two digests.
fn statement(number: u64) -> Vec<u8> {
    let varied = Digest(leaf_hash(&number.to_be_bytes()).0).to_hex();
    let mut text =
        format!("{{\"body\":\"{varied}\",\"number\":{number},\"ticket\":\"{}\"", leaf_hash(varied.as_bytes()));
    text.push_str(&"x".repeat(STATEMENT_BYTES - text.len() - 1));
    text.push('}');
    text.into_bytes()
}

fn decision(number: u64) -> DecisionId {
    let mut digits = [0; 10];
    digits[2..].copy_from_slice(&number.to_be_bytes());
    DecisionId::at(1_800_000_000_000 + number / 50, digits)
}

/// Hands over two statements for each request at a steady pace, to a log or to nobody; the processor time of each request.
async fn paced(log: Option<&Log>, per_s: u64) -> Duration {
    let (begun, used, mut done) = (Instant::now(), cpu(), 0);
    let mut last = None;
    while done < per_s * PACED_SECONDS {
        let due = (begun.elapsed().as_micros() as u64 * per_s / 1_000_000).min(per_s * PACED_SECONDS);
        for number in done * 2..due * 2 {
            let (id, bytes) = (decision(number), std::hint::black_box(statement(number)));
            if let Some(log) = log {
                last = Some(log.append_decision(id.as_str(), bytes, Arc::default()).await.unwrap());
            }
        }
        done = due;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    if let Some(last) = last {
        last.covered().await.unwrap();
    }
    (cpu() - used) / u32::try_from(done).unwrap()
}

/// What a request pays for its leaves: the same loop with the log and without it.
async fn share(folder: &Path) {
    for per_s in PACES {
        let (log, store) = open(&folder.join(per_s.to_string())).await;
        let without = paced(None, per_s).await;
        let with = paced(Some(&log), per_s).await;
        let each = with.saturating_sub(without).as_secs_f64() * 1e6;
        row(&format!("the log's share of a request, two leaves, {per_s} requests/s"), each, "us");
        log.close().await;
        store.close().await;
    }
}

/// Reads tiles over HTTP until it is told to stop; how many were read.
async fn read_tiles(address: std::net::SocketAddr, log: Log, stop: Arc<AtomicBool>) -> u64 {
    let (mut count, mut stream) = (0, tokio::net::TcpStream::connect(address).await.unwrap());
    let mut buffer = vec![0; 64 << 10];
    while !stop.load(Ordering::Acquire) {
        let full = log.published().edge.size() / 256;
        if full == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let path = Place::tile(0, count * 7919 % full).path();
        let request = format!("GET /log/{path} HTTP/1.1\r\nhost: log\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut read, mut wanted) = (0, usize::MAX);
        while read < wanted {
            let more = stream.read(&mut buffer[read..]).await.unwrap();
            assert!(more > 0);
            read += more;
            if wanted == usize::MAX
                && let Some(end) = buffer[..read].windows(4).position(|four| four == b"\r\n\r\n")
            {
                assert!(buffer.starts_with(b"HTTP/1.1 200"));
                wanted = end + 4 + tiles::TILE_BYTES;
            }
        }
        count += 1;
        // A reader, not a flood: about a thousand tiles a second.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    count
}

async fn leaves(folder: &Path) {
    let (log, store) = open(folder).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, router(log.clone())).into_future());
    let stop = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(read_tiles(address, log.clone(), Arc::clone(&stop)));
    // Whoever decides has the bytes already: making them is not the log's work.
    let mut ready: Vec<_> = (0..WRITERS).map(|_| Vec::new()).collect();
    (0..LEAVES).for_each(|number| ready[(number % WRITERS) as usize].push((number, statement(number))));
    let (begun, used) = (Instant::now(), cpu());
    let writers: Vec<_> = ready
        .into_iter()
        .map(|ready| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut last = None;
                for (number, statement) in ready {
                    let id = decision(number);
                    last = Some(log.append_decision(id.as_str(), statement, Arc::default()).await.unwrap());
                }
                last
            })
        })
        .collect();
    for writer in writers {
        if let Some(last) = writer.await.unwrap() {
            last.covered().await.unwrap();
        }
    }
    let (wall, spent) = (begun.elapsed(), cpu() - used);
    let behind = Instant::now();
    while log.published().edge.size() < LEAVES {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let behind = behind.elapsed();
    stop.store(true, Ordering::Release);
    let read = reader.await.unwrap();
    server.abort();
    row("durable leaves of 500 bytes, tiles served meanwhile, per s", LEAVES as f64 / wall.as_secs_f64(), "leaves/s");
    row("the same, per s and core", LEAVES as f64 / spent.as_secs_f64(), "leaves/s");
    row("tiles served meanwhile", read as f64 / wall.as_secs_f64(), "tiles/s");
    row("the last leaf on disk until it is published", behind.as_secs_f64() * 1000.0, "ms");
    let bytes = std::fs::metadata(folder.join("node.db")).unwrap().len();
    row("database, per leaf", bytes as f64 / LEAVES as f64, "bytes");
    proofs(&log, &store).await;
    log.close().await;
    store.close().await;
    let begun = Instant::now();
    let (log, store) = open(folder).await;
    row("start on 300,000 leaves", begun.elapsed().as_secs_f64() * 1000.0, "ms");
    log.close().await;
    store.close().await;
}

async fn proofs(log: &Log, store: &Store) {
    let published = log.published();
    let size = published.edge.size();
    let commitments = store.commitments(0, size).await.unwrap();
    let (begun, mut made) = (Instant::now(), Vec::new());
    for number in 0..PROOFS {
        // Neighbours are asked for together, as an auditor does; each 64th jumps.
        let index = (number / 64 * 7919 + number % 64) % size;
        made.push((index, log.path_in(index, &published).await.unwrap()));
    }
    row("proofs made from tiles", PROOFS as f64 / begun.elapsed().as_secs_f64(), "proofs/s");
    let begun = Instant::now();
    for (index, path) in &made {
        let leaf = leaf_hash(&commitments[usize::try_from(*index).unwrap()].0);
        assert_eq!(root_from_inclusion(&leaf, *index, size, path), Some(published.root));
    }
    row("proofs verified", PROOFS as f64 / begun.elapsed().as_secs_f64(), "proofs/s");
}

fn bytes_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.map(|one| if one.path().is_dir() { bytes_of(&one.path()) } else { one.metadata().unwrap().len() }).sum()
}

/// What a leaf more costs the tree, with the root after each batch of 256.
fn appended_to(edge: &mut Edge, says: &str) {
    let (begun, count) = (Instant::now(), 256 * 256);
    for number in 0..count {
        edge.push(leaf_hash(&u64::to_be_bytes(number)), &mut |_, tile| drop(std::hint::black_box(tile)));
        if number % 256 == 0 {
            std::hint::black_box(edge.root());
        }
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / count as f64;
    row(&format!("{says}: one leaf more, in the tree"), each, "us");
}

/// Grows a log of so many leaves without entries, its tiles on disk, and proves some of them from the files.
async fn growth(folder: &Path, size: u64, says: &str) {
    let archive = Archive::folder(folder).unwrap();
    let (mut edge, begun) = (Edge::default(), Instant::now());
    let mut full = Vec::new();
    while edge.size() < size {
        for _ in 0..(256 * 64).min(size - edge.size()) {
            let leaf = leaf_hash(&edge.size().to_be_bytes());
            edge.push(leaf, &mut |place, tile| full.push((place.path(), tile_bytes(tile.leaves()))));
        }
        archive.put_all(std::mem::take(&mut full)).await.unwrap();
    }
    row(&format!("{says}: leaves hashed and laid in tiles"), size as f64 / begun.elapsed().as_secs_f64(), "leaves/s");
    row(&format!("{says}: memory of the process"), resident_mb(), "MB");
    row(&format!("{says}: tiles on disk, without entries"), bytes_of(folder) as f64 / size as f64, "bytes");
    appended_to(&mut edge.clone(), says);
    let (root, begun, count) = (edge.root(), Instant::now(), 200);
    for number in 0..count {
        let index = number * 982_451_653 % size;
        let mut held = std::collections::BTreeMap::new();
        for place in tiles::tiles_of_inclusion(index, size) {
            let tile = match edge.tile(place) {
                Some(tile) => tile.clone(),
                None => tiles::parse_tile(place, &archive.get(&place.path()).await.unwrap().unwrap()).unwrap(),
            };
            held.insert(place, tile);
        }
        let fetch = &mut |place| held.get(&place).ok_or(TileError::Short(place));
        let path = tiles::inclusion(index, size, fetch).unwrap().unwrap();
        assert_eq!(root_from_inclusion(&leaf_hash(&index.to_be_bytes()), index, size, &path), Some(root));
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / count as f64;
    row(&format!("{says}: a proof of any leaf, from tiles on disk, checked"), each, "us");
}

fn main() {
    let folder = Folder(std::env::temp_dir().join(format!("polder-bench-log-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        leaves(&folder.0.join("leaves")).await;
        share(&folder.0).await;
        growth(&folder.0.join("small"), 1_000_000, "1 M leaves").await;
        let largest = std::env::var("POLDER_BENCH_LEAVES").ok().and_then(|text| text.parse().ok());
        let (size, says) =
            largest.map_or((100_000_000, "100 M leaves".to_owned()), |size| (size, format!("{size} leaves")));
        growth(&folder.0.join("large"), size, &says).await;
    });
}
