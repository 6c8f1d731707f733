//! Clients that say nothing, say it slowly, or do not listen; and more of them than there are places.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{CHAT, Front, chat, read_until, to_the_end};

const SHORT: &str =
    "first_byte_s = 1\nheader_s = 1\nidle_s = 2\nbody_grace_s = 1\nbody_bytes_per_s_min = 1000\nwrite_stall_s = 2";
/// How far a limit of a few seconds may be missed on a busy machine, and how much later than the node this client may begin
/// to count.
const LATE_MAX: Duration = Duration::from_secs(4);
const BEGUN_LATE_MAX: Duration = Duration::from_millis(400);

fn within(took: Duration, least_s: u64) {
    let least = Duration::from_secs(least_s);
    assert!(took + BEGUN_LATE_MAX >= least && took < least + LATE_MAX, "{took:?} for {least_s} s");
}

/// Sends a byte every 50 ms until the other side closes or answers; what it said, and how long that took.
fn dribble(stream: &mut TcpStream, bytes: &[u8]) -> (String, Duration) {
    let begun = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut answer = [0; 4096];
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        match stream.read(&mut answer) {
            Ok(count) => return (String::from_utf8_lossy(&answer[..count]).into_owned(), begun.elapsed()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    (String::new(), begun.elapsed())
}

#[test]
fn silence_and_dribbling_end_in_time() {
    let front = Front::start(SHORT);
    let mut silent = front.connect();
    let (text, took) = to_the_end(&mut silent);
    assert_eq!(text, "", "nothing was asked, so nothing is said");
    within(took, 1);

    let slow_head = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'y'; 1000]].concat();
    let (text, took) = dribble(&mut front.connect(), &slow_head);
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("\"code\":\"request_timeout\""), "{text}");
    within(took, 1);

    // The second request of a connection is held to the same.
    let mut kept = front.connect();
    kept.write_all(&front.kept("quick", false)).unwrap();
    read_until(&mut kept, "completion_tokens");
    std::thread::sleep(Duration::from_millis(1200));
    let (text, took) = dribble(&mut kept, &slow_head);
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    within(took, 1);

    let mut idle = front.connect();
    idle.write_all(&front.kept("quick", false)).unwrap();
    read_until(&mut idle, "completion_tokens");
    let (_, took) = to_the_end(&mut idle);
    within(took, 2);

    for framing in ["content-length: 100000\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n1000\r\n{"] {
        let mut body = front.connect();
        body.write_all(&[&front.endpoint.head("POST", CHAT, &[])[..], framing.as_bytes()].concat()).unwrap();
        let (text, took) = dribble(&mut body, &[b' '; 1000]);
        assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("\"code\":\"request_timeout\""), "{text}");
        within(took, 1);
    }
    front.is_well();
    front.running.end();
}

#[test]
fn whoever_does_not_listen_holds_no_engine() {
    let front = Front::start(SHORT);
    let mut deaf = front.connect();
    deaf.write_all(&front.request("forever", true)).unwrap();
    front.engine.until("the question", |engine| engine.asked(), 1);
    let took = front.engine.until("its end", |engine| engine.left(), 1);
    within(took, 2);
    // A slow engine is no deaf client: an answer that takes longer than every limit comes through.
    let reply = front.endpoint.post(CHAT, &chat("short", true));
    assert_eq!(reply.events().last().map(String::as_str), Some("[DONE]"));
    front.is_well();
    front.running.end();
}

#[test]
fn whoever_comes_finds_a_place() {
    let front = Front::start("connections_max = 40\nconnections_per_address_max = 30\nfirst_byte_s = 60\nidle_s = 60");
    // One that works is never sent away, however many come after it.
    let mut working = front.connect();
    working.write_all(&front.request("steady", true)).unwrap();
    read_until(&mut working, "word");
    let mut silent: Vec<TcpStream> = Vec::new();
    for round in 0..5 {
        silent.extend((0..30).map(|_| front.connect()));
        assert_eq!(front.endpoint.post(CHAT, &chat("quick", false)).status, 200, "round {round}");
    }
    let others: Vec<TcpStream> =
        (2..6).flat_map(|last| (0..20).map(move |_| last)).map(|last| from(last, &front)).collect();
    front.is_well();
    silent.iter().chain(&others).for_each(|one| one.set_nonblocking(true).unwrap());
    let closed = |stream: &TcpStream| matches!((&*stream).read(&mut [0]), Ok(0));
    let open = silent.iter().filter(|one| !closed(one)).count();
    assert!(open <= 30, "{open} of one address");
    let all = open + others.iter().filter(|one| !closed(one)).count();
    assert!(all <= 40, "{all} of all");
    read_until(&mut working, "word");
    // Where everyone works, who comes is told so.
    let busy: Vec<TcpStream> = (0..29)
        .map(|_| {
            let mut stream = front.connect();
            stream.write_all(&front.request("steady", true)).unwrap();
            read_until(&mut stream, "word");
            stream
        })
        .collect();
    let refused = front.endpoint.post(CHAT, &chat("quick", false));
    assert!(refused.status == 503 && refused.error().0 == "too_many_connections" || refused.status == 0, "{refused:?}");
    drop((busy, working));
    crate::support::until("a place", || {
        Some(()).filter(|()| front.endpoint.post(CHAT, &chat("quick", false)).status == 200)
    });
    front.running.end();
}

/// A connection from another address of this machine.
fn from(last: u8, front: &Front) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(std::net::SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(front.endpoint.address.parse().unwrap()).await.unwrap().into_std().unwrap()
    })
}
