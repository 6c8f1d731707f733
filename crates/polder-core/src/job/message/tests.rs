//! Tests of messages: their bytes, what a reader may ignore and must not, and what the older version is told.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn renew() -> Message {
    Message::Renew { job: JobId([2; 16]), epoch: 4, nonce: Nonce([9; 16]), checkpoint: Some(Digest([3; 32])) }
}

#[test]
fn a_message_comes_back_from_its_bytes() {
    let wire = Wire { speaks: VERSION, must: BTreeSet::new(), message: renew() };
    assert_eq!(Wire::decode(&wire.encode().unwrap()), Ok(wire));
}

#[test]
fn unknown_fields_are_ignored_unless_they_must_be_known() {
    let text = r#"{"speaks":3,"colour":"red","message":{"free":{"free":{"cores":4}}}}"#;
    let free = Resources { cores: 4, ..Resources::default() };
    assert_eq!(Wire::decode(text.as_bytes()).unwrap().message, Message::Free(Room { free }));
    let renew = serde_json::to_string(&Wire { speaks: 3, must: BTreeSet::new(), message: renew() }).unwrap();
    let newer = renew.replacen("\"epoch\":4", "\"epoch\":4,\"deadline\":9", 1);
    assert!(Wire::decode(newer.as_bytes()).is_ok());
    let text = r#"{"speaks":3,"must":["telepathy"],"message":{"something-newer":{}}}"#;
    assert_eq!(Wire::decode(text.as_bytes()), Err(WireError::Must("telepathy".to_owned())));
    let text = r#"{"speaks":0,"message":{"free":{"free":{}}}}"#;
    assert_eq!(Wire::decode(text.as_bytes()), Err(WireError::Version(0)));
    assert_eq!(Wire::decode(&vec![b' '; MESSAGE_BYTES_MAX + 1]), Err(WireError::Long));
    assert!(matches!(Wire::decode(br#"{"speaks":2,"message":{"dance":{}}}"#), Err(WireError::Form(_))));
}

#[test]
fn the_older_version_gets_what_it_has_words_for() {
    assert_eq!(renew().written_in(2), Some(renew()));
    let Some(Message::Renew { checkpoint, .. }) = renew().written_in(1) else { panic!("a renewal is known to both") };
    assert_eq!(checkpoint, None);
    assert_eq!(Message::Withdraw { job: JobId([2; 16]), epoch: 4 }.written_in(1), None);
}
