//! Tests of the text format: what it allows is read, anything else refuses the page.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

#[test]
fn samples_of_one_name_are_taken_together() {
    let text = "# HELP a:running How many run.\n# TYPE a:running gauge\n\
                a:running{engine=\"0\",model=\"x, \\\"y\\\" {z}\"} 2\na:running{engine=\"1\",} 3.5 1700000000000\n\
                plain 1e3\n  spaced\t 7  \nempty{} 1\n\nbroken NaN\nendless +Inf\nless -1\n";
    let totals = totals(text).unwrap();
    assert_eq!(totals["a:running"], Total { sum: 5.5, max: 3.5 });
    assert_eq!(totals["plain"].sum, 1000.0);
    assert_eq!(totals["spaced"].sum, 7.0);
    assert_eq!(totals["empty"].sum, 1.0);
    for left_out in ["broken", "endless", "less"] {
        assert!(!totals.contains_key(left_out), "{left_out}");
    }
}

#[test]
fn what_is_not_of_the_format_refuses_the_page() {
    for line in [
        "<html>",
        "{\"error\": \"no\"}",
        "name",
        "name{",
        "name{a=\"b\" 1",
        "name{a=\"b} 1",
        "name{a=b} 1",
        "name{a=\"b\"c=\"d\"} 1",
        "name{=\"b\"} 1",
        "name one",
        "name 1 2 3",
        "name 1 later",
        "1name 2",
        "näme 1",
        "name{a=\"b\\",
        "name\u{0} 1",
        "name{a=\"b\"}1x",
    ] {
        let page = format!("good 1\n{line}\n");
        assert_eq!(totals(&page), Err("line 2 is no sample".to_owned()), "{line}");
    }
    let many = "a 1\n".repeat(SAMPLES_MAX + 1);
    assert!(totals(&many).unwrap_err().contains("more than"));
}

#[test]
fn no_damage_makes_it_fail() {
    let page = "a:running{engine=\"0\",model=\"x, \\\"y\\\" é\"} 2 1700000000000\n# TYPE b gauge\nb 1e3\n";
    let mut bytes = page.as_bytes().to_vec();
    for at in 0..bytes.len() {
        drop(totals(&String::from_utf8_lossy(&bytes[..at])));
        for byte in [b'"', b'\\', b'{', b'}', b'=', b',', b' ', b'\n', 0xc3, 0] {
            let before = std::mem::replace(&mut bytes[at], byte);
            drop(totals(&String::from_utf8_lossy(&bytes)));
            bytes[at] = before;
        }
    }
    assert_eq!(totals(page).unwrap()["b"].sum, 1000.0);
}
