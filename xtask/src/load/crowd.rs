//! A crowd that means no good: connections that say nothing, that dribble, and that ask without reading, from many addresses.
//!
//! One process's half of it, because of the descriptors. Whoever is sent away comes again. The tests of abuse use this very file.
//! Judging what it does to a node is absent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Half of it: each of two processes does as much.
pub const SILENT: usize = 5000;
pub const DRIBBLING: usize = 500;
pub const DEAF: usize = 500;
/// Connections from one address.
const OF_ONE_ADDRESS: usize = 50;
/// How long whoever was sent away waits before coming again.
const AGAIN: Duration = Duration::from_millis(10);
/// How often a dribbler sends a byte and a deaf one reads one.
const SLOWLY: Duration = Duration::from_secs(1);

/// What the crowd comes to, and with what.
pub struct Target {
    /// The node.
    pub address: SocketAddr,
    /// Which process this is: its addresses are in 127.PROCESS.0.0/16.
    pub process: u8,
    /// The application's key.
    pub key: String,
    /// The body of a request whose answer has no end.
    pub endless: String,
}

/// What is open now.
#[derive(Default)]
pub struct Open {
    silent: AtomicUsize,
    dribbling: AtomicUsize,
    deaf: AtomicUsize,
}

impl Open {
    /// Those that are silent, that dribble and that do not read.
    pub fn all(&self) -> [usize; 3] {
        [&self.silent, &self.dribbling, &self.deaf].map(|count| count.load(Ordering::SeqCst))
    }

    /// As many as were meant, but for those that were sent away and are about to come again.
    pub fn complete(&self) -> bool {
        let [silent, dribbling, deaf] = self.all();
        silent >= SILENT * 98 / 100 && dribbling >= DRIBBLING * 9 / 10 && deaf >= DEAF * 98 / 100
    }
}

/// Counted as long as it is there.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Target {
    async fn connect(&self, number: usize) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let [_, _, high, low] = u32::try_from(number / OF_ONE_ADDRESS + 1).unwrap_or(1).to_be_bytes();
        socket.bind(SocketAddr::from(([127, self.process, high, low], 0)))?;
        socket.connect(self.address).await
    }

    fn head(&self) -> String {
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n", self.key)
    }

    /// Says nothing for as long as it may.
    async fn silent(&self, number: usize, open: &Open) -> std::io::Result<()> {
        let mut stream = self.connect(number).await?;
        let _counted = Counted::new(&open.silent);
        stream.read(&mut [0]).await.map(drop)
    }

    /// Sends a byte a second, of its head or of its body.
    async fn dribble(&self, number: usize, open: &Open) -> std::io::Result<()> {
        let mut stream = self.connect(number).await?;
        let _counted = Counted::new(&open.dribbling);
        let body = if number.is_multiple_of(2) { "" } else { "content-length: 10000\r\n\r\n" };
        stream.write_all((self.head() + body).as_bytes()).await?;
        let mut byte = [0];
        loop {
            tokio::select! {
                _ = stream.read(&mut byte) => return Ok(()),
                () = tokio::time::sleep(SLOWLY) => stream.write_all(b"x").await?,
            }
        }
    }

    /// Asks for an answer without end and reads a byte a second of it.
    async fn deaf(&self, number: usize, open: &Open) -> std::io::Result<()> {
        let mut stream = self.connect(number).await?;
        let _counted = Counted::new(&open.deaf);
        let request = format!("{}content-length: {}\r\n\r\n{}", self.head(), self.endless.len(), self.endless);
        stream.write_all(request.as_bytes()).await?;
        while let 1.. = stream.read(&mut [0]).await? {
            tokio::time::sleep(SLOWLY).await;
        }
        Ok(())
    }

    async fn member(&self, number: usize, open: &Open) {
        loop {
            // Being sent away is what it came for.
            let _ = match number {
                0..SILENT => self.silent(number, open).await,
                number if number < SILENT + DRIBBLING => self.dribble(number, open).await,
                _ => self.deaf(number, open).await,
            };
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Lets one process's half of the crowd come, for as long as the runtime is there.
pub fn gather(runtime: &tokio::runtime::Handle, target: Target) -> Arc<Open> {
    let (open, target) = (Arc::<Open>::default(), Arc::new(target));
    for (first, count) in [(0, SILENT), (SILENT, DRIBBLING), (SILENT + DRIBBLING, DEAF)] {
        let (open, target) = (Arc::clone(&open), Arc::clone(&target));
        runtime.spawn(async move {
            for number in first..first + count {
                let (open, target) = (Arc::clone(&open), Arc::clone(&target));
                tokio::spawn(async move { target.member(number, &open).await });
                if number.is_multiple_of(100) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
    }
    open
}
