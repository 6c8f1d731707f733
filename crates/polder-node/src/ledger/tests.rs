//! Tests of the node's ledger on its real tables: keys, guesses, tranches, and what is left after a crash.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::StreamExt as _;
use polder_core::canonical::Digest;
use polder_core::ids::{DecisionId, NodeId, ProjectId, TenantId};
use polder_core::labels::{DataClass, Labels, Purpose};
use polder_core::ledger::{Budget, Limits, Short, Window};
use polder_core::placement::Weights;

use super::*;
use crate::config::{Admission, ApiKey};
use crate::inference::{Delta, EngineError, Event, StopCause, Usage};

/// A price at which a token costs a micro-euro.
const PRICE: u64 = 1_000_000;

struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("polder-ledger-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    async fn store(&self) -> Store {
        Store::open(&self.0.join("node.db")).await.unwrap()
    }

    async fn ledger(&self) -> Arc<Ledger> {
        Arc::new(Ledger::open(&config(), self.store().await).await.unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn config() -> HomeConfig {
    let project = ProjectId::parse("desk").unwrap();
    let labels =
        Labels { class: DataClass::Public, purposes: [Purpose::Finance].into(), countries: None, language: None };
    HomeConfig {
        jobs: crate::config::HomeJobs::default().check(&|message| panic!("{message}")).unwrap(),
        tenant: TenantId::parse("bank").unwrap(),
        baseline: "unused".into(),
        policy: "unused".into(),
        trust: Vec::new(),
        content: crate::content::ContentLimits { bytes_max: 1 << 20, days: 1 },
        routing: crate::config::Routing::default(),
        weights: Weights { price: 1, load: 1, latency: 1, ..Weights::default() },
        projects: [(project.clone(), labels)].into(),
        strict: Default::default(),
        keys: vec![ApiKey { sha256: Digest(digest_of("written-down")), project }],
        guardrails: Vec::new(),
        solver: None,
        frameworks: Vec::new(),
        admission: Admission { failed_keys_per_minute: 3, ..Admission::default() },
        batches: Default::default(),
    }
}

fn budget(microeur: u64) -> Limits {
    Limits { budget: Some(Budget { microeur, window: Window::Total }), ..Limits::default() }
}

fn asked(paid_max: Option<u64>, pieces: bool) -> Asked {
    Asked { prompt: 3, paid_max, pieces, price_max: PRICE, reads: false }
}

async fn key(ledger: &Ledger, limits: &Limits) -> (String, Arc<Key>) {
    let made = ledger.create_key("desk", "test", None, limits).await.unwrap();
    let key = ledger.identify(&made.key, None, now_ms()).unwrap();
    (made.key, key)
}

#[tokio::test]
async fn a_key_is_known_by_its_secret_and_nothing_else() {
    let folder = Folder::new();
    let ledger = folder.ledger().await;
    let (text, key) = key(&ledger, &Limits::default()).await;
    let now = now_ms();
    assert_eq!(ledger.identify("written-down", None, now).unwrap().id.len(), "config-".len() + 12);
    let (id, _) = text.split_at("sk-polder-".len() + 16);
    let wrong = [
        "",
        "sk-polder-",
        "Written-down",
        &text[..text.len() - 1],
        &format!("{text}x"),
        id,
        &format!("sk-polder-{}", &key.id),
        &text.replace("sk-polder-", "sk-Polder-"),
        &format!("sk-polder-0000000000000000{}", &text[26..]),
        "sk-polder-é0000000000000000",
        "sk-polder-000000000000000é-",
    ];
    for wrong in wrong {
        assert_eq!(ledger.identify(wrong, None, now).unwrap_err(), Denied::Unknown, "{wrong}");
    }
    let bytes = std::fs::read(folder.0.join("node.db-wal")).unwrap();
    assert!(!bytes.windows(20).any(|window| window == &text.as_bytes()[text.len() - 20..]), "no secret is stored");
    // The same after a restart.
    drop(ledger);
    assert_eq!(folder.ledger().await.identify(&text, None, now).unwrap().id, key.id);
}

#[tokio::test]
async fn rotation_overlaps_expiry_ends_and_revocation_is_at_once() {
    let folder = Folder::new();
    let ledger = folder.ledger().await;
    let (first, key) = key(&ledger, &Limits::default()).await;
    let second = ledger.rotate_key(&key.id, 60_000).await.unwrap().key;
    let now = now_ms();
    assert!(ledger.identify(&first, None, now).is_ok() && ledger.identify(&second, None, now).is_ok());
    assert!(
        ledger.identify(&first, None, now + 60_001).is_err() && ledger.identify(&second, None, now + 60_001).is_ok()
    );
    let third = ledger.rotate_key(&key.id, 0).await.unwrap().key;
    assert!(ledger.identify(&second, None, now).is_err() && ledger.identify(&third, None, now).is_ok());

    let expires = now + 5_000;
    let made = ledger.create_key("desk", "", Some(expires), &Limits::default()).await.unwrap();
    assert!(
        ledger.identify(&made.key, None, expires - 1).is_ok() && ledger.identify(&made.key, None, expires).is_err()
    );

    ledger.revoke_key(&key.id).await.unwrap();
    assert!(ledger.identify(&third, None, now).is_err() && key.is_revoked());
    assert!(ledger.rotate_key(&key.id, 0).await.is_err() && ledger.revoke_key(&key.id).await.is_err());
    assert!(folder.ledger().await.identify(&third, None, now).is_err(), "also after a restart");
    assert!(ledger.create_key("nowhere", "", None, &Limits::default()).await.is_err());
}

#[tokio::test]
async fn guesses_are_slowed_down_and_do_not_lock_others_out() {
    let folder = Folder::new();
    let ledger = folder.ledger().await;
    let (good, _) = key(&ledger, &Limits::default()).await;
    let (other, _) = key(&ledger, &Limits::default()).await;
    let from = |last| Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
    let now = now_ms();
    assert!(ledger.identify(&good, from(1), now).is_ok());
    for _ in 0..3 {
        assert_eq!(ledger.identify("guess", from(1), now).unwrap_err(), Denied::Unknown);
    }
    assert!(matches!(ledger.identify("guess", from(1), now), Err(Denied::Guessing(1..=60_000))));
    // A key that is right is no shorter way; one that was used from here before is nobody's guess.
    assert!(matches!(ledger.identify(&other, from(1), now), Err(Denied::Guessing(_))));
    assert!(ledger.identify(&good, from(1), now).is_ok() && ledger.identify(&other, from(2), now).is_ok());
    assert_eq!(ledger.identify("guess", from(1), now + 60_000).unwrap_err(), Denied::Unknown);
    for last in 0..=255 {
        for third in 0..=255 {
            let address = IpAddr::V4(Ipv4Addr::new(10, 0, third, last));
            assert_eq!(ledger.identify("guess", Some(address), now).unwrap_err(), Denied::Unknown);
        }
    }
}

#[tokio::test]
async fn a_budget_is_spent_to_its_end_and_no_further() {
    let folder = Folder::new();
    let ledger = folder.ledger().await;
    ledger.set_limits("project/desk", &budget(1_000)).await.unwrap();
    let (_, key) = key(&ledger, &Limits::default()).await;
    let flusher = flushing(&ledger);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (ledger, key) = (Arc::clone(&ledger), Arc::clone(&key));
        tasks.spawn(async move {
            let mut meter = ledger.meter(&key, &asked(Some(20), false)).await?;
            meter.sending();
            meter.placed(&DecisionId::at(now_ms(), random().unwrap()), &NodeId::parse("here").unwrap(), PRICE);
            tokio::task::yield_now().await;
            meter.used(5, 20);
            Ok::<_, Stop>(())
        });
    }
    let ended = tasks.join_all().await;
    assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 50);
    let refused = Stop::Limit(Level::Project, Short::Money { last: true });
    assert!(ended.iter().flat_map(|ended| ended.as_ref().err()).all(|stop| *stop == refused), "{ended:?}");
    let shown = ledger.budgets_shown().await.unwrap();
    assert_eq!((&shown[0]["spent_microeur"], &shown[0]["left_microeur"]), (&1_000.into(), &0.into()), "{shown:?}");
    let used = ledger.usage_since(0).await.unwrap();
    let counts = Counts { requests: 50, prompt_tokens: 250, completion_tokens: 1_000, microeur: 1_000 };
    assert_eq!((used.len(), used[0].counts), (1, counts));
    flusher.abort();
}

fn flushing(ledger: &Arc<Ledger>) -> tokio::task::JoinHandle<()> {
    let ledger = Arc::clone(ledger);
    tokio::spawn(async move {
        loop {
            ledger.low.notified().await;
            ledger.flush(false).await.unwrap();
        }
    })
}

fn delta() -> Result<Event, EngineError> {
    Ok(Event::Delta(Delta { content: Some("abc".to_owned()), ..Delta::default() }))
}

#[tokio::test]
async fn a_stream_is_extended_and_stopped_when_nothing_is_left() {
    let folder = Folder::new();
    let ledger = folder.ledger().await;
    let (_, key) = key(&ledger, &budget(2_000)).await;
    let flusher = flushing(&ledger);
    let mut meter = ledger.meter(&key, &asked(None, true)).await.unwrap();
    meter.sending();
    meter.placed(&DecisionId::at(7, [7; 10]), &NodeId::parse("here").unwrap(), PRICE);
    let endless = futures_util::stream::repeat_with(delta);
    let events: Vec<_> = meter.watch(endless).collect().await;
    let stopped = Err(EngineError::Stopped { cause: StopCause::Quota });
    assert_eq!(events.last(), Some(&stopped));
    // Three pieces of 512 tokens fit into 2,000; the last of each is kept for what is on its way.
    assert!((1_400..1_536).contains(&events.len()), "{}", events.len());
    assert_eq!(ledger.state().uncertain.len(), 1, "what it really used is asked for");
    let mut one = ledger.state().uncertain.pop().unwrap();
    one.meter.told(Usage { prompt_tokens: 3, completion_tokens: 1_480 });
    let shown = ledger.budgets_shown().await.unwrap();
    assert_eq!(shown[0]["spent_microeur"], 1_480, "{shown:?}");
    flusher.abort();
}

#[tokio::test]
async fn a_revoked_key_ends_its_answers_at_once() {
    let folder = Folder::new();
    let ledger = folder.ledger().await;
    let (_, key) = key(&ledger, &Limits::default()).await;
    let meter = ledger.meter(&key, &asked(Some(9), true)).await.unwrap();
    let silent = Box::pin(futures_util::stream::once(async { delta() }).chain(futures_util::stream::pending()));
    let mut events = Box::pin(meter.watch(silent));
    assert_eq!(events.next().await, Some(delta()));
    let (told, ended) = tokio::join!(events.next(), ledger.revoke_key(&key.id));
    assert_eq!(told, Some(Err(EngineError::Stopped { cause: StopCause::Revoked })));
    ended.unwrap();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn what_a_crash_loses_counts_as_spent_until_it_is_reconciled() {
    let folder = Folder::new();
    let before = folder.ledger().await;
    let (text, key) = key(&before, &budget(6_400)).await;
    before.flush(false).await.unwrap();
    let mut meter = before.meter(&key, &asked(Some(60), false)).await.unwrap();
    meter.sending();
    let decision = DecisionId::at(9, [9; 10]);
    meter.placed(&decision, &NodeId::parse("here").unwrap(), PRICE);
    before.flush(false).await.unwrap();
    // The process is gone: nothing of it settles.
    std::mem::forget(meter);

    let after = folder.ledger().await;
    let shown = after.budgets_shown().await.unwrap();
    let lost = shown[0]["lost_microeur"].as_u64().unwrap();
    assert!((60..=400).contains(&lost), "{shown:?}");
    assert_eq!(shown[0]["left_microeur"], 6_400 - lost);
    assert!(after.release_lost().await.unwrap().is_empty(), "an answer is still asked after");
    let answers = after.store.lost_answers(&after.boot).await.unwrap();
    assert_eq!((answers.len(), answers[0].decision.as_str(), answers[0].reserved), (1, decision.as_str(), 60));
    let counts = Counts { requests: 1, prompt_tokens: 3, completion_tokens: 40, microeur: 40 };
    let usage = crate::store::KeyUsage { day: 1, project: "desk".into(), key: key.id.clone(), counts };
    for _ in 0..2 {
        after.store.settle_lost(&answers[0], &usage).await.unwrap();
    }
    let shown = after.budgets_shown().await.unwrap();
    assert_eq!((&shown[0]["spent_microeur"], &shown[0]["lost_microeur"]), (&40.into(), &(lost - 60).into()));
    let released = after.release_lost().await.unwrap();
    assert_eq!(released, [(format!("key/{}", key.id), lost - 60)]);
    let shown = after.budgets_shown().await.unwrap();
    assert_eq!((&shown[0]["left_microeur"], &shown[0]["lost_microeur"]), (&6_360.into(), &0.into()));
    assert!(after.find(&text, now_ms()).is_some());
}
