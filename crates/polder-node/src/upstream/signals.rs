//! What engines say of their load: vLLM, SGLang, llama.cpp's server and TGI, each in its own names, read into one shape.
//!
//! `/metrics` at the engine's origin, and llama.cpp's `/slots` where there is none. Asked every few seconds, for at most two
//! seconds and a mebibyte; what is not understood is no signal and no failure. Absent: other engines' names (they add a row
//! to [`KINDS`]), and using any of it as a rule: signals only weigh among those that may run a request.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use tokio::time::timeout;

use super::Upstream;
use super::exposition::{Total, totals};
use crate::inference::Signals;

/// Largest page that is read, in bytes.
const PAGE_BYTES_MAX: usize = 1 << 20;
const PAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// What one kind of engine calls its numbers; of several names the first that is there counts.
struct Kind {
    /// What all its names begin with.
    prefix: &'static str,
    running: &'static [&'static str],
    waiting: &'static [&'static str],
    /// A share from 0 to 1.
    kv_used: &'static [&'static str],
    /// A share from 0 to 1.
    hit_share: &'static [&'static str],
    /// Counters of tokens.
    hits: &'static [&'static str],
    queries: &'static [&'static str],
    /// Histograms in seconds, without `_sum` and `_count`.
    ttft: &'static str,
    prefill: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind {
        prefix: "vllm:",
        running: &["vllm:num_requests_running"],
        waiting: &["vllm:num_requests_waiting"],
        kv_used: &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
        hit_share: &[],
        hits: &["vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits_total"],
        queries: &[
            "vllm:prefix_cache_queries_total",
            "vllm:prefix_cache_queries",
            "vllm:gpu_prefix_cache_queries_total",
        ],
        ttft: "vllm:time_to_first_token_seconds",
        prefill: "vllm:request_prefill_time_seconds",
    },
    Kind {
        prefix: "sglang:",
        running: &["sglang:num_running_reqs"],
        waiting: &["sglang:num_queue_reqs"],
        kv_used: &["sglang:token_usage"],
        hit_share: &["sglang:cache_hit_rate"],
        hits: &[],
        queries: &[],
        ttft: "sglang:time_to_first_token_seconds",
        prefill: "",
    },
    Kind {
        prefix: "llamacpp:",
        running: &["llamacpp:requests_processing"],
        waiting: &["llamacpp:requests_deferred"],
        kv_used: &["llamacpp:kv_cache_usage_ratio"],
        hit_share: &[],
        hits: &[],
        queries: &[],
        ttft: "",
        prefill: "",
    },
    Kind {
        prefix: "tgi_",
        running: &["tgi_batch_current_size"],
        waiting: &["tgi_queue_size"],
        kv_used: &[],
        hit_share: &[],
        hits: &[],
        queries: &[],
        ttft: "",
        prefill: "",
    },
];

/// Counters as they stood at the last look: what happened of late is what was added since.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counters {
    hits: f64,
    queries: f64,
    ttft: (f64, f64),
    prefill: (f64, f64),
    /// What was made of them; kept while nothing is added.
    last: Signals,
}

/// The signals on a page of metrics. Nothing where it is of no kind that is known here.
pub fn of_metrics(text: &str, before: &mut Counters) -> Result<Signals, String> {
    let totals = totals(text)?;
    let Some(kind) = KINDS.iter().find(|kind| totals.keys().any(|name| name.starts_with(kind.prefix))) else {
        return Ok(Signals::default());
    };
    let first = |names: &[&str]| names.iter().find_map(|name| totals.get(name)).copied();
    let hits = first(kind.hits).zip(first(kind.queries)).map(|(hits, queries)| (hits.sum, queries.sum));
    let (ttft, prefill) = (histogram(&totals, kind.ttft), histogram(&totals, kind.prefill));
    let of_late = |now: Option<(f64, f64)>, then: (f64, f64)| {
        // A counter that fell began anew with its engine.
        now.map(|now| if now.1 < then.1 { now } else { (now.0 - then.0, now.1 - then.1) })
            .filter(|(_, count)| *count > 0.0)
    };
    let mean_ms = |added: Option<(f64, f64)>| added.and_then(|(sum, count)| whole(sum / count * 1_000.0));
    let waiting = first(kind.waiting).and_then(|total| whole(total.sum));
    let last = before.last;
    let share = of_late(hits, (before.hits, before.queries)).and_then(|(hits, queries)| permille(hits / queries));
    let gauge = first(kind.hit_share).and_then(|total| permille(total.max));
    let prefill_ms = mean_ms(of_late(prefill, before.prefill));
    let backlog = prefill_ms.zip(waiting).map(|(mean, waiting)| mean.saturating_mul(waiting));
    let signals = Signals {
        running: first(kind.running).and_then(|total| whole(total.sum)),
        waiting,
        kv_used_permille: first(kind.kv_used).and_then(|total| permille(total.max)),
        prefix_hit_permille: share.or(gauge).or(last.prefix_hit_permille),
        // Nobody waits, nothing is owed; else the last word holds until there is another.
        prefill_backlog_ms: backlog.or(last.prefill_backlog_ms.map(|last| if waiting == Some(0) { 0 } else { last })),
        ttft_ms: mean_ms(of_late(ttft, before.ttft)).or(last.ttft_ms),
    };
    let (hits, queries) = hits.unwrap_or_default();
    let (ttft, prefill) = (ttft.unwrap_or_default(), prefill.unwrap_or_default());
    *before = Counters { hits, queries, ttft, prefill, last: signals };
    Ok(signals)
}

/// The signals in llama.cpp's list of slots. Only whether each is at work is read: a slot may show its prompt.
pub fn of_slots(bytes: &[u8]) -> Result<Signals, String> {
    #[derive(Deserialize)]
    struct Slot {
        is_processing: bool,
    }
    let slots: Vec<Slot> = serde_json::from_slice(bytes).map_err(|_| "no list of slots".to_owned())?;
    let running = slots.iter().filter(|slot| slot.is_processing).count();
    Ok(Signals { running: u64::try_from(running).ok(), ..Signals::default() })
}

/// Sum and count of a histogram or summary.
fn histogram(totals: &BTreeMap<&str, Total>, name: &str) -> Option<(f64, f64)> {
    let part = |end: &str| totals.get(format!("{name}{end}").as_str()).map(|total| total.sum);
    (!name.is_empty()).then(|| part("_sum").zip(part("_count"))).flatten()
}

/// A number as a whole one, rounded; nothing where it is none or beyond counting.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Looked at before.
fn whole(value: f64) -> Option<u64> {
    (value.is_finite() && (0.0..1e15).contains(&value)).then(|| value.round() as u64)
}

/// A share from 0 to 1 in thousandths.
fn permille(share: f64) -> Option<u64> {
    whole(share * 1_000.0).map(|permille| permille.min(1_000))
}

impl Upstream {
    /// Asks the engine how loaded it is. `None` where it offers nothing that is understood here.
    pub(super) async fn signals(&self, before: &mut Counters) -> Option<Signals> {
        if let Ok(page) = self.page("/metrics").await
            && let Ok(text) = std::str::from_utf8(&page)
            && let Ok(signals) = of_metrics(text, before)
            && !signals.is_empty()
        {
            return Some(signals);
        }
        let slots = self.page("/slots").await.and_then(|page| of_slots(&page));
        slots.inspect_err(|reason| tracing::debug!(reason, "the engine tells nothing of its load")).ok()
    }

    /// A page at the engine's origin, with its key: the key goes nowhere else, and no redirect is followed.
    async fn page(&self, path: &str) -> Result<Bytes, String> {
        let read = async {
            let (head, mut busy) = self.pool.send(&self.written("GET", path, None, &[])).await?;
            if head.status != StatusCode::OK {
                return Err(format!("status {}", head.status.as_u16()));
            }
            let page = busy.read(PAGE_BYTES_MAX).await?;
            busy.give_back();
            Ok(page)
        };
        timeout(PAGE_TIMEOUT, read).await.unwrap_or_else(|_| Err("no page in time".to_owned()))
    }
}

#[cfg(test)]
mod tests;
