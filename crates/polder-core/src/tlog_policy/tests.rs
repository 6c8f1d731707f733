//! Tests of witness policies: what is read, what is refused, and which signatures are enough.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::canonical::hash;
use crate::note::SignatureLine;
use crate::tests::{key, node};

fn log() -> VerifierKey {
    VerifierKey::of_log(&node("paris"), key(5).verifying_key())
}

fn witness(name: &str, number: u8) -> VerifierKey {
    VerifierKey::of_witness(&node(name), key(number).verifying_key())
}

/// A checkpoint of paris, cosigned by the witnesses of these names and key numbers.
fn note(cosigners: &[(&str, u8)]) -> Note {
    let checkpoint = Checkpoint::new("polder/paris", 7, hash("test", &[b"root"]));
    let mut note = Note::parse(&checkpoint.sign(&key(5))).unwrap();
    for (name, number) in cosigners {
        let name = format!("polder/{name}/witness");
        let line = SignatureLine::cosign(&note.text, &name, &key(*number), 1_700_000_000 + u64::from(*number));
        note.signatures.push(line);
    }
    note
}

/// Two countries of three; munich and berlin are one country.
fn text() -> String {
    let witnesses = [("DE", "munich", 6), ("DE", "berlin", 7), ("NL", "delft", 8), ("ES", "madrid", 9)];
    let witnesses = witnesses.map(|(country, name, number)| (country.to_owned(), witness(name, number)));
    Policy::of_countries(&[log()], &witnesses, 2)
}

fn accept(cosigners: &[(&str, u8)]) -> Result<Accepted, Unaccepted> {
    Policy::parse(text().as_bytes()).unwrap().accept(&note(cosigners), None)
}

#[test]
fn two_witnesses_of_one_country_are_one_country() {
    let refused = accept(&[("munich", 6), ("berlin", 7)]).unwrap_err();
    assert_eq!(refused, Unaccepted::Quorum { quorum: "countries".to_owned(), signed: 2, listed: 4 });
    assert!(accept(&[]).is_err());
    let accepted = accept(&[("munich", 6), ("delft", 8)]).unwrap();
    assert_eq!(accepted.checkpoint.size, 7);
    assert_eq!(accepted.groups, ["DE", "NL", "countries"]);
    let expected =
        [("polder/munich/witness".to_owned(), 1_700_000_006), ("polder/delft/witness".to_owned(), 1_700_000_008)];
    assert_eq!(accepted.witnesses, expected);
}

#[test]
fn who_is_not_listed_does_not_count_and_who_is_must_not_err() {
    // A key of one's own under a listed name has another hash: an unknown line.
    assert!(matches!(accept(&[("munich", 6), ("delft", 66)]), Err(Unaccepted::Quorum { signed: 1, .. })));
    // The same hash over another text is an error, even where the others would be enough.
    let mut changed = note(&[("munich", 6), ("delft", 8), ("madrid", 9)]);
    changed.signatures[3].signature[40] ^= 1;
    let policy = Policy::parse(text().as_bytes()).unwrap();
    let error = Unaccepted::Note(NoteError::Cosignature("polder/madrid/witness".to_owned()));
    assert_eq!(policy.accept(&changed, None), Err(error));
}

#[test]
fn the_log_must_be_listed_or_given() {
    let policy = Policy::parse(text().replace("log ", "# log ").as_bytes()).unwrap();
    let note = note(&[("munich", 6), ("delft", 8)]);
    assert_eq!(policy.accept(&note, None), Err(Unaccepted::NoLog));
    assert!(policy.accept(&note, Some(&log())).is_ok());
    let other = VerifierKey::of_log(&node("munich"), key(5).verifying_key());
    assert_eq!(policy.accept(&note, Some(&other)), Err(NoteError::Origin("polder/paris".to_owned()).into()));
    let elsewhere = Policy::parse(format!("log {other}\nquorum none\n").as_bytes()).unwrap();
    assert_eq!(elsewhere.accept(&note, None), Err(Unaccepted::Log("polder/paris".to_owned())));
    let impostor = VerifierKey::of_log(&node("paris"), key(50).verifying_key());
    let rotated = Policy::parse(format!("log {impostor}\nlog {}\nquorum none", log()).as_bytes()).unwrap();
    assert!(rotated.accept(&note, None).is_ok());
    let wrong = Policy::parse(format!("log {impostor}\nquorum none").as_bytes()).unwrap();
    assert_eq!(wrong.accept(&note, None), Err(NoteError::Signature.into()));
}

/// The example of the specification, with spaces, comments and nested groups.
#[test]
fn the_specifications_example_is_read() {
    let keys: Vec<String> = (10..16).map(|number| witness("w", number).to_string()).collect();
    let text = format!(
        "log {}\thttps://paris.example/log \n\n  # X's\nwitness X1 {}\nwitness X2 {}\nwitness \u{212a} {} https://x3.example/\n\
         group X-witnesses 2 X1 X2 \u{212a}\n\nwitness Y1 {}\nwitness Y2 {}\nwitness Y3 {}\n\
         group Y-witnesses any Y1 Y2 Y3\n\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y",
        log(),
        keys[0],
        keys[1],
        keys[2],
        keys[3],
        keys[4],
        keys[5]
    );
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert_eq!(policy.logs[0].url.as_deref(), Some("https://paris.example/log"));
    assert_eq!(policy.witnesses.len(), 6);
    assert_eq!(policy.groups.iter().map(|group| group.threshold).collect::<Vec<_>>(), [2, 1, 2]);
    let with =
        |numbers: &[u8]| policy.accept(&note(&numbers.iter().map(|n| ("w", *n)).collect::<Vec<_>>()), None).is_ok();
    assert!(with(&[10, 12, 14]));
    assert!(with(&[10, 11, 12, 13, 14, 15]));
    assert!(!with(&[10, 14, 15]));
    assert!(!with(&[10, 11, 12]));
}

#[test]
fn what_is_not_a_policy_is_refused_with_its_line() {
    let (a, b) = (witness("a", 6), witness("b", 7));
    let cases = [
        (String::new(), 1, "no `quorum`"),
        ("quorum none\nquorum none".to_owned(), 2, "second"),
        ("quorum a".to_owned(), 1, "not defined"),
        (format!("quorum a\nwitness a {a}"), 1, "not defined"),
        (format!("witness a {a}\nwitness a {b}\nquorum a"), 2, "taken"),
        (format!("witness a {a}\nwitness b {a}\nquorum a"), 2, "earlier line"),
        (format!("log {}\nlog {}\nquorum none", log(), log()), 2, "earlier line"),
        (format!("witness none {a}\nquorum none"), 1, "`none`"),
        (format!("witness a {}\nquorum a", log()), 1, "type 0x04"),
        (format!("log {a}\nquorum none"), 1, "type 0x01"),
        (format!("witness a {a}\ngroup g any none\nquorum g"), 2, "not defined"),
        (format!("witness a {a}\ngroup g any\nquorum g"), 2, "members"),
        (format!("witness a {a}\ngroup g 0 a\nquorum g"), 2, "from 1 to 1"),
        (format!("witness a {a}\ngroup g 2 a\nquorum g"), 2, "from 1 to 1"),
        (format!("witness a {a}\ngroup g +1 a\nquorum g"), 2, "from 1 to 1"),
        (format!("witness a {a}\ngroup g 1 a a\nquorum g"), 2, "already"),
        (format!("witness a {a}\ngroup g any g\nquorum g"), 2, "not defined"),
        (format!("witness a {a}\ngroup g any a\ngroup h any a\nquorum g"), 3, "already"),
        (format!("witness a {a}\r\nquorum a"), 1, "0x0d"),
        ("quorum none\nwitnesses 3".to_owned(), 2, "`witnesses`"),
        ("quorum\n".to_owned(), 1, "too few"),
        (format!("witness a {}x\nquorum a", a), 1, "base64"),
        (format!("witness a {}\nquorum a", a.to_string().replacen("polder/a", "polder/c", 1)), 1, "hash"),
    ];
    for (text, line, message) in cases {
        let error = Policy::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

proptest! {
    /// Whatever stands in a file: an answer, never a panic.
    #[test]
    fn no_text_breaks_the_reader(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Policy::parse(&text);
    }

    /// Lines made of the words that mean something reach further into the reader.
    #[test]
    fn no_words_break_the_reader(words in proptest::collection::vec(0_usize..12, 0..60)) {
        let keys = [witness("a", 6).to_string(), log().to_string()];
        let list = ["log", "witness", "group", "quorum", "any", "all", "1", "none", "a", "\n", &keys[0], &keys[1]];
        let text: Vec<&str> = words.iter().map(|word| list[*word]).collect();
        if let Ok(policy) = Policy::parse(text.join(" ").as_bytes()) {
            let _ = policy.accept(&note(&[("a", 6)]), Some(&log()));
        }
    }

    /// The threshold means what it says, however many sign.
    #[test]
    fn a_group_counts(signed in proptest::collection::vec(any::<bool>(), 5), threshold in 1_usize..=5) {
        let names = ["a", "b", "c", "d", "e"];
        let mut text = format!("log {}\n", log());
        for (number, name) in (20..).zip(names) {
            text.push_str(&format!("witness {name} {}\n", witness(name, number)));
        }
        text.push_str(&format!("group g {threshold} a b c d e\nquorum g\n"));
        let cosigners: Vec<(&str, u8)> =
            names.into_iter().zip(20..).zip(&signed).filter(|(_, signed)| **signed).map(|(cosigner, _)| cosigner).collect();
        let accepted = Policy::parse(text.as_bytes()).unwrap().accept(&note(&cosigners), None);
        prop_assert_eq!(accepted.is_ok(), cosigners.len() >= threshold);
    }
}
