//! TLS 1.3 between two pinned keys: raw public keys (RFC 7250), no certificates, no names, no third party.
//!
//! Each side proves that it holds the transport key that the other took from its card. Resumption and 0-RTT are absent, so that
//! every connection is a fresh proof.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use polder_core::ids::NodeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    version::TLS13,
};

use crate::clock::now_ms;
use crate::metrics;

/// The DER prefix of an Ed25519 SubjectPublicKeyInfo (RFC 8410); the 32 key bytes follow.
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Which node holds which transport key.
pub type Pins = BTreeMap<[u8; 32], NodeId>;

/// The protocol of a channel whose work comes from the side that was called: a node that can only connect outwards opens it.
pub const REVERSE: &[u8] = b"polder-reverse/1";

/// Who may come in now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doors {
    /// The members.
    pub pins: Pins,
    /// Keys of those who asked to join, or were members: they may hear what became of that, and nothing else.
    pub guests: BTreeSet<[u8; 32]>,
    /// Until when anybody may come with an invitation, in Unix milliseconds.
    pub open_until_ms: u64,
}

impl Doors {
    /// Whether a key may open a channel at an instant, for whatever.
    fn admits(&self, key: &[u8; 32], now_ms: u64) -> bool {
        self.pins.contains_key(key) || self.guests.contains(key) || now_ms < self.open_until_ms
    }
}

/// The transport key that a peer presented.
pub fn presented_key(certificates: Option<&[CertificateDer<'_>]>) -> Option<[u8; 32]> {
    key_of(certificates?.first()?)
}

fn key_of(spki: &[u8]) -> Option<[u8; 32]> {
    spki.strip_prefix(&ED25519_SPKI)?.try_into().ok()
}

fn own_key(key: &SigningKey, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
    let der = key.to_pkcs8_der().map_err(|e| Error::General(e.to_string()))?;
    let der = PrivateKeyDer::try_from(der.as_bytes().to_vec()).map_err(|e| Error::General(e.to_owned()))?;
    let spki = [ED25519_SPKI.as_slice(), key.verifying_key().as_bytes()].concat();
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], provider.key_provider.load_private_key(der)?)))
}

/// The key that a listening node shows; another one is shown to whoever comes from then on.
pub struct OwnKey(ArcSwap<CertifiedKey>);

impl OwnKey {
    /// Shows this key.
    pub fn new(key: &SigningKey) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self(ArcSwap::new(own_key(key, &ring::default_provider())?))))
    }

    /// Shows this key from now on.
    pub fn set(&self, key: &SigningKey) -> Result<(), Error> {
        self.0.store(own_key(key, &ring::default_provider())?);
        Ok(())
    }
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnKey")
    }
}

impl ResolvesServerCert for OwnKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

/// The configuration of a node that listens for those whom its doors admit when they come.
pub fn server_config(own: Arc<OwnKey>, doors: Arc<ArcSwap<Doors>>) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let pinned = Arc::new(Pinned { doors, provider: Arc::clone(&provider) });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(pinned)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec(), REVERSE.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The configuration of a node that connects to the one member that holds one of these keys.
pub fn client_config(key: &SigningKey, peer: &NodeId, keys: &[[u8; 32]]) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let own = own_key(key, &provider)?;
    let pins = keys.iter().map(|key| (*key, peer.clone())).collect();
    let doors = Arc::new(ArcSwap::from_pointee(Doors { pins, ..Doors::default() }));
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { doors, provider }))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(own)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The same for a channel whose work comes from the member.
pub fn reverse_config(key: &SigningKey, peer: &NodeId, keys: &[[u8; 32]]) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::clone(&*client_config(key, peer, keys)?);
    config.alpn_protocols = vec![REVERSE.to_vec()];
    Ok(Arc::new(config))
}

/// Accepts the keys that the doors admit and no others.
struct Pinned {
    doors: Arc<ArcSwap<Doors>>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pinned")
    }
}

impl Pinned {
    fn check(&self, presented: &CertificateDer<'_>) -> Result<(), Error> {
        match key_of(presented).filter(|key| self.doors.load().admits(key, now_ms())) {
            Some(_) => Ok(()),
            None => {
                metrics::peer_refused("unpinned");
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(presented.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signature, &self.provider.signature_verification_algorithms)
    }
}

const TLS12: &str = "TLS 1.2 is not spoken between peers";

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(TLS12.to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(TLS12.to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
