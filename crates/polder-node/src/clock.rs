//! The one place that reads the clock. What decides gets the instant as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in Unix milliseconds; 0 where the machine's clock stands before 1970, which no fact or capability survives.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}
