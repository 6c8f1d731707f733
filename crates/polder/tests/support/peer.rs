//! A peer's channel by hand: TLS 1.3 with raw keys, and just enough HTTP/2 for one request, so that a test can also come with a
//! key that nobody knows, or with none.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use polder_core::ids::NodeId;
use polder_core::keys::Role;
use polder_node::keys::NodeKeys;
use polder_node::peers::tls;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, SignatureScheme, StreamOwned};

/// Shows no key at all.
#[derive(Debug)]
struct NoKey;

impl ResolvesClientCert for NoKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Whom a channel comes from.
pub enum Peer<'a> {
    /// A member, whose keys lie in this folder.
    Member(&'a Path, &'a str),
    /// Somebody with a key that nobody pinned.
    Stranger,
    /// Somebody who shows none.
    Nobody,
}

fn transport(folder: &Path, node: &str) -> SigningKey {
    let keys = NodeKeys::open_or_create(&folder.join("state/keys"), &NodeId::parse(node).unwrap()).unwrap();
    keys.key(Role::Transport).unwrap().clone()
}

/// A factory's port for peers.
pub struct Port {
    /// Where it is.
    pub address: SocketAddr,
    /// The factory, and the key that it shows.
    pub node: NodeId,
    pub pin: [u8; 32],
}

impl Port {
    /// The port of a factory whose keys lie in a folder.
    pub fn of(folder: &Path, node: &str, address: SocketAddr) -> Self {
        let pin = transport(folder, node).verifying_key().to_bytes();
        Self { address, node: NodeId::parse(node).unwrap(), pin }
    }

    /// Asks once; the status and the body, or nothing where there is no channel.
    pub fn ask(&self, from: &Peer<'_>, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let key = match from {
            Peer::Member(folder, node) => transport(folder, node),
            Peer::Stranger | Peer::Nobody => SigningKey::from_bytes(&[77; 32]),
        };
        let mut config = rustls::ClientConfig::clone(&*tls::client_config(&key, &self.node, &[self.pin]).unwrap());
        if matches!(from, Peer::Nobody) {
            config.client_auth_cert_resolver = Arc::new(NoKey);
        }
        let name = ServerName::try_from("polder.invalid").unwrap();
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
        let settings = frame(4, 0, 0, &[]);
        let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat();
        let end = u8::from(body.is_empty());
        bytes.extend(frame(1, 4 | end, 1, &head(method, path)));
        if !body.is_empty() {
            bytes.extend(frame(0, 1, 1, body.as_bytes()));
        }
        stream.write_all(&bytes).ok()?;
        answer(&mut stream)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request's headers: from the static table where they stand in it, written out where not.
fn head(method: &str, path: &str) -> Vec<u8> {
    let text = |index: &[u8], value: &str| [index, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    let method = match method {
        "GET" => vec![0x82],
        "POST" => vec![0x83],
        other => text(&[0x02], other),
    };
    [method, vec![0x87], text(&[0x04], path), text(&[0x01], "x"), text(&[0x0f, 0x10], "application/json")].concat()
}

fn answer(stream: &mut impl std::io::Read) -> Option<(u16, String)> {
    let (mut status, mut body) = (None, Vec::new());
    loop {
        let mut front = [0; 9];
        stream.read_exact(&mut front).ok()?;
        let mut payload = vec![0; usize::from(front[0]) << 16 | usize::from(front[1]) << 8 | usize::from(front[2])];
        stream.read_exact(&mut payload).ok()?;
        let (kind, flags, of_ours) = (front[3], front[4], front[8] == 1);
        match kind {
            1 if of_ours => status = Some(status_of(&payload)),
            0 if of_ours => body.extend(&payload),
            // RST_STREAM and GOAWAY: there is no answer.
            3 | 7 => return None,
            _ => continue,
        }
        if flags & 1 == 1 {
            return Some((status?, String::from_utf8(body).unwrap()));
        }
    }
}

/// The status is the first header of every answer: from the static table, or three digits, mostly in Huffman's code.
fn status_of(block: &[u8]) -> u16 {
    // A change of the table's size may stand before it.
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    if block[0] & 0x80 != 0 {
        return [200, 204, 206, 304, 400, 404, 500][usize::from(block[0] & 0x7f) - 8];
    }
    assert_eq!(block[0] & 0x0f, 8, "the status comes first: {block:x?}");
    let (length, text) = (usize::from(block[1] & 0x7f), &block[2..]);
    if block[1] & 0x80 == 0 {
        return std::str::from_utf8(&text[..length]).unwrap().parse().unwrap();
    }
    let bits = text[..length].iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
    let (mut left, mut status) = (8 * length, 0);
    for _ in 0..3 {
        // 0 to 2 are 00000 to 00010; 3 to 9 are 011001 to 011111.
        let five = bits >> (left - 5) & 0x1f;
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            left -= 6;
            (bits >> left & 0x3f) - 0x19 + 3
        };
        status = status * 10 + u16::try_from(digit).unwrap();
    }
    status
}

#[test]
fn a_status_is_read_however_it_is_written() {
    assert_eq!([&[0x88][..], &[0x8d], &[0x20, 0x8c]].map(status_of), [200, 404, 400]);
    assert_eq!(status_of(&[0x48, 0x03, b'4', b'2', b'2']), 422);
    // 4 is 011010, 2 is 00010, 0 is 00000, 5 is 011011; what is left is filled up with ones.
    assert_eq!(status_of(&[0x48, 0x82, 0b0110_1000, 0b0100_0010]), 422);
    assert_eq!(status_of(&[0x48, 0x83, 0b0110_1000, 0b0000_1101, 0b1111_1111]), 405);
}
