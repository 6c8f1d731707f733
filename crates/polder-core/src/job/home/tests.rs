//! Tests of the home: nothing before its record, one settlement, late work, held jobs, changes of policy, forged receipts.
//! Schedules of faults are the twin's, and so are real policies.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use super::*;
use crate::ids::AwardId;
use crate::job::Epoch;
use crate::job::receipt::{Fault, RunOutcome, Verdict};
use crate::job::row::v1::End;
use crate::job::spec::{JobFile, OnUncertain};
use crate::keys::Signed;
use crate::labels::{Action, DataClass, Labels, Purpose};
use crate::ledger::books::{Account, Entry, EntryId};

/// Permits every factory but those that are named, and takes the first that is not excluded.
#[derive(Default)]
struct Open {
    forbidden: BTreeSet<NodeId>,
}

impl Outlook for Open {
    fn decide(&mut self, _: &Request, excluded: &BTreeMap<NodeId, Vec<Cause>>) -> Choice {
        let all = ["berlin", "paris"].map(node);
        let factory = all.into_iter().find(|one| !excluded.contains_key(one) && !self.forbidden.contains(one));
        let outcome = if factory.is_some() { Outcome::Placed } else { Outcome::NoCapacity };
        Choice { outcome, factory }
    }
    fn permits(&mut self, _: &Request, factory: &NodeId) -> bool {
        !self.forbidden.contains(factory)
    }
    fn is_signed(&mut self, receipt: &Signed<JobReceipt>) -> bool {
        receipt.signature == [1; 64]
    }
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: 0 }
}

const JOB: JobId = JobId([7; 16]);

fn order(hold: bool) -> Arc<Order> {
    let text = "[[jobs]]\nname = \"a\"\nresources = { cores = 1 }\nrun = { command = [\"true\"] }\nwall_s = 60\ncost_microeur_max = 1000";
    let mut spec = JobFile::parse(text).unwrap().jobs.remove(0);
    spec.on_uncertain = if hold { OnUncertain::HoldForHuman } else { OnUncertain::Rerun };
    let labels =
        Labels { class: DataClass::Public, purposes: [Purpose::Research].into(), countries: None, language: None };
    let (tenant, project) = (TenantId::parse("lab").unwrap(), crate::ids::ProjectId::parse("runs").unwrap());
    let request = Request { action: Action::RunJob, tenant, project, model: None, labels };
    Arc::new(Order { request, award: AwardId::parse("award").unwrap(), spec, index: 0 })
}

/// A home with money and two factories, and one job submitted; what the submission said.
fn home(hold: bool) -> (Home, Vec<Effect>) {
    let mut home = Home::boot(node("home"), Settings::default(), [], [1; 8], at(0)).unwrap();
    let order = order(hold);
    let award = order.award.clone();
    let purse = Account::Project(order.request.tenant.clone(), order.request.project.clone());
    let entry = Entry::transfer(EntryId::Moved(Nonce([1; 16])), award, Account::Outside, purse, 5_000).unwrap();
    home.step(at(0), Event::Move { call: 1, entry }, &mut Open::default());
    for factory in ["berlin", "paris"] {
        let sheet = Sheet {
            whole: Resources { cores: 4, ..Resources::default() },
            core_microeur_per_hour: 3_600,
            ..Sheet::default()
        };
        home.step(at(0), Event::Sheet(node(factory), sheet), &mut Open::default());
    }
    let effects = submit(&mut home, &order, "key");
    (home, effects)
}

fn submit(home: &mut Home, order: &Arc<Order>, key: &str) -> Vec<Effect> {
    let jobs = vec![(JOB, Arc::clone(order), BTreeSet::new())];
    let submission = Submission { call: 2, tenant: order.request.tenant.clone(), key: key.to_owned(), jobs };
    home.step(at(0), Event::Submit(Box::new(submission)), &mut Open::default())
}

fn hear(home: &mut Home, now: u64, from: &str, message: Message) -> Vec<Effect> {
    home.step(at(now), Event::Peer { from: node(from), speaks: 2, message }, &mut Open::default())
}

fn want(epoch: Epoch, nonce: u8) -> Message {
    Message::Want { job: JOB, epoch, nonce: Nonce([nonce; 16]), room: Room::default() }
}

fn done(epoch: Epoch, factory: &str, outcome: RunOutcome, cost: u64) -> Message {
    let value = JobReceipt {
        home: node("home"),
        factory: node(factory),
        job: JOB,
        epoch,
        order: order(false).digest().unwrap(),
        outcome,
        ran_ms: 1_000,
        ended_after_ms: 1_000,
        cost_microeur: cost,
        checkpoint: None,
    };
    Message::Done { receipt: Box::new(Signed { value, signature: [1; 64] }), room: Room::default() }
}

fn verdicts(effects: &[Effect]) -> Vec<Verdict> {
    let verdict = |effect: &Effect| match effect {
        Effect::Send(_, Message::Receipted { verdict, .. }) => Some(*verdict),
        _ => None,
    };
    effects.iter().filter_map(verdict).collect()
}

#[test]
fn a_job_is_written_before_anybody_hears_of_it() {
    let (home, effects) = home(false);
    assert!(
        matches!(effects.first(), Some(Effect::Record(rows)) if rows.iter().any(|row| matches!(row, Row::Job(..))))
    );
    assert!(effects.contains(&Effect::Reply(2, Answer::Accepted(vec![JOB]))));
    let offered =
        |effect: &Effect| matches!(effect, Effect::Send(to, Message::Offer { epoch: 1, .. }) if *to == node("berlin"));
    assert!(effects.iter().any(offered));
    assert_eq!(home.why(JOB), Some(Why::Asked));
    assert_eq!(home.books().sum(), 0);
}

#[test]
fn a_submission_that_comes_twice_is_one() {
    let (mut home, _) = home(false);
    let again = submit(&mut home, &order(false), "key");
    assert_eq!(again, [Effect::Reply(2, Answer::Accepted(vec![JOB]))]);
    assert_eq!(submit(&mut home, &order(true), "key"), [Effect::Reply(2, Answer::Conflict)]);
}

#[test]
fn a_job_runs_and_is_paid_once() {
    let (mut home, _) = home(false);
    let granted = hear(&mut home, 10, "berlin", want(1, 1));
    let grant = Message::Grant { job: JOB, epoch: 1, nonce: Nonce([1; 16]), lease_ms: 60_000 };
    assert!(matches!(granted.first(), Some(Effect::Record(_))));
    assert_eq!(granted.last(), Some(&Effect::Send(node("berlin"), grant)));
    let said = done(1, "berlin", RunOutcome::Succeeded, 1);
    assert_eq!(verdicts(&hear(&mut home, 2_000, "berlin", said.clone())), [Verdict::Settled]);
    assert_eq!(verdicts(&hear(&mut home, 2_001, "berlin", said)), [Verdict::Settled]);
    assert_eq!(home.job(JOB).unwrap().state, State::Over(End::Succeeded(1)));
    let award = AwardId::parse("award").unwrap();
    assert_eq!(home.books().balance(&award, &Account::Factory(node("berlin"))), 1);
    assert_eq!(home.books().balance(&award, &Account::Held(JOB)), 0);
}

#[test]
fn a_lease_that_ends_without_a_word_makes_a_new_epoch_elsewhere_and_late_work_counts_until_then() {
    let (mut home, _) = home(false);
    hear(&mut home, 10, "berlin", want(1, 1));
    let until = home.deadline().unwrap();
    assert!(until > 10 + 60_000, "the margin for drift");
    assert!(home.step(at(until - 1), Event::Tick, &mut Open::default()).is_empty());
    let next = home.step(at(until), Event::Tick, &mut Open::default());
    assert!(next.iter().any(|effect| matches!(effect, Effect::Send(_, Message::Offer { epoch: 2, .. }))));
    // Offered and not yet granted: the old work still counts.
    let late = hear(&mut home, until + 1, "berlin", done(1, "berlin", RunOutcome::Succeeded, 1));
    assert_eq!(verdicts(&late), [Verdict::Settled]);
    assert_eq!(home.job(JOB).unwrap().state, State::Over(End::Succeeded(1)));
}

#[test]
fn late_work_is_a_dispute_once_a_newer_lease_began() {
    let (mut home, _) = home(false);
    hear(&mut home, 10, "berlin", want(1, 1));
    let until = home.deadline().unwrap();
    let next = home.step(at(until), Event::Tick, &mut Open::default());
    let to = next.iter().find_map(|effect| match effect {
        Effect::Send(to, Message::Offer { .. }) => Some(to.as_str().to_owned()),
        _ => None,
    });
    hear(&mut home, until + 1, &to.unwrap(), want(2, 9));
    let late = hear(&mut home, until + 2, "berlin", done(1, "berlin", RunOutcome::Succeeded, 1));
    assert_eq!(verdicts(&late), [Verdict::Disputed(Fault::Superseded)]);
    assert_eq!(home.job(JOB).unwrap().state, State::Leased);
    let resolved =
        home.step(at(until + 3), Event::Resolve { call: 5, job: JOB, epoch: 1, microeur: 1 }, &mut Open::default());
    assert_eq!(resolved.last(), Some(&Effect::Reply(5, Answer::Done)));
    let award = AwardId::parse("award").unwrap();
    assert_eq!(home.books().balance(&award, &Account::Factory(node("berlin"))), 1);
}

#[test]
fn what_must_not_run_twice_waits_for_a_person() {
    let (mut home, _) = home(true);
    hear(&mut home, 10, "berlin", want(1, 1));
    let until = home.deadline().unwrap();
    home.step(at(until), Event::Tick, &mut Open::default());
    assert_eq!((home.job(JOB).unwrap().state.clone(), home.why(JOB)), (State::Held, Some(Why::Held)));
    let rerun = home.step(at(until + 1), Event::Rerun { call: 3, job: JOB }, &mut Open::default());
    assert!(rerun.iter().any(|effect| matches!(effect, Effect::Send(_, Message::Offer { epoch: 2, .. }))));
}

#[test]
fn a_home_that_starts_anew_waits_a_whole_lease() {
    let (mut home, _) = home(false);
    hear(&mut home, 10, "berlin", want(1, 1));
    let rows = home.durable();
    let again = Home::boot(node("home"), Settings::default(), rows.clone(), [2; 8], at(5)).unwrap();
    assert_eq!(again.durable(), rows);
    let mut again = again;
    again.step(at(5), Event::Tick, &mut Open::default());
    assert!(again.deadline().unwrap() > 5 + 60_000);
}

#[test]
fn a_change_of_policy_stops_what_runs() {
    let (mut home, _) = home(false);
    hear(&mut home, 10, "berlin", want(1, 1));
    let mut closed = Open { forbidden: [node("berlin")].into() };
    let stopped = home.step(at(20), Event::PolicyChanged, &mut closed);
    assert!(stopped.iter().any(|effect| matches!(effect, Effect::Send(_, Message::Stop { .. }))));
    let renew = Message::Renew { job: JOB, epoch: 1, nonce: Nonce([2; 16]), checkpoint: None };
    let event = Event::Peer { from: node("berlin"), speaks: 2, message: renew };
    let answer = home.step(at(30), event, &mut closed);
    assert!(!answer.iter().any(|effect| matches!(effect, Effect::Send(_, Message::Grant { .. }))));
}

#[test]
fn forged_and_foreign_receipts_change_nothing() {
    let (mut home, _) = home(false);
    hear(&mut home, 10, "berlin", want(1, 1));
    let Message::Done { mut receipt, room } = done(1, "berlin", RunOutcome::Succeeded, 1) else { panic!("it is done") };
    receipt.signature = [2; 64];
    assert!(hear(&mut home, 2_000, "berlin", Message::Done { receipt, room }).is_empty());
    assert!(hear(&mut home, 2_000, "paris", done(1, "berlin", RunOutcome::Succeeded, 1)).is_empty());
    let foreign = hear(&mut home, 2_000, "paris", done(1, "paris", RunOutcome::Succeeded, 1));
    assert_eq!(verdicts(&foreign), [Verdict::Disputed(Fault::NoLease)]);
    let dear = hear(&mut home, 2_000, "berlin", done(1, "berlin", RunOutcome::Succeeded, 999));
    assert_eq!(verdicts(&dear), [Verdict::Disputed(Fault::TooDear)]);
    assert_eq!(home.job(JOB).unwrap().state, State::Leased);
}

#[test]
fn a_job_that_is_taken_back_gives_its_money_back() {
    let (mut home, _) = home(false);
    let gone = home.step(at(10), Event::Cancel { call: 4, job: JOB }, &mut Open::default());
    assert!(gone.contains(&Effect::Reply(4, Answer::Done)));
    assert_eq!(home.books().balance(&AwardId::parse("award").unwrap(), &Account::Held(JOB)), 0);
    let late = hear(&mut home, 20, "berlin", want(1, 1));
    assert_eq!(late, [Effect::Send(node("berlin"), Message::Void { job: JOB, epoch: 1, nonce: Nonce([1; 16]) })]);
}
