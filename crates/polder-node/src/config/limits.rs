//! How connections are served: the `[serve]` table as a person writes it, and what is made of it.
//!
//! Every limit has a value that suits a node on the open network, so that a file need not name any.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The `[serve]` table. Each field has its own default where it is absent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// Threads that serve connections; one for each core where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Whether another node of the same user may listen on the same addresses, to take over from this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_port: Option<bool>,
    /// Most connections of applications and operators at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<usize>,
    /// Most of them from one address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_address_max: Option<usize>,
    /// Seconds until the first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_s: Option<u64>,
    /// Seconds for a request's head, from its first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_s: Option<u64>,
    /// Seconds that a connection is kept between two requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_s: Option<u64>,
    /// Seconds after which a body must have come at `body_bytes_per_s_min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_grace_s: Option<u64>,
    /// Slowest body, in bytes a second since it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes_per_s_min: Option<u64>,
    /// Seconds that an answer may stand still because the client takes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_stall_s: Option<u64>,
    /// Seconds that requests under way have when the node is told to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_s: Option<u64>,
    /// Largest head of a request, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_bytes_max: Option<usize>,
    /// Most requests a second of one member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_requests_per_s: Option<u64>,
}

/// How connections are served.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Threads that serve connections.
    pub workers: usize,
    /// Whether another node of the same user may listen on the same addresses.
    pub share_port: bool,
    /// Most connections of applications and operators at once.
    pub connections_max: usize,
    /// Most of them from one address.
    pub connections_per_address_max: usize,
    /// Until the first byte.
    pub first_byte: Duration,
    /// For a request's head, from its first byte.
    pub header: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// After which a body must have come at the rate below.
    pub body_grace: Duration,
    /// Slowest body, in bytes a second.
    pub body_bytes_per_s_min: u64,
    /// How long an answer may stand still because the client takes nothing.
    pub write_stall: Duration,
    /// How long requests under way have when the node is told to stop.
    pub drain: Duration,
    /// Largest head of a request, in bytes.
    pub header_bytes_max: usize,
    /// Most requests a second of one member.
    pub peer_requests_per_s: u64,
}

/// Longest of the times, in seconds: beyond a day nothing would be limited.
const SECONDS_MAX: u64 = 86_400;
/// A head is held in the HTTP library's buffer, which is 64 KiB.
const HEADER_BYTES: std::ops::RangeInclusive<usize> = 1024..=48 << 10;

impl Serve {
    pub(crate) fn check(self, content: &dyn Fn(String) -> ConfigError) -> Result<Limits, ConfigError> {
        let seconds = |name: &str, value: Option<u64>, default: u64| match value.unwrap_or(default) {
            seconds @ 1..=SECONDS_MAX => Ok(Duration::from_secs(seconds)),
            other => Err(content(format!("serve: `{name}` is {other}: choose 1 to {SECONDS_MAX} seconds"))),
        };
        let count = |name: &str, value: Option<usize>, default: usize| match value.unwrap_or(default) {
            0 => Err(content(format!("serve: `{name}` must be at least 1"))),
            count => Ok(count),
        };
        let header_bytes_max = self.header_bytes_max.unwrap_or(32 << 10);
        if !HEADER_BYTES.contains(&header_bytes_max) {
            let (least, most) = (HEADER_BYTES.start(), HEADER_BYTES.end());
            let message = format!("serve: `header_bytes_max` is {header_bytes_max}: choose {least} to {most} bytes");
            return Err(content(message));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Limits {
            workers: count("workers", self.workers, cores)?,
            share_port: self.share_port.unwrap_or(false),
            connections_max: count("connections_max", self.connections_max, 16_384)?,
            connections_per_address_max: count("connections_per_address_max", self.connections_per_address_max, 1024)?,
            first_byte: seconds("first_byte_s", self.first_byte_s, 30)?,
            header: seconds("header_s", self.header_s, 10)?,
            idle: seconds("idle_s", self.idle_s, 120)?,
            body_grace: seconds("body_grace_s", self.body_grace_s, 10)?,
            body_bytes_per_s_min: self.body_bytes_per_s_min.unwrap_or(512),
            write_stall: seconds("write_stall_s", self.write_stall_s, 60)?,
            drain: seconds("drain_s", self.drain_s, 30)?,
            header_bytes_max,
            peer_requests_per_s: match self.peer_requests_per_s.unwrap_or(50_000) {
                0 => return Err(content("serve: `peer_requests_per_s` must be at least 1".to_owned())),
                count => count,
            },
        })
    }
}
