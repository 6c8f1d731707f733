//! Tests of what engines say of their load: a page of each kind, as its documentation describes it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const VLLM: &str = include_str!("pages/vllm.txt");
const SGLANG: &str = include_str!("pages/sglang.txt");
const LLAMA_CPP: &str = include_str!("pages/llamacpp.txt");
const TGI: &str = include_str!("pages/tgi.txt");

fn read(page: &str) -> Signals {
    of_metrics(page, &mut Counters::default()).unwrap()
}

#[test]
fn each_engine_is_understood() {
    let vllm = Signals {
        running: Some(5),
        waiting: Some(3),
        kv_used_permille: Some(625),
        prefix_hit_permille: Some(750),
        prefill_backlog_ms: Some(360),
        ttft_ms: Some(250),
    };
    assert_eq!(read(VLLM), vllm, "two engines in one server: counts are added, of shares the largest counts");
    let sglang = Signals {
        running: Some(7),
        waiting: Some(2),
        kv_used_permille: Some(310),
        prefix_hit_permille: Some(420),
        prefill_backlog_ms: None,
        ttft_ms: Some(180),
    };
    assert_eq!(read(SGLANG), sglang);
    assert_eq!(read(LLAMA_CPP), Signals { running: Some(1), waiting: Some(4), ..Signals::default() });
    assert_eq!(read(TGI), Signals { running: Some(12), waiting: Some(6), ..Signals::default() });
}

#[test]
fn means_are_of_late_and_survive_a_restart_of_the_engine() {
    let page = |hits: u32, queries: u32, sum: f64, count: u32, waiting: u32| {
        format!(
            "vllm:num_requests_waiting {waiting}\nvllm:prefix_cache_hits_total {hits}\n\
             vllm:prefix_cache_queries_total {queries}\nvllm:time_to_first_token_seconds_sum {sum}\n\
             vllm:time_to_first_token_seconds_count {count}\nvllm:request_prefill_time_seconds_sum {sum}\n\
             vllm:request_prefill_time_seconds_count {count}\n"
        )
    };
    let mut counters = Counters::default();
    let mut look = |page: String| {
        let signals = of_metrics(&page, &mut counters).unwrap();
        (signals.prefix_hit_permille, signals.ttft_ms, signals.prefill_backlog_ms)
    };
    assert_eq!(look(page(0, 1_000, 10.0, 10, 2)), (Some(0), Some(1_000), Some(2_000)));
    assert_eq!(look(page(900, 2_000, 11.0, 20, 2)), (Some(900), Some(100), Some(200)));
    assert_eq!(look(page(900, 2_000, 11.0, 20, 2)), (Some(900), Some(100), Some(200)), "nothing was added");
    assert_eq!(look(page(900, 2_000, 11.0, 20, 0)), (Some(900), Some(100), Some(0)), "nobody waits");
    assert_eq!(look(page(50, 100, 1.0, 2, 1)), (Some(500), Some(500), Some(500)), "it began anew");
}

#[test]
fn other_pages_say_nothing_and_broken_ones_are_refused() {
    assert!(read("process_cpu_seconds_total 3\n").is_empty());
    assert!(of_metrics("<html>not found</html>", &mut Counters::default()).is_err());
    let odd = "vllm:num_requests_running NaN\nvllm:num_requests_waiting 1e300\nvllm:kv_cache_usage_perc 7\n";
    assert_eq!(read(odd), Signals { kv_used_permille: Some(1_000), ..Signals::default() });
}

#[test]
fn of_slots_only_the_work_is_read() {
    let slots = br#"[{"id":0,"is_processing":true,"prompt":"secret","n_ctx":4096},{"id":1,"is_processing":false}]"#;
    assert_eq!(of_slots(slots), Ok(Signals { running: Some(1), ..Signals::default() }));
    for other in ["{}", "[1]", "[{\"id\":0}]", ""] {
        assert_eq!(of_slots(other.as_bytes()), Err("no list of slots".to_owned()), "{other}");
    }
}
