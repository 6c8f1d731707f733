//! A server that speaks S3, from the registry (`s3s-fs`): it checks signatures and keeps what it is given in a folder.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{process, until};

/// What stands before every name in the bucket.
pub const PREFIX: &str = "logs/front";
const KEY_ID: &str = "polder-test";
const BUCKET: &str = "tiles";

/// The server and its bucket; it ends with its owner.
pub struct Bucket {
    folder: PathBuf,
    port: String,
    child: Option<Child>,
}

impl Bucket {
    /// Starts the server that the environment names, on a free port, with one bucket. `None` where the test cannot run; it is
    /// counted.
    pub fn start(folder: &Path, secret: &str, test: &str) -> Option<Self> {
        if !cfg!(feature = "s3") {
            super::skip(test, "this build has no buckets: `cargo xtask test` gives `--features polder/s3`");
            return None;
        }
        if program().is_none() {
            super::skip(test, "POLDER_TEST_S3 names no s3s-fs");
            return None;
        }
        std::fs::create_dir_all(folder.join(BUCKET)).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut bucket = Self { folder: folder.to_owned(), port: free.port().to_string(), child: None };
        bucket.run(secret);
        Some(bucket)
    }

    /// Starts the server again, with this secret.
    pub fn run(&mut self, secret: &str) {
        let mut command = Command::new(program().unwrap());
        command.args(["--host", "127.0.0.1", "--port", &self.port, "--access-key", KEY_ID, "--secret-key", secret]);
        command.arg(&self.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        until("the bucket's server", || TcpStream::connect(format!("127.0.0.1:{}", self.port)).ok());
    }

    /// Ends the server; what it kept stays.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Has the server stand still, or go on.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.child.as_ref().unwrap().id(), signal);
    }

    /// Its address, as a node's messages name it.
    pub fn place(&self) -> String {
        format!("http://127.0.0.1:{}/{BUCKET}", self.port)
    }

    /// The part of a node's configuration that names it; the secret's file lies beside that.
    pub fn config(&self, secret_file: &str) -> String {
        format!(
            "\n[log]\nstore = \"s3\"\n\n[log.s3]\nendpoint = \"http://127.0.0.1:{}\"\nbucket = \"{BUCKET}\"\n\
             prefix = \"{PREFIX}\"\nkey_id = \"{KEY_ID}\"\nsecret_file = \"{secret_file}\"\n",
            self.port
        )
    }

    /// Where the server keeps what has a name.
    pub fn kept(&self, name: &str) -> PathBuf {
        self.folder.join(BUCKET).join(PREFIX).join(name)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.end();
    }
}

fn program() -> Option<PathBuf> {
    std::env::var_os("POLDER_TEST_S3").map(PathBuf::from).filter(|program| program.is_file())
}
