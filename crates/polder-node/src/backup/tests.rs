//! Tests of backups that are no good: cut off, changed, with paths that climb, of another node.
#![allow(clippy::unwrap_used)]

use super::*;

fn file(entries: &[(&str, &[u8])], spoil: impl Fn(&mut Manifest)) -> Vec<u8> {
    let entry = |(path, bytes): &(&str, &[u8])| Entry {
        path: (*path).to_owned(),
        bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
    };
    let files = entries.iter().map(entry).collect();
    let mut manifest = Manifest { node: "paris".to_owned(), at_ms: 1, leaves: 0, files, keys: None };
    spoil(&mut manifest);
    let text = serde_json::to_vec(&manifest).unwrap();
    let mut out = [MAGIC, &(text.len() as u64).to_be_bytes(), &text].concat();
    entries.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
    out
}

fn read(bytes: &[u8], folder: &Path) -> Result<(), BackupError> {
    let mut bytes = bytes;
    let manifest = manifest(&mut bytes, Path::new("file"))?;
    manifest.files.iter().try_for_each(|entry| unpack(&mut bytes, entry, folder))
}

#[test]
fn what_is_damaged_or_climbs_out_is_refused() {
    let folder = std::env::temp_dir().join(format!("polder-backup-{}", std::process::id()));
    let again = || drop(fs::remove_dir_all(&folder));
    again();
    let good = file(&[("node.db", b"rows"), ("content/ab/cd", b"sealed")], |_| {});
    read(&good, &folder).unwrap();
    assert_eq!(fs::read(folder.join("content/ab/cd")).unwrap(), b"sealed");
    for cut in [0, 5, 20, good.len() - 1] {
        again();
        assert!(read(&good[..cut], &folder).is_err(), "cut at {cut}");
    }
    again();
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(read(&changed, &folder).unwrap_err().to_string().contains("damaged"));
    for path in ["../out", "/etc/out", "content/../../out", "keys/identity.key", "content"] {
        again();
        let climbing = file(&[("node.db", b"rows"), (path, b"x")], |_| {});
        assert!(read(&climbing, &folder).is_err(), "{path}");
    }
    again();
    assert!(read(&file(&[("content/a", b"x")], |_| {}), &folder).unwrap_err().to_string().contains("no database"));
    assert!(read(b"GIF89a, or something else that is no backup", &folder).is_err());
    again();
}

#[test]
fn keys_open_with_their_passphrase_only() {
    let folder = std::env::temp_dir().join(format!("polder-backup-keys-{}", std::process::id()));
    drop(fs::remove_dir_all(&folder));
    let (from, to) = (folder.join("from"), folder.join("to"));
    private_folder(&from).unwrap();
    crate::keys::write_private(&from.join("identity.key"), b"secret").unwrap();
    let (sealed, bytes) = seal(&from, "a long enough phrase").unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"secret"));
    let wrong = restore_keys(&mut bytes.as_slice(), &sealed, Some("another long phrase"), &to);
    assert!(wrong.unwrap_err().to_string().contains("passphrase"));
    restore_keys(&mut bytes.as_slice(), &sealed, Some("a long enough phrase"), &to).unwrap();
    assert_eq!(fs::read(to.join("identity.key")).unwrap(), b"secret");
    drop(fs::remove_dir_all(&folder));
}
