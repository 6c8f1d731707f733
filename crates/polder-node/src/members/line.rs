//! An invitation as one line that people paste: a name, a colon, and its JSON in base64 for URLs.
//!
//! Checking what it says is absent: the machine does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use polder_core::keys::Signed;
use polder_core::membership::Invitation;

/// What the line begins with.
const NAME: &str = "polder-invitation-1:";
/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: usize = 16 << 10;

/// The line of an invitation.
pub fn to_line(invitation: &Signed<Invitation>) -> serde_json::Result<String> {
    Ok(format!("{NAME}{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(invitation)?)))
}

/// The invitation of a line; white space around and in it does no harm, because mail programs put some there.
pub fn from_line(text: &str) -> Result<Signed<Invitation>, String> {
    if text.len() > LINE_BYTES_MAX {
        return Err(format!("this is longer than any invitation, which has at most {LINE_BYTES_MAX} bytes"));
    }
    let line: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    let line = line.strip_prefix(NAME).ok_or_else(|| {
        format!("this is no invitation: one begins with `{NAME}`; `polder invite` at the other node makes one")
    })?;
    let bytes = URL_SAFE_NO_PAD.decode(line).map_err(|_| "the invitation is damaged: copy it once more".to_owned())?;
    serde_json::from_slice(&bytes).map_err(|_| "the invitation is damaged: copy it once more".to_owned())
}
