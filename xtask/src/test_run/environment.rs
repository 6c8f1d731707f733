//! The test environment: the clients in `.test-env/`, in the versions that `clients/` pins, the solver cvc5, promtool, and a server
//! that speaks S3.
//!
//! Installed once and again only when a pin changes: a stamp beside each part holds the pins it was made
//! from. Whatever cannot be installed is a reason in words, never an error: the machine may have no network.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// The folder, ignored by git.
pub const FOLDER: &str = ".test-env";

const PYTHON_PINS: &str = "clients/python/requirements.txt";
const NODE_PINS: &[&str] = &["clients/node/package.json", "clients/node/package-lock.json"];

/// Installs what is missing or out of date; returns what could not be installed, with the reason.
pub fn install(root: &Path) -> Vec<String> {
    debian_packages();
    let parts = [
        ("python", install_python as fn(&Path) -> Result<(), String>),
        ("node", install_node),
        ("cvc5", find_cvc5),
        ("promtool", install_promtool),
        ("s3s-fs", install_s3),
    ];
    parts.iter().filter_map(|(name, part)| part(root).err().map(|reason| format!("{name}: {reason}"))).collect()
}

/// The variables that tell the tests what there is.
pub fn variables(root: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    if is_current(root, &python_folder(root), &[PYTHON_PINS]) {
        found.push(("POLDER_TEST_PYTHON".to_owned(), python_folder(root).join("bin/python")));
    }
    if is_current(root, &node_folder(root), NODE_PINS) {
        found.push(("POLDER_TEST_NODE_DIR".to_owned(), node_folder(root)));
    }
    found.extend(cvc5().map(|program| ("POLDER_CVC5".to_owned(), program)));
    found.extend(promtool(root).map(|program| ("POLDER_PROMTOOL".to_owned(), program)));
    found.extend(
        Some(s3(root)).filter(|program| program.is_file()).map(|program| ("POLDER_TEST_S3".to_owned(), program)),
    );
    found
}

/// The version of cargo-deny that `deny.toml` was written for.
const CARGO_DENY: &str = "^0.20.2";

/// The server that the tests of buckets speak to, and its version.
const S3: (&str, &str) = ("s3s-fs", "0.14.1");

/// Where programs lie that are built from the registry: with the build results, because building them takes minutes.
fn tools(root: &Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    root.join(target).join("tools")
}

/// `cargo install` into the folder of tools. A build folder of its own: what tools are built of has nothing in common with this
/// project's crates.
fn build_tool(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = process::cargo(root);
    command.args(["install", "--locked", "--quiet", "--root"]).arg(tools(root)).args(arguments);
    command.env_remove("CARGO_TARGET_DIR").env("CARGO_PROFILE_DEV_DEBUG", "false");
    process::run(&mut command).map_err(|failure| failure.to_string().replace('\n', ";"))
}

fn s3(root: &Path) -> PathBuf {
    tools(root).join("bin").join(S3.0)
}

fn install_s3(root: &Path) -> Result<(), String> {
    let (name, version) = S3;
    let said = process::capture(Command::new(s3(root)).arg("--version")).unwrap_or_default();
    if said.trim().ends_with(version) {
        return Ok(());
    }
    // Without optimising: it serves a few files, and is built in a third of the time.
    build_tool(root, &[name, "--version", version, "--features", "binary", "--debug", "--force"])
}

/// A `PATH` on which cargo finds `cargo-deny`, installed under the build folder if it is missing and `install` is set; the reason
/// where there is none.
pub fn path_with_cargo_deny(root: &Path, install: bool) -> Result<OsString, String> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools(root).join("bin")).chain(std::env::split_paths(&old));
    let path = std::env::join_paths(folders).map_err(|error| format!("PATH cannot be extended: {error}"))?;
    let works = || process::works(process::cargo(root).env("PATH", &path).args(["deny", "--version"]));
    if works() {
        return Ok(path);
    }
    if !install {
        return Err("cargo-deny is not installed, and --skip-install was given".to_owned());
    }
    build_tool(root, &["cargo-deny", "--version", CARGO_DENY])?;
    if works() { Ok(path) } else { Err("cargo-deny was installed and does not start".to_owned()) }
}

fn python_folder(root: &Path) -> PathBuf {
    root.join(FOLDER).join("python")
}

fn node_folder(root: &Path) -> PathBuf {
    root.join(FOLDER).join("node")
}

/// Where Debian puts Go's `sumdb` packages.
const GO_MODULES: &str = "/usr/share/gocode/src/golang.org/x/mod/sumdb";

/// Where Debian puts what the tests of clocks and of PKCS#11 load.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// On Debian as root, the interpreters themselves and the solver are installed too; elsewhere they must be there.
fn debian_packages() {
    let mut wanted = Vec::new();
    if !process::works(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        wanted.extend(["python3", "python3-venv"]);
    }
    if !process::works(Command::new("npm").arg("--version")) {
        wanted.extend(["nodejs", "npm"]);
    }
    if cvc5().is_none() {
        wanted.push("cvc5");
    }
    // Verifiers of receipts that others wrote: Go's own packages, and a browser for the page.
    if !process::works(Command::new("go").arg("version")) || !Path::new(GO_MODULES).is_dir() {
        wanted.extend(["golang-go", "golang-golang-x-mod-dev"]);
    }
    // Gives one process another time; and a token for keys, in software.
    if !Path::new(FAKETIME).is_file() {
        wanted.push("libfaketime");
    }
    if !Path::new(SOFTHSM).is_file() {
        wanted.extend(["softhsm2", "opensc"]);
    }
    if !Path::new("/usr/bin/chromium").is_file() {
        wanted.push("chromium");
    }
    let root = process::capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if wanted.is_empty() || !root || !process::works(Command::new("apt-get").arg("--version")) {
        return;
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        process::run(apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let install = [&["install", "--yes", "--no-install-recommends"], wanted.as_slice()].concat();
    // A machine whose package lists are missing or old gets new ones, once.
    let tried = apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)));
    if let Err(failure) = tried {
        eprintln!("{failure}");
    }
}

/// The solver: what the environment names, or else what is on the path.
fn cvc5() -> Option<PathBuf> {
    let named = std::env::var_os("POLDER_CVC5").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("cvc5"));
    named.into_iter().chain(on_path).find(|program| program.is_file())
}

fn find_cvc5(_: &Path) -> Result<(), String> {
    cvc5().map(drop).ok_or_else(|| "it is not on the PATH, and Debian's package could not be installed".to_owned())
}

/// What reads alert rules as Prometheus does: what is on the path, or else what was unpacked here.
fn promtool(root: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("promtool"));
    on_path.chain([root.join(FOLDER).join("promtool/usr/bin/promtool")]).find(|program| program.is_file())
}

/// Debian's package is unpacked and not installed: nothing of it is to run by itself.
fn install_promtool(root: &Path) -> Result<(), String> {
    if promtool(root).is_some() {
        return Ok(());
    }
    let folder = root.join(FOLDER).join("promtool");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    quiet(Command::new("apt-get").args(["download", "--quiet", "prometheus"]).current_dir(&folder))?;
    let entries = std::fs::read_dir(&folder).map_err(|error| error.to_string())?;
    let mut files = entries.flatten().map(|entry| entry.path());
    let package = files.find(|path| path.extension().is_some_and(|end| end == "deb"));
    let package = package.ok_or("the package was not downloaded")?;
    quiet(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&folder))?;
    // Only the one program is needed of 100 MB.
    drop((std::fs::remove_file(package), std::fs::remove_file(folder.join("usr/bin/prometheus"))));
    promtool(root).map(drop).ok_or_else(|| "it is not in Debian's package".to_owned())
}

fn install_python(root: &Path) -> Result<(), String> {
    let folder = python_folder(root);
    if is_current(root, &folder, &[PYTHON_PINS]) {
        return Ok(());
    }
    quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--requirement"]);
    quiet(pip.arg(root.join(PYTHON_PINS)))?;
    stamp(root, &folder, &[PYTHON_PINS])
}

fn install_node(root: &Path) -> Result<(), String> {
    let folder = node_folder(root);
    if is_current(root, &folder, NODE_PINS) {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for pins in NODE_PINS {
        let name = Path::new(pins).file_name().unwrap_or_default();
        std::fs::copy(root.join(pins), folder.join(name)).map_err(|error| format!("{pins}: {error}"))?;
    }
    quiet(Command::new("npm").current_dir(&folder).args(["ci", "--no-audit", "--no-fund", "--fetch-retries=1"]))?;
    stamp(root, &folder, NODE_PINS)
}

fn quiet(command: &mut Command) -> Result<(), String> {
    eprintln!("$ {}", process::show(command));
    process::capture(command).map(drop).map_err(|failure| {
        let text = failure.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

fn pins(root: &Path, files: &[&str]) -> Option<String> {
    files.iter().map(|file| std::fs::read_to_string(root.join(file)).ok()).collect()
}

fn is_current(root: &Path, folder: &Path, files: &[&str]) -> bool {
    let made_from = std::fs::read_to_string(folder.join("pins")).ok();
    made_from.is_some() && made_from == pins(root, files)
}

fn stamp(root: &Path, folder: &Path, files: &[&str]) -> Result<(), String> {
    let text = pins(root, files).ok_or("the pins cannot be read")?;
    std::fs::write(folder.join("pins"), text).map_err(|error| error.to_string())
}
