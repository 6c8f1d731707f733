//! Tests of the peers' surface against abuse, over real sockets and TLS: also whoever holds a pinned key is held to limits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ed25519_dalek::SigningKey;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::config::raw;
use crate::peers::tls::{self, Pins};
use crate::shutdown;

const SETTINGS: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// `:method GET`, `:scheme http`, `:path /`, `:authority x`.
const GET: &[u8] = b"\x82\x86\x84\x01\x01x";
const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

struct Site {
    address: SocketAddr,
    ours: SigningKey,
    theirs: [u8; 32],
    asked: Arc<AtomicUsize>,
    doors: Arc<ArcSwap<Doors>>,
    changed: watch::Sender<u64>,
    _stop: shutdown::Stop,
}

/// A peers' port with one route, and the key of the one home that it knows.
async fn site() -> Site {
    let (ours, theirs) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let pins = Pins::from([(ours.verifying_key().to_bytes(), NodeId::parse("home").unwrap())]);
    let doors = Arc::new(ArcSwap::from_pointee(Doors { pins, ..Doors::default() }));
    let config = tls::server_config(tls::OwnKey::new(&theirs).unwrap(), Arc::clone(&doors)).unwrap();
    let (changed, changes) = watch::channel(0);
    let callers = Callers { doors: Arc::clone(&doors), changes, reached: Arc::default() };
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let route = get(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { "well\n" }
    });
    let limits = raw::Serve { connections_per_address_max: Some(20), ..raw::Serve::default() };
    let limits = limits.check(&|message| panic!("{message}")).unwrap();
    let listener = serve::bind("127.0.0.1:0".parse().unwrap(), "peer_listen", false).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, signal) = shutdown::channel();
    let (router, workers) = (Router::new().route("/", route), Arc::new(Workers::start(1).unwrap()));
    let surfaces = Surfaces { members: router, guests: Router::new() };
    tokio::spawn(serve(listener, config, callers, surfaces, limits, workers, signal));
    Site { address, ours, theirs: theirs.verifying_key().to_bytes(), asked, doors, changed, _stop: stop }
}

impl Site {
    async fn connect(&self, key: &SigningKey) -> std::io::Result<TlsStream<TcpStream>> {
        let config = tls::client_config(key, &NodeId::parse("factory").unwrap(), &[self.theirs]).unwrap();
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(config).connect(ServerName::try_from("polder.invalid").unwrap(), tcp).await
    }

    /// A connection over which HTTP/2 has begun.
    async fn begin(&self) -> TlsStream<TcpStream> {
        let mut stream = self.connect(&self.ours).await.unwrap();
        stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS].concat()).await.unwrap();
        stream
    }

    /// That a peer that means well is answered.
    async fn is_well(&self) {
        let mut stream = self.begin().await;
        stream.write_all(&frame(1, 5, 1, GET)).await.unwrap();
        let frames = frames_until(&mut stream, |frame| frame.kind == 0).await;
        assert_eq!(frames.last().unwrap().payload, b"well\n");
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[derive(Debug)]
struct Seen {
    kind: u8,
    payload: Vec<u8>,
}

impl Seen {
    /// The error of RST_STREAM or GOAWAY.
    fn error(&self) -> Option<u32> {
        let code = match self.kind {
            3 => self.payload.get(..4)?,
            7 => self.payload.get(4..8)?,
            _ => return None,
        };
        Some(u32::from_be_bytes(code.try_into().ok()?))
    }
}

/// The frames that come, until one of a kind or the end.
async fn frames_until(stream: &mut TlsStream<TcpStream>, last: impl Fn(&Seen) -> bool) -> Vec<Seen> {
    let read = async {
        let mut frames: Vec<Seen> = Vec::new();
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
            if stream.read_exact(&mut payload).await.is_err() {
                break;
            }
            frames.push(Seen { kind: head[3], payload });
            if frames.last().is_some_and(&last) {
                break;
            }
        }
        frames
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap()
}

/// What the other side says in the end of a flood, however much of it was taken.
async fn flooded(site: &Site, flood: Vec<u8>) -> (Option<u32>, usize) {
    let stream = site.begin().await;
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        for piece in flood.chunks(4096) {
            if write.write_all(piece).await.is_err() {
                break;
            }
            sent += piece.len();
        }
        sent
    });
    let mut bytes = Vec::new();
    // A connection that is reset in the middle is an end as good as any.
    drop(tokio::time::timeout(Duration::from_secs(20), read.read_to_end(&mut bytes)).await.unwrap());
    let (mut rest, mut error) = (&bytes[..], None);
    while let Some((head, more)) = rest.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, more)) = more.split_at_checked(length) else { break };
        error = Seen { kind: head[3], payload: payload.to_vec() }.error().or(error);
        rest = more;
    }
    (error, sending.await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_in_upper_case_are_refused() {
    let site = site().await;
    site.is_well().await;
    let mut stream = site.begin().await;
    stream.write_all(&frame(1, 5, 1, &[GET, b"\x00\x01X\x01y"].concat())).await.unwrap();
    let frames = frames_until(&mut stream, |frame| frame.error().is_some()).await;
    assert_eq!(frames.last().and_then(Seen::error), Some(PROTOCOL_ERROR), "{frames:?}");
    assert_eq!(site.asked.load(Ordering::SeqCst), 1);
    site.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_end_the_connection() {
    let site = site().await;
    let pair = |id: u32| [frame(1, 5, id, GET), frame(3, 0, id, &8u32.to_be_bytes())].concat();
    let (error, _) = flooded(&site, (0..20_000).flat_map(|number| pair(number * 2 + 1)).collect()).await;
    assert!(matches!(error, None | Some(ENHANCE_YOUR_CALM)), "{error:?}");
    let asked = site.asked.load(Ordering::SeqCst);
    assert!(asked < 10_000, "{asked} were run");
    site.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_end_end_the_connection() {
    let site = site().await;
    let begun = frame(1, 1, 1, GET);
    let header = [b"\x00\x01x\x7f\x87\x01".as_slice(), &[b'y'; 262]].concat();
    for (name, more) in [("empty", frame(9, 0, 1, b"")), ("large", frame(9, 0, 1, &header.repeat(50)))] {
        let (_, sent) = flooded(&site, [begun.clone(), more.repeat((64 << 20) / more.len())].concat()).await;
        assert!(sent < 32 << 20, "{name}: {sent} bytes were taken");
        site.is_well().await;
    }
    assert_eq!(site.asked.load(Ordering::SeqCst), 2, "nothing but what meant well was run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_holds_no_place_and_no_time() {
    let site = site().await;
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(TcpStream::connect(site.address).await.unwrap());
    }
    site.is_well().await;
    assert!(begun.elapsed() < HANDSHAKE_TIMEOUT, "before any of them had to go for its silence: {:?}", begun.elapsed());
    // Whoever holds no pinned key may believe for a moment to be connected, and is not heard.
    if let Ok(mut stranger) = site.connect(&SigningKey::from_bytes(&[3; 32])).await {
        let request = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS, &frame(1, 5, 1, GET)].concat();
        drop(stranger.write_all(&request).await);
        drop(stranger.read_to_end(&mut Vec::new()).await);
    }
    assert_eq!(site.asked.load(Ordering::SeqCst), 1);
    for stream in &mut silent {
        let end = tokio::time::timeout(HANDSHAKE_TIMEOUT * 2, stream.read(&mut [0])).await;
        assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_ends_with_its_membership_and_a_guest_finds_one_door() {
    let site = site().await;
    let mut stream = site.begin().await;
    stream.write_all(&frame(1, 5, 1, GET)).await.unwrap();
    frames_until(&mut stream, |frame| frame.kind == 0).await;
    // Another key is pinned: the channel of the old one ends at once, and no new one is opened.
    site.doors.store(Arc::new(Doors::default()));
    site.changed.send_modify(|number| *number += 1);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the channel is still there");
    let refused = async {
        let mut stranger = site.connect(&site.ours).await?;
        stranger.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS, &frame(1, 5, 1, GET)].concat()).await?;
        stranger.read_u8().await
    };
    assert!(refused.await.is_err());
    // While an invitation is open anybody may come in, and finds nothing of what members find.
    let open_until_ms = crate::clock::now_ms() + 60_000;
    site.doors.store(Arc::new(Doors { open_until_ms, ..Doors::default() }));
    let mut guest = site.begin().await;
    guest.write_all(&frame(1, 5, 1, GET)).await.unwrap();
    let frames = frames_until(&mut guest, |frame| frame.kind == 1).await;
    assert_eq!(frames.last().unwrap().payload.first(), Some(&0x8d), "404, from the static table: {frames:?}");
    assert_eq!(site.asked.load(Ordering::SeqCst), 1);
}
