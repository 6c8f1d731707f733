//! Tests of the executor: leases from its own request, terms and room, receipts until they are answered, and what a crash
//! leaves. Schedules of faults are the twin's.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::ids::{AwardId, ProjectId, TenantId};
use crate::job::receipt::{RunOutcome, Verdict};
use crate::job::spec::JobFile;
use crate::labels::{Action, DataClass, Labels, Purpose};

/// Terms that can be closed, and a signature that is always the same.
struct Terms(bool);

impl Outlook for Terms {
    fn permits(&mut self, _: &Request) -> bool {
        self.0
    }
    fn sign(&mut self, _: &JobReceipt) -> [u8; 64] {
        [1; 64]
    }
}

fn home() -> NodeId {
    NodeId::parse("home").unwrap()
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: 0 }
}

const JOB: JobId = JobId([7; 16]);

fn order() -> Arc<Order> {
    let text = "[[jobs]]\nname = \"a\"\nresources = { cores = 3 }\nrun = { command = [\"true\"] }\nwall_s = 100\ncost_microeur_max = 1000";
    let spec = JobFile::parse(text).unwrap().jobs.remove(0);
    let labels =
        Labels { class: DataClass::Public, purposes: [Purpose::Research].into(), countries: None, language: None };
    let (tenant, project) = (TenantId::parse("lab").unwrap(), ProjectId::parse("runs").unwrap());
    let request = Request { action: Action::RunJob, tenant, project, model: None, labels };
    Arc::new(Order { request, award: AwardId::parse("award").unwrap(), spec, index: 0 })
}

fn boot(rows: Vec<Row>, machine: u8) -> (Executor, Vec<Effect>) {
    let whole = Resources { cores: 4, ..Resources::default() };
    let sheet = Sheet { whole, core_microeur_per_hour: 3_600, ..Sheet::default() };
    let settings = Settings { sheet, ..Settings::default() };
    Executor::boot(NodeId::parse("berlin").unwrap(), settings, rows, ([3; 8], [machine; 8]))
}

fn hear(executor: &mut Executor, now: u64, message: Message, open: bool) -> Vec<Effect> {
    executor.step(at(now), Event::Peer { from: home(), speaks: 2, message }, &mut Terms(open))
}

fn offer(job: JobId, epoch: Epoch, price: u64) -> Message {
    Message::Offer { job, epoch, order: order(), price_microeur_per_hour: price, resume: None }
}

fn run() -> RunId {
    RunId { home: home(), job: JOB, epoch: 1 }
}

fn declined(effects: &[Effect]) -> Option<DeclineWhy> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send(_, Message::Decline { why, .. }) => Some(*why),
        _ => None,
    })
}

fn asked(effects: &[Effect]) -> Option<Nonce> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send(_, Message::Want { nonce, .. } | Message::Renew { nonce, .. }) => Some(*nonce),
        _ => None,
    })
}

fn grant(nonce: Nonce) -> Message {
    Message::Grant { job: JOB, epoch: 1, nonce, lease_ms: 60_000 }
}

/// An executor with one run, offered at 1,000 and granted at 5,000; and what the grant made it do.
fn running() -> (Executor, Vec<Effect>) {
    let (mut executor, _) = boot(Vec::new(), 1);
    let nonce = asked(&hear(&mut executor, 1_000, offer(JOB, 1, 10_800), true)).unwrap();
    let effects = hear(&mut executor, 5_000, grant(nonce), true);
    (executor, effects)
}

#[test]
fn a_run_is_written_then_started_and_lasts_from_the_request() {
    let (mut executor, effects) = running();
    assert!(matches!(effects.first(), Some(Effect::Record(rows)) if matches!(rows[..], [Row::Run(..)])));
    assert!(matches!(effects.get(1), Some(Effect::Start { until_ms: 61_000, .. })), "{effects:?}");
    // At half of the lease it is asked for again, and then lasts from there.
    assert_eq!(executor.deadline(), Some(31_000));
    let renewed = asked(&executor.step(at(31_000), Event::Tick, &mut Terms(true))).unwrap();
    let effects = hear(&mut executor, 40_000, grant(renewed), true);
    assert_eq!(effects.last(), Some(&Effect::Extend(run(), 91_000)));
}

#[test]
fn an_old_answer_is_no_answer() {
    let (mut executor, _) = boot(Vec::new(), 1);
    hear(&mut executor, 1_000, offer(JOB, 1, 10_800), true);
    assert!(hear(&mut executor, 1_001, grant(Nonce([9; 16])), true).is_empty());
    // Of a request of an earlier process nothing is known.
    let (mut executor, _) = boot(Vec::new(), 1);
    assert_eq!(declined(&hear(&mut executor, 1_001, grant(Nonce([9; 16])), true)), Some(DeclineWhy::Forgotten));
}

#[test]
fn a_grant_that_came_too_late_starts_nothing() {
    let (mut executor, _) = boot(Vec::new(), 1);
    let nonce = asked(&hear(&mut executor, 1_000, offer(JOB, 1, 10_800), true)).unwrap();
    assert!(!hear(&mut executor, 61_000, grant(nonce), true).iter().any(|one| matches!(one, Effect::Start { .. })));
}

#[test]
fn what_does_not_suit_is_declined_with_its_reason() {
    let (mut executor, _) = boot(Vec::new(), 1);
    assert_eq!(declined(&hear(&mut executor, 0, offer(JOB, 1, 10_800), false)), Some(DeclineWhy::Terms));
    assert_eq!(declined(&hear(&mut executor, 0, offer(JOB, 1, 10_799), true)), Some(DeclineWhy::Price));
    hear(&mut executor, 0, offer(JOB, 1, 10_800), true);
    assert_eq!(declined(&hear(&mut executor, 0, offer(JobId([8; 16]), 1, 10_800), true)), Some(DeclineWhy::NoRoom));
    assert_eq!(executor.free().cores, 1, "room is kept for the first");
}

#[test]
fn an_end_is_signed_written_and_sent_until_it_is_answered() {
    let (mut executor, _) = running();
    let exit = Exit { code: Some(0), started: true, ran_ms: 3_600, ended_ms: 8_600 };
    let effects = executor.step(at(8_600), Event::Exited(run(), exit), &mut Terms(true));
    assert!(matches!(effects.first(), Some(Effect::Record(_))));
    let Some(Effect::Send(_, Message::Done { receipt, .. })) = effects.last() else { panic!("no receipt is sent") };
    let said = &receipt.value;
    assert_eq!((said.outcome, said.ran_ms, said.ended_after_ms), (RunOutcome::Succeeded, 3_600, 7_600));
    assert_eq!(said.cost_microeur, 11, "3.6 s at 10,800 an hour, rounded up");
    let (mut again, _) = boot(executor.durable(), 2);
    let resent = again.step(at(1), Event::Tick, &mut Terms(true));
    assert!(resent.iter().any(|one| matches!(one, Effect::Send(_, Message::Done { .. }))));
    let answered = hear(&mut again, 2, Message::Receipted { job: JOB, epoch: 1, verdict: Verdict::Settled }, true);
    assert_eq!(answered, [Effect::Record(vec![Row::RunOver(run())])]);
    assert_eq!(again.deadline(), None);
}

#[test]
fn a_run_is_found_again_after_a_crash_if_its_machine_did_not_go_with_it() {
    let (executor, _) = running();
    let rows = executor.durable();
    let (mut same, first) = boot(rows.clone(), 1);
    assert_eq!(first, [Effect::Probe(run())]);
    let alive = same.step(at(9_000), Event::Probed(run(), Probed::Alive), &mut Terms(true));
    assert!(asked(&alive).is_some(), "the lease lasts: it is asked for again");
    let (mut other, _) = boot(rows.clone(), 2);
    let alive = other.step(at(9_000), Event::Probed(run(), Probed::Alive), &mut Terms(true));
    assert_eq!(alive, [Effect::Stop(run())], "nobody knows how long that lease lasts");
    let (mut gone, _) = boot(rows, 2);
    let effects = gone.step(at(9_000), Event::Probed(run(), Probed::Gone), &mut Terms(true));
    let Some(Effect::Send(_, Message::Done { receipt, .. })) = effects.last() else { panic!("no receipt is sent") };
    assert_eq!((receipt.value.outcome, receipt.value.cost_microeur), (RunOutcome::Interrupted, 0));
}

#[test]
fn a_run_ends_with_its_wall_time_its_terms_and_its_lease() {
    let (mut executor, _) = running();
    assert_eq!(executor.step(at(61_000), Event::Tick, &mut Terms(true)).last(), Some(&Effect::Stop(run())));
    let (mut executor, _) = running();
    let effects = executor.step(at(6_000), Event::TermsChanged, &mut Terms(false));
    assert_eq!(effects, [Effect::Stop(run())]);
    let exit = Exit { code: None, started: true, ran_ms: 1_000, ended_ms: 6_000 };
    let effects = executor.step(at(6_001), Event::Exited(run(), exit), &mut Terms(false));
    let Some(Effect::Send(_, Message::Done { receipt, .. })) = effects.last() else { panic!("no receipt is sent") };
    assert_eq!(receipt.value.outcome, RunOutcome::Evicted);
}

#[test]
fn who_was_turned_away_hears_when_there_is_room() {
    let (mut executor, _) = running();
    hear(&mut executor, 6_000, offer(JobId([8; 16]), 1, 10_800), true);
    let exit = Exit { code: Some(0), started: true, ran_ms: 1_000, ended_ms: 7_000 };
    let effects = executor.step(at(7_000), Event::Exited(run(), exit), &mut Terms(true));
    assert!(effects.iter().any(|one| matches!(one, Effect::Send(to, Message::Free(_)) if *to == home())));
}
