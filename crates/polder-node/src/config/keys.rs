//! Where the node's keys lie: the `[keys]` table as a person writes it, and what is made of it.
//!
//! Without it every key is a file in the state folder. Keys that a token cannot keep here (identity, transport, authority) are absent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use polder_core::keys::Role;
use serde::{Deserialize, Serialize};

use super::{ConfigError, read_text};
use crate::pkcs11::TokenConfig;

/// The environment variable that holds the PIN where no file does.
pub const PIN_VARIABLE: &str = "POLDER_PKCS11_PIN";

/// The `[keys]` table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The PKCS#11 module, a shared library.
    pub pkcs11: PathBuf,
    /// The token's label.
    pub token: String,
    /// The file that holds the user's PIN; the variable `POLDER_PKCS11_PIN` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_file: Option<PathBuf>,
    /// The label of each key that lies in the token, by its use: `log`, `witness`.
    pub labels: BTreeMap<Role, String>,
}

/// Which keys lie in a token.
#[derive(Debug, Clone)]
pub struct KeysConfig {
    /// The token.
    pub token: TokenConfig,
    /// The label of the log's key.
    pub log: Option<String>,
    /// The label of the witness's key.
    pub witness: Option<String>,
}

impl Keys {
    pub(super) fn check(
        self,
        folder: &Path,
        content: &dyn Fn(String) -> ConfigError,
    ) -> Result<KeysConfig, ConfigError> {
        let fits = |role: &Role| matches!(role, Role::Log | Role::Witness);
        if self.labels.is_empty() || !self.labels.keys().all(fits) {
            let message = "keys: `[keys.labels]` names `log`, `witness` or both: the other keys lie in files";
            return Err(content(message.to_owned()));
        }
        let pin = match &self.pin_file {
            Some(file) => {
                let path = folder.join(file);
                crate::keys::check_private(&path).map_err(|error| content(error.to_string()))?;
                read_text(&path)?
            }
            None => std::env::var(PIN_VARIABLE)
                .map_err(|_| content(format!("keys: no PIN: name a `pin_file`, or set {PIN_VARIABLE}")))?,
        };
        let pin = pin.trim().to_owned();
        if pin.is_empty() {
            return Err(content("keys: the PIN is empty".to_owned()));
        }
        let label = |role: Role| self.labels.get(&role).cloned();
        let (log, witness) = (label(Role::Log), label(Role::Witness));
        // A name without a folder is looked for where the system keeps libraries.
        let module = if self.pkcs11.components().count() > 1 { folder.join(&self.pkcs11) } else { self.pkcs11 };
        Ok(KeysConfig { token: TokenConfig { module, token: self.token, pin }, log, witness })
    }
}
