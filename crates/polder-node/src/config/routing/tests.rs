//! Tests of the two tables: what is absent has its value, and what cannot work is named.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn content(message: String) -> ConfigError {
    ConfigError::Content { path: PathBuf::from("node.toml"), message }
}

fn routing(text: &str) -> Result<Routing, String> {
    toml::from_str::<Routing>(text).map_err(|e| e.to_string())?.check(&content).map_err(|e| e.to_string())
}

fn upstream(text: &str) -> Result<Upstreams, String> {
    let folder = std::env::temp_dir().join(format!("polder-upstream-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("two.key"), " secret-of-two\n").unwrap();
    let raw = toml::from_str::<Upstream>(text).map_err(|e| e.to_string())?;
    raw.check(&folder, &content).map_err(|e| e.to_string())
}

#[test]
fn every_field_stands_for_itself_where_it_is_absent() {
    assert_eq!(routing("").unwrap(), Routing::default());
    assert_eq!(routing("attempts = 5").unwrap(), Routing { attempts: 5, ..Routing::default() });
    for (text, says) in [
        ("attempts = 0", "`attempts` must be at least 1"),
        ("first_token_ms = 0", "`first_token_ms`"),
        ("breaker_failures = 0", "`breaker_failures`"),
        ("breaker_open_ms = 9\nbreaker_open_ms_max = 8", "`breaker_open_ms_max` is less"),
        ("hedging = true", "unknown field `hedging`"),
        ("attempts = -1", "attempts"),
    ] {
        let error = routing(text).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn each_replica_has_its_own_key_and_no_other() {
    let text = "url = \"http://a/v1\"\n[[replicas]]\nurl = \"http://b/v1\"\nkey_file = \"two.key\"\n\
                [models.\"house/model\"]\nalias_of = \"Org/Model\"\nconcurrent = 2\n";
    let upstreams = upstream(text).unwrap();
    let keys: Vec<_> = upstreams.replicas.iter().map(|one| (one.url.as_str(), one.key.as_deref())).collect();
    assert_eq!(keys, [("http://a/v1", None), ("http://b/v1", Some("secret-of-two"))]);
    assert_eq!((upstreams.models.len(), upstreams.first_token_ms), (1, 50_000));
}

#[test]
fn what_cannot_work_is_named_and_no_password_is_shown() {
    let many: String = (0..REPLICAS_MAX).map(|n| format!("[[replicas]]\nurl = \"http://h{n}/v1\"\n")).collect();
    for (text, says) in [
        ("url = \"http://a/v1\"\n[[replicas]]\nurl = \"http://a/v1/\"".to_owned(), "`http://a/v1` stands there twice"),
        ("url = \"http://me:hunter2@a/v1\"".to_owned(), "use `key_file`"),
        (format!("url = \"http://a/v1\"\n{many}"), "at most 64"),
        ("url = \"http://a/v1\"\n[models.m]\nconcurrent = 0".to_owned(), "`m`"),
        ("url = \"http://a/v1\"\n[models.m]\nalias_of = \"\"".to_owned(), "`m`"),
        ("url = \"http://a/v1\"\nkey_file = \"no.key\"".to_owned(), "no.key"),
    ] {
        let error = upstream(&text).unwrap_err();
        assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
    }
}
