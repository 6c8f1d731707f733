//! Keys in a token behind PKCS#11: the node asks it to sign, and never sees the key.
//!
//! A key is found by its label or by its public half, which must lie beside it in the token. Signatures are Ed25519 (`CKM_EDDSA`, pure).
//! Making keys is absent: that is the token's owner's affair, with the token's own tools. The PIN is in no message and no log line.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use ed25519_dalek::VerifyingKey;
use polder_core::note::Signs;

/// Where the token is, and how it is opened.
#[derive(Clone)]
pub struct TokenConfig {
    /// The PKCS#11 module: a shared library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The user's PIN.
    pub pin: String,
}

/// Without the PIN.
impl std::fmt::Debug for TokenConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "token `{}` of `{}`", self.token, self.module.display())
    }
}

/// Why a token cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The module cannot be loaded.
    #[error("keys: the PKCS#11 module `{module}` cannot be used: {reason}")]
    Module {
        /// Which.
        module: String,
        /// Why.
        reason: String,
    },
    /// There is no such token.
    #[error("keys: no token `{token}` is there; the module knows: {known}")]
    Token {
        /// Which.
        token: String,
        /// The labels of those that there are.
        known: String,
    },
    /// The token refuses the PIN.
    #[error(
        "keys: the token `{token}` refuses the PIN ({reason}): look at `pin_file`, or POLDER_PKCS11_PIN; a few wrong ones lock it"
    )]
    Pin {
        /// Which token.
        token: String,
        /// What it says.
        reason: String,
    },
    /// The token has no such key.
    #[error(
        "keys: the token `{token}` has no Ed25519 key {wanted}: make one with its own tools, such as `pkcs11-tool --login --keypairgen \
         --key-type EC:edwards25519 --label LABEL`"
    )]
    Key {
        /// Which token.
        token: String,
        /// Which key.
        wanted: String,
    },
    /// The token failed.
    #[error("keys: the token `{token}` failed: {reason}")]
    Failed {
        /// Which token.
        token: String,
        /// What it says.
        reason: String,
    },
}

/// An open token.
pub struct Token {
    config: TokenConfig,
    module: Pkcs11,
    /// A session takes one call at a time. `None` where the last one broke.
    session: Mutex<Option<Session>>,
}

/// A key in a token.
pub struct TokenKey {
    token: Arc<Token>,
    public: VerifyingKey,
}

impl Token {
    /// Loads the module and opens the token.
    pub fn open(config: TokenConfig) -> Result<Arc<Self>, TokenError> {
        let failed = |reason: String| TokenError::Module { module: config.module.display().to_string(), reason };
        let module = Pkcs11::new(&config.module).map_err(|error| failed(error.to_string()))?;
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        let token = Self { config, module, session: Mutex::default() };
        let session = token.connect()?;
        *token.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        Ok(Arc::new(token))
    }

    fn failed(&self, error: &Error) -> TokenError {
        TokenError::Failed { token: self.config.token.clone(), reason: error.to_string() }
    }

    /// A session in which the user is logged in.
    fn connect(&self) -> Result<Session, TokenError> {
        let mut known = Vec::new();
        let mut found = None;
        for slot in self.module.get_slots_with_initialized_token().map_err(|e| self.failed(&e))? {
            // A token that goes away meanwhile is none.
            let Ok(info) = self.module.get_token_info(slot) else { continue };
            if info.label() == self.config.token {
                found = Some(slot);
            }
            known.push(format!("`{}`", info.label()));
        }
        let none = || TokenError::Token {
            token: self.config.token.clone(),
            known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
        };
        let session = self.module.open_ro_session(found.ok_or_else(none)?).map_err(|e| self.failed(&e))?;
        match session.login(UserType::User, Some(&AuthPin::new(self.config.pin.clone().into()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error @ Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinLocked, _)) => {
                Err(TokenError::Pin { token: self.config.token.clone(), reason: error.to_string() })
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Uses the session, once more with a new one where the first breaks.
    fn with<T>(&self, work: impl Fn(&Session) -> Result<T, Error>) -> Result<T, TokenError> {
        let mut held = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = held.as_ref()
            && let Ok(done) = work(session)
        {
            return Ok(done);
        }
        // The old session goes first: some tokens have few.
        *held = None;
        let session = self.connect()?;
        let done = work(&session).map_err(|error| self.failed(&error));
        *held = Some(session);
        done
    }

    /// The Ed25519 public keys in the token, each with its label.
    fn publics(&self) -> Result<Vec<(String, VerifyingKey)>, TokenError> {
        self.with(|session| {
            let wanted = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(KeyType::EC_EDWARDS)];
            let mut found = Vec::new();
            for handle in session.find_objects(&wanted)? {
                let (mut label, mut point) = (String::new(), None);
                for attribute in session.get_attributes(handle, &[AttributeType::Label, AttributeType::EcPoint])? {
                    match attribute {
                        Attribute::Label(bytes) => label = String::from_utf8_lossy(&bytes).into_owned(),
                        Attribute::EcPoint(bytes) => point = point_of(&bytes),
                        _ => {}
                    }
                }
                found.extend(point.map(|key| (label, key)));
            }
            Ok(found)
        })
    }

    /// The key of a label.
    pub fn by_label(self: &Arc<Self>, label: &str) -> Result<TokenKey, TokenError> {
        let found = self.publics()?.into_iter().find(|(name, _)| name == label);
        self.key(found.map(|(_, key)| key), format!("`{label}`"))
    }

    /// The key with a public half.
    pub fn by_public(self: &Arc<Self>, public: &[u8; 32]) -> Result<TokenKey, TokenError> {
        let found = self.publics()?.into_iter().find(|(_, key)| key.as_bytes() == public);
        self.key(found.map(|(_, key)| key), hex::encode(public))
    }

    fn key(self: &Arc<Self>, public: Option<VerifyingKey>, wanted: String) -> Result<TokenKey, TokenError> {
        let missing = || TokenError::Key { token: self.config.token.clone(), wanted: wanted.clone() };
        let key = TokenKey { token: Arc::clone(self), public: public.ok_or_else(missing)? };
        // A public half without its private one signs nothing; better found now than at the first checkpoint.
        let message = b"polder/key-is-there/v1";
        let signature = key.sign_bytes(message).map_err(|reason| TokenError::Failed {
            token: self.config.token.clone(),
            reason: format!("the key {wanted} does not sign: {reason}"),
        })?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature);
        key.public.verify_strict(message, &signature).map_err(|_| TokenError::Failed {
            token: self.config.token.clone(),
            reason: format!("what it signs with the key {wanted} is not an Ed25519 signature of it"),
        })?;
        Ok(key)
    }
}

/// The public key in `CKA_EC_POINT`: 32 bytes, in a DER octet string as PKCS#11 says, or bare as some tokens have it.
fn point_of(bytes: &[u8]) -> Option<VerifyingKey> {
    let bare = match bytes {
        [0x04, 0x20, rest @ ..] if rest.len() == 32 => rest,
        rest => rest,
    };
    VerifyingKey::from_bytes(bare.try_into().ok()?).ok()
}

/// The private key beside a public one: that of the same id.
fn private_of(session: &Session, public: &VerifyingKey) -> Result<Option<ObjectHandle>, Error> {
    let wanted = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(KeyType::EC_EDWARDS)];
    for handle in session.find_objects(&wanted)? {
        let (mut id, mut same) = (None, false);
        for attribute in session.get_attributes(handle, &[AttributeType::Id, AttributeType::EcPoint])? {
            match attribute {
                Attribute::Id(bytes) => id = Some(bytes),
                Attribute::EcPoint(bytes) => same = point_of(&bytes) == Some(*public),
                _ => {}
            }
        }
        if let (true, Some(id)) = (same, id) {
            let wanted = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(id)];
            return Ok(session.find_objects(&wanted)?.into_iter().next());
        }
    }
    Ok(None)
}

impl Signs for TokenKey {
    fn public(&self) -> VerifyingKey {
        self.public
    }

    fn sign_bytes(&self, message: &[u8]) -> Result<[u8; 64], String> {
        let signed = self.token.with(|session| {
            let Some(handle) = private_of(session, &self.public)? else { return Ok(None) };
            let pure = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
            session.sign(&pure, handle, message).map(Some)
        });
        let bytes = signed.map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or("the token has the public key only: its private half is gone")?;
        bytes.try_into().map_err(|_| "the token's signature is not 64 bytes".to_owned())
    }
}
