//! Tests of the content store on a real folder and database: what is kept, what is refused, and what damage is noticed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use super::blob::CHUNK_BYTES;
use super::*;

const CANARY: &[u8] = b"canary: the customer's address is 4 Quay Street";
const NOW: u64 = 1_800_000_000_000;
const ROOMY: ContentLimits = ContentLimits { bytes_max: 64 << 20, days: 30 };

/// A state folder that goes with its owner.
struct Bench(PathBuf);

impl Drop for Bench {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

impl Bench {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("polder-content-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(folder.join("keys")).unwrap();
        Self(folder)
    }

    async fn try_open(&self, limits: ContentLimits, now_ms: u64) -> Result<ContentStore, ContentError> {
        let store = Store::open(&self.0.join("node.db")).await.unwrap();
        ContentStore::open(&self.0, &TenantId::parse("bank").unwrap(), limits, store, now_ms).await
    }

    async fn open(&self) -> ContentStore {
        self.try_open(ROOMY, NOW).await.unwrap()
    }

    /// The files of kept things.
    fn blobs(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.0.join("content")).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| !path.ends_with("check")).collect()
    }
}

fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

fn new(id: &str) -> New {
    let note = [b"note of ", CANARY].concat();
    New { kind: Kind::File, project: project("loans"), id: id.to_owned(), note, keep_ms: None }
}

async fn read(content: &ContentStore, id: &str) -> Result<Option<Vec<u8>>, ContentError> {
    Ok(content.get(&project("loans"), Kind::File, id, NOW).await?.map(|(_, bytes)| bytes))
}

/// Bytes that differ from place to place.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn holds(path: &Path, needle: &[u8]) -> bool {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().any(|entry| holds(&entry.unwrap().path(), needle));
    }
    fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn what_is_put_comes_back_whatever_its_length() {
    let bench = Bench::new("round");
    let content = bench.open().await;
    for length in [0, 1, 17, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5] {
        let (id, bytes) = (format!("file-{length}"), bytes(length));
        let mut writer = content.writer(new(&id), NOW).await.unwrap();
        for piece in bytes.chunks(40_000) {
            writer.write(piece).await.unwrap();
        }
        let kept = writer.finish().await.unwrap();
        assert_eq!((kept.bytes, kept.note), (length as u64, new("").note));
        assert_eq!(read(&content, &id).await.unwrap().unwrap(), bytes, "{length}");
    }
    // And after a start.
    let again = bench.open().await;
    assert_eq!(again.used_bytes(), content.used_bytes());
    assert_eq!(read(&again, "file-17").await.unwrap().unwrap(), bytes(17));
}

#[tokio::test]
async fn a_project_sees_only_its_own_things_and_kinds_are_apart() {
    let bench = Bench::new("projects");
    let content = bench.open().await;
    content.put(new("one"), b"1", NOW).await.unwrap();
    let (other, own) = (project("trading"), project("loans"));
    assert!(content.get(&other, Kind::File, "one", NOW).await.unwrap().is_none());
    assert!(content.find(&own, Kind::Batch, "one", NOW).await.unwrap().is_none());
    assert!(!content.delete(&other, Kind::File, "one", NOW).await.unwrap());
    assert!(!content.set_note(&other, Kind::File, "one", b"mine now", NOW).await.unwrap());
    let page = Page { after: None, newest_first: true, count: 10 };
    assert!(content.list(&other, Kind::File, page, NOW).await.unwrap().is_empty());
    assert_eq!(content.list(&own, Kind::File, page, NOW).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_list_goes_on_behind_the_last_one_seen() {
    let bench = Bench::new("list");
    let content = bench.open().await;
    for (place, id) in ["b", "a", "d", "c"].iter().enumerate() {
        content.put(new(id), b"", NOW + place as u64 / 2).await.unwrap();
    }
    let listed = async |after, newest_first, count| {
        let page = Page { after, newest_first, count };
        let kept = content.list(&project("loans"), Kind::File, page, NOW).await.unwrap();
        kept.into_iter().map(|kept| kept.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, true, 2).await, ["d", "c"]);
    assert_eq!(listed(Some("c"), true, 9).await, ["b", "a"]);
    assert_eq!(listed(Some("a"), false, 2).await, ["b", "c"]);
    assert!(listed(Some("nobody"), false, 2).await.is_empty());
}

#[tokio::test]
async fn every_changed_byte_is_noticed() {
    let bench = Bench::new("tamper");
    let content = bench.open().await;
    content.put(new("one"), CANARY, NOW).await.unwrap();
    let path = bench.blobs().pop().unwrap();
    let good = fs::read(&path).unwrap();
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(matches!(read(&content, "one").await, Err(ContentError::Damaged)), "byte {place}");
    }
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert!(matches!(read(&content, "one").await, Err(ContentError::Damaged)), "cut to {length}");
    }
    fs::write(&path, [good.as_slice(), b"x"].concat()).unwrap();
    assert!(matches!(read(&content, "one").await, Err(ContentError::Damaged)));
    fs::write(&path, &good).unwrap();
    assert_eq!(read(&content, "one").await.unwrap().unwrap(), CANARY);
}

#[tokio::test]
async fn chunks_can_neither_be_cut_off_nor_swapped_nor_moved() {
    let bench = Bench::new("chunks");
    let content = bench.open().await;
    content.put(new("one"), &bytes(3 * CHUNK_BYTES), NOW).await.unwrap();
    let path = bench.blobs().pop().unwrap();
    let good = fs::read(&path).unwrap();
    let full = CHUNK_BYTES + 16;
    let part = |number: usize| &good[8 + number * full..8 + (number + 1) * full];
    for bad in [
        [&good[..8], part(0), part(1)].concat(),
        [&good[..8], part(0), part(2)].concat(),
        [&good[..8], part(1), part(0), part(2)].concat(),
        [&good[..8], part(0), part(1), part(2), part(2)].concat(),
        good[..8].to_vec(),
    ] {
        fs::write(&path, &bad).unwrap();
        assert!(matches!(read(&content, "one").await, Err(ContentError::Damaged)));
    }
    // Another thing's file in its place.
    content.put(new("two"), &bytes(9), NOW).await.unwrap();
    let other = bench.blobs().into_iter().find(|one| *one != path).unwrap();
    fs::copy(&other, &path).unwrap();
    assert!(matches!(read(&content, "one").await, Err(ContentError::Damaged)));
}

#[tokio::test]
async fn another_key_is_named_and_never_gives_garbage() {
    let bench = Bench::new("key");
    bench.open().await.put(new("one"), CANARY, NOW).await.unwrap();
    let key = bench.0.join("keys/content.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let good = fs::read(&key).unwrap();
    fs::write(&key, "ab".repeat(32)).unwrap();
    let error = bench.try_open(ROOMY, NOW).await.map(drop).unwrap_err();
    assert!(matches!(error, ContentError::WrongKey(_)), "{error}");
    fs::write(&key, good).unwrap();
    assert_eq!(read(&bench.open().await, "one").await.unwrap().unwrap(), CANARY);
    // Without its folder a store begins anew, and what it had is forgotten.
    fs::remove_dir_all(bench.0.join("content")).unwrap();
    let content = bench.open().await;
    assert_eq!((read(&content, "one").await.unwrap(), content.used_bytes()), (None, 0));
}

#[tokio::test]
async fn the_quota_holds_and_what_goes_makes_room() {
    let bench = Bench::new("quota");
    let limits = ContentLimits { bytes_max: 10_000, days: 30 };
    let content = bench.try_open(limits, NOW).await.unwrap();
    content.put(new("one"), &bytes(6_000), NOW).await.unwrap();
    let used = content.used_bytes();
    let mut writer = content.writer(new("two"), NOW).await.unwrap();
    writer.write(&bytes(2_000)).await.unwrap();
    assert!(matches!(writer.write(&bytes(2_000)).await, Err(ContentError::Full { bytes_max: 10_000 })));
    drop(writer);
    assert_eq!((content.used_bytes(), bench.blobs().len()), (used, 1), "a dropped writer leaves nothing");
    assert!(content.delete(&project("loans"), Kind::File, "one", NOW).await.unwrap());
    assert_eq!((content.used_bytes(), bench.blobs().len()), (0, 0));
    // Things without bytes fill it too.
    let mut kept = 0;
    while content.put(new(&format!("empty-{kept}")), b"", NOW).await.is_ok() {
        kept += 1;
    }
    assert!((5..20).contains(&kept), "{kept}");
}

#[tokio::test]
async fn an_older_thing_gives_way_and_a_note_changes_alone() {
    let bench = Bench::new("replace");
    let content = bench.open().await;
    content.put(new("one"), &bytes(5_000), NOW).await.unwrap();
    content.put(new("one"), b"short", NOW).await.unwrap();
    assert_eq!((read(&content, "one").await.unwrap().unwrap(), bench.blobs().len()), (b"short".to_vec(), 1));
    assert!(content.set_note(&project("loans"), Kind::File, "one", b"other", NOW).await.unwrap());
    let kept = content.find(&project("loans"), Kind::File, "one", NOW).await.unwrap().unwrap();
    assert_eq!((kept.note.as_slice(), kept.bytes), (b"other".as_slice(), 5));
    let long = vec![b'x'; NOTE_BYTES_MAX + 1];
    let refused = content.set_note(&project("loans"), Kind::File, "one", &long, NOW).await;
    assert!(matches!(refused, Err(ContentError::Note)));
    assert_eq!(bench.open().await.used_bytes(), content.used_bytes());
}

#[tokio::test]
async fn what_has_expired_is_not_found_and_then_swept() {
    let bench = Bench::new("expire");
    let content = bench.open().await;
    let long = content.put(new("long"), b"1", NOW).await.unwrap();
    assert_eq!(long.expires_ms, NOW + 30 * DAY_MS);
    for keep_ms in [1_000, u64::MAX] {
        let short = New { keep_ms: Some(keep_ms), ..new(&format!("keep-{keep_ms}")) };
        let kept = content.put(short, b"1", NOW).await.unwrap();
        assert_eq!(kept.expires_ms, NOW + keep_ms.min(30 * DAY_MS));
    }
    let at = NOW + 1_000;
    assert!(content.find(&project("loans"), Kind::File, "keep-1000", at - 1).await.unwrap().is_some());
    assert!(content.find(&project("loans"), Kind::File, "keep-1000", at).await.unwrap().is_none());
    assert_eq!((content.sweep(at - 1).await.unwrap(), content.sweep(at).await.unwrap()), (0, 1));
    assert_eq!(bench.blobs().len(), 2);
    // A start sweeps too.
    let later = bench.try_open(ROOMY, NOW + 30 * DAY_MS).await.unwrap();
    assert_eq!((later.used_bytes(), bench.blobs().len()), (0, 0));
}

#[tokio::test]
async fn what_a_crash_left_is_cleared_at_the_next_start() {
    let bench = Bench::new("crash");
    let content = bench.open().await;
    content.put(new("one"), b"1", NOW).await.unwrap();
    content.put(new("two"), b"2", NOW).await.unwrap();
    // A crash while writing, one between the file and its row, and one between a file's end and its row's.
    let folder = bench.0.join("content");
    fs::write(folder.join("00112233445566778899aabbccddeeff.new"), b"half").unwrap();
    fs::write(folder.join("ffeeddccbbaa99887766554433221100"), b"whole").unwrap();
    let two = content.0.store.content_row("loans", "file", "two").await.unwrap().unwrap();
    fs::remove_file(path_of(&folder, &two.blob)).unwrap();
    let again = bench.open().await;
    assert_eq!(bench.blobs().len(), 1);
    assert_eq!((read(&again, "one").await.unwrap(), read(&again, "two").await.unwrap()), (Some(b"1".to_vec()), None));
    let one = again.0.store.content_row("loans", "file", "one").await.unwrap().unwrap();
    assert_eq!(again.used_bytes(), cost(&one));
}

#[tokio::test]
async fn nothing_of_it_lies_in_clear_under_the_state_folder() {
    let bench = Bench::new("canary");
    let content = bench.open().await;
    content.put(new("one"), CANARY, NOW).await.unwrap();
    content.put(new("two"), &CANARY.repeat(5_000), NOW).await.unwrap();
    content.set_note(&project("loans"), Kind::File, "one", CANARY, NOW).await.unwrap();
    let mut half = content.writer(new("three"), NOW).await.unwrap();
    half.write(&CANARY.repeat(5_000)).await.unwrap();
    assert!(holds(&bench.0, b"loans"), "the search finds what is there in clear");
    assert!(!holds(&bench.0, CANARY));
    drop(half);
}

#[tokio::test]
async fn a_thing_may_ask_for_less_time_when_it_is_whole() {
    let bench = Bench::new("less-time");
    let content = bench.open().await;
    for (id, keep_ms, expires_ms) in [("short", 5_000, NOW + 5_000), ("long", u64::MAX, NOW + 30 * DAY_MS)] {
        let mut writer = content.writer(new(id), NOW).await.unwrap();
        writer.write(CANARY).await.unwrap();
        writer.keep_for(keep_ms);
        assert_eq!(writer.finish().await.unwrap().expires_ms, expires_ms, "{id}");
    }
    assert_eq!(bench.blobs().len(), 2);
    assert_eq!(content.get(&project("loans"), Kind::File, "short", NOW + 5_000).await.unwrap(), None);
    assert_eq!(content.sweep(NOW + 5_000).await.unwrap(), 1);
    assert_eq!((bench.blobs().len(), read(&content, "long").await.unwrap().as_deref()), (1, Some(CANARY)));
}
