//! Names of things: one type per kind of thing, so that a tenant can never stand where a factory belongs.
//!
//! Ids are checked when they are made and are plain text afterwards. Randomness is absent: whoever
//! needs a fresh id brings its bytes.

use serde::{Deserialize, Serialize};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: use {rule}")]
pub struct IdError {
    kind: &'static str,
    rule: &'static str,
    text: String,
}

const SLUG_RULE: &str = "1 to 63 of a-z, 0-9, `-` and `.`, beginning with a letter or digit";
const MODEL_RULE: &str = "1 to 128 of letters, digits and `._:/-`, beginning with a letter or digit";
const TOKEN_RULE: &str = "a prefix, `-`, and 32 lower-case hexadecimal digits";

fn is_slug(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

fn is_model(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b))
}

fn is_token(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(prefix, hex)| {
        is_slug(prefix) && hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident, $rule:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a text and makes it an id.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take(64).collect();
                    Err(IdError { kind: $kind, rule: $rule, text })
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// A node: one running daemon. A factory node's id is also its factory's id.
    NodeId, "node name", is_slug, SLUG_RULE;
    /// Someone whose work runs: the owner of policies, projects and keys.
    TenantId, "tenant name", is_slug, SLUG_RULE;
    /// A part of a tenant's work, with labels of its own.
    ProjectId, "project name", is_slug, SLUG_RULE;
    /// Compute granted, as money that its accountant keeps.
    AwardId, "award name", is_slug, SLUG_RULE;
    /// Who signs a fact.
    IssuerId, "issuer name", is_slug, SLUG_RULE;
    /// A model, as requests name it.
    ModelId, "model name", is_model, MODEL_RULE;
    /// One decision: `decision-`, 6 bytes of its time and 10 random bytes.
    DecisionId, "decision id", is_token, TOKEN_RULE;
}

impl DecisionId {
    /// The id of a decision made at an instant in Unix milliseconds: 6 bytes of that, then 10 random bytes that the caller
    /// brings. Ids of one node sort by time, so that an index over them grows at its end only.
    pub fn at(now_ms: u64, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        let (time, rest) = bytes.split_at_mut(6);
        time.copy_from_slice(now_ms.to_be_bytes().get(2..).unwrap_or_default());
        rest.copy_from_slice(&random);
        Self(format!("decision-{}", hex::encode(bytes)))
    }

    /// The instant in the id, in Unix milliseconds.
    pub fn at_ms(&self) -> u64 {
        let digits = self.0.rsplit_once('-').and_then(|(_, digits)| digits.get(..12));
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
    }
}
