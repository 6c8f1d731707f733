//! Tests of finding frameworks: every shipped one is sound and named after its file; files, bases and bad ones.
#![allow(clippy::unwrap_used)]

use super::*;

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polder-frameworks-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

const SMALL: &str = "id = \"small\"\ntitle = \"t\"\nsource = \"s\"\nlicence = \"l\"\nchanges = \"c\"\n\
[[objectives]]\nid = \"A\"\nname = \"a\"\nweight_percent = 100\n[[objectives.criteria]]\nnumber = 1\nasks = \"q\"\n\
answers = [{ value_hundredths = 1, seal = 0, says = \"x\" }]\n";

fn reweighed(id: &str, base: &str) -> String {
    format!(
        "id = \"{id}\"\ntitle = \"t\"\nsource = \"s\"\nlicence = \"l\"\nchanges = \"c\"\nbase = \"{base}\"\n\
        objectives = [{{ id = \"A\", weight_percent = 100 }}]\n"
    )
}

#[test]
fn every_shipped_framework_is_sound_and_named_after_its_file() {
    let ids: Vec<String> = shipped().unwrap().iter().map(|one| one.id().to_owned()).collect();
    let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
    assert_eq!(ids, names);
}

#[test]
fn files_are_read_and_a_base_stands_beside() {
    let folder = Folder::new("base");
    assert_eq!(find(&folder.write("small.toml", SMALL)).unwrap().id(), "small");
    let other = find(&folder.write("other.toml", &reweighed("other", "small"))).unwrap();
    assert_eq!((other.id(), other.criteria().count()), ("other", 1));
    // A base of a base, no base at all, and one outside the folder.
    for (name, base) in [("third", "other"), ("fourth", "nowhere"), ("fifth", "../small"), ("loop", "loop")] {
        let path = folder.write(&format!("{name}.toml"), &reweighed(name, base));
        let said = find(&path).unwrap_err().to_string();
        assert!(said.contains("not known"), "{name}: {said}");
    }
}

#[test]
fn bad_files_are_named_with_their_line() {
    let folder = Folder::new("bad");
    let path = folder.write("bad.toml", &SMALL.replace("weight_percent = 100", "weight_percent = \"x\""));
    assert!(find(&path).unwrap_err().to_string().contains("bad.toml:9: "));
    let path = folder.write("sum.toml", &SMALL.replace("= 100", "= 99"));
    assert!(find(&path).unwrap_err().to_string().contains("add up to 99"));
    assert!(matches!(find("csf"), Err(FrameworkError::Unknown(_))));
    assert!(find("./missing.toml").is_err());
    let large = folder.write("large.toml", &"#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1));
    assert!(find(&large).unwrap_err().to_string().contains("larger than"));
}
