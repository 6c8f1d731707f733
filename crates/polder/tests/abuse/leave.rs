//! Clients that go away: the engine hears of it within a second, wherever the answer stands.

use std::io::Write as _;
use std::time::Duration;

use super::{Front, read_until};

const SOON: Duration = Duration::from_secs(1);

#[test]
fn the_engine_stops_when_its_asker_leaves() {
    let front = Front::start("");
    let (mut asked, mut left) = (0, 0);
    for (what, word, stream, ahead) in [
        ("in a stream", "steady", true, &b""[..]),
        ("before the first token of a stream", "begin", true, b""),
        ("without a stream", "begin", false, b""),
        ("with bytes sent ahead", "begin", true, b"\r\n"),
        ("with a request sent ahead", "begin", false, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"),
    ] {
        let mut client = front.connect();
        client.write_all(&[&front.kept(word, stream)[..], ahead].concat()).unwrap();
        asked += 1;
        front.engine.until("the question", |engine| engine.asked(), asked);
        if word == "steady" {
            read_until(&mut client, "word");
        } else {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(front.engine.left(), left, "{what}");
        drop(client);
        left += 1;
        let took = front.engine.until(what, |engine| engine.left(), left);
        assert!(took < SOON, "{what}: {took:?}");
    }
    front.is_well();
    front.running.end();
}

#[test]
fn an_engine_that_has_said_nothing_at_all_stops_too() {
    let front = Front::start("");
    for (count, stream) in [(1, true), (2, false)] {
        let mut client = front.connect();
        client.write_all(&front.request("nothing", stream)).unwrap();
        front.engine.until("the question", |engine| engine.asked(), count);
        std::thread::sleep(Duration::from_millis(100));
        drop(client);
        let took = front.engine.until("its end", |engine| engine.left(), count);
        assert!(took < SOON, "streaming {stream}: {took:?}");
    }
    front.running.end();
}
