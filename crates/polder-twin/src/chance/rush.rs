//! Jobs in a hurry: one home, many factories, and nothing that goes wrong, as fast as the machines step.
//!
//! Every job takes the whole way: submitted, decided by the real policies, offered, leased, started, ended, receipted, settled. What is
//! absent is what the machines leave to others: disks, channels, processes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use polder_core::ids::{AwardId, NodeId, ProjectId};
use polder_core::job::executor::{self, Exit};
use polder_core::job::home::{self, Submission};
use polder_core::job::row::v1::{End, State};
use polder_core::job::spec::Program;
use polder_core::job::{Effect, Executor, Home, JobId, JobSpec, Needs, Nonce, Now, OnUncertain, Order, Resources};
use polder_core::ledger::books::{Account, Entry, EntryId};

use super::realm::Realm;
use super::site::{FactoryView, HomeView};

/// Runs `jobs` jobs through `factories` factories; how many were placed and succeeded.
pub fn rush(factories: usize, jobs: u64) -> Result<u64, String> {
    let mut rush = Rush::new(factories)?;
    for number in 0..jobs {
        rush.submit(number)?;
    }
    rush.drain();
    let succeeded = |state: &State| matches!(state, State::Over(End::Succeeded(_)));
    let done = rush.home.jobs().filter(|(_, row)| succeeded(&row.state)).count();
    rush.broken.map_or(Ok(u64::try_from(done).unwrap_or(0)), Err)
}

struct Rush {
    realm: Realm,
    home: Home,
    me: NodeId,
    executors: BTreeMap<NodeId, Executor>,
    messages: VecDeque<(NodeId, NodeId, polder_core::job::Message)>,
    award: AwardId,
    now_ms: u64,
    broken: Option<String>,
}

impl Rush {
    fn new(factories: usize) -> Result<Self, String> {
        let countries = ["DE", "ES", "FI", "FR", "IT", "US"];
        let named: Vec<(String, &str)> = (0..factories)
            .map(|place| {
                (format!("factory-{place:02}"), countries.get(place % countries.len()).copied().unwrap_or("DE"))
            })
            .collect();
        let realm = Realm::of(&named)?;
        let me = NodeId::parse("home-a").map_err(|e| e.to_string())?;
        let now = Now { mono_ms: 0, wall_ms: 0 };
        let home = Home::boot(me.clone(), home::Settings::default(), [], [1; 8], now).map_err(|e| e.to_string())?;
        let award = AwardId::parse("award-1").map_err(|e| e.to_string())?;
        let mut rush = Self {
            realm,
            home,
            me,
            executors: BTreeMap::new(),
            messages: VecDeque::new(),
            award,
            now_ms: 0,
            broken: None,
        };
        rush.fund()?;
        for (place, (name, _)) in named.iter().enumerate() {
            let id = NodeId::parse(name).map_err(|e| e.to_string())?;
            let whole = Resources { cores: 64, ..Resources::default() };
            let sheet = home::Sheet { whole, core_microeur_per_hour: 1_000, ..home::Sheet::default() };
            let settings = executor::Settings { sheet: sheet.clone(), ..executor::Settings::default() };
            let boot = [u8::try_from(place).unwrap_or(0); 8];
            let (executor, _) = Executor::boot(id.clone(), settings, [], (boot, [9; 8]));
            rush.executors.insert(id.clone(), executor);
            rush.step_home(home::Event::Sheet(id, sheet));
        }
        Ok(rush)
    }

    fn fund(&mut self) -> Result<(), String> {
        let request = self.realm.request(0).ok_or("there is no work")?;
        let (tenant, project) = (request.tenant.clone(), request.project.clone());
        let purse = Account::Project(tenant.clone(), project);
        let way = [Account::Outside, Account::Award, Account::Tenant(tenant), purse];
        for (number, pair) in (0..).zip(way.windows(2)) {
            let [from, to] = pair else { continue };
            let id = EntryId::Moved(Nonce([number; 16]));
            let entry = Entry::transfer(id, self.award.clone(), from.clone(), to.clone(), 1 << 50);
            self.step_home(home::Event::Move { call: 0, entry: entry.map_err(|e| e.to_string())? });
        }
        Ok(())
    }

    fn submit(&mut self, number: u64) -> Result<(), String> {
        let request = self.realm.request(0).ok_or("there is no work")?.clone();
        let project = ProjectId::parse("runs").map_err(|e| e.to_string())?;
        let spec = JobSpec {
            name: format!("job-{number}"),
            priority: 50,
            resources: Needs { cores: 1, ..Needs::default() },
            run: Program::Command(vec!["work".to_owned()]),
            inputs: Vec::new(),
            outputs: Vec::new(),
            wall_s: 3_600,
            checkpoint: None,
            retries: 0,
            on_uncertain: OnUncertain::Rerun,
            array: 1,
            after: BTreeSet::new(),
            cost_microeur_max: 10_000,
        };
        let tenant = request.tenant.clone();
        debug_assert_eq!(request.project, project);
        let order = Arc::new(Order { request, award: self.award.clone(), spec, index: 0 });
        let mut id = [0; 16];
        id.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
        let jobs = vec![(JobId(id), order, BTreeSet::new())];
        self.now_ms += 1;
        self.step_home(home::Event::Submit(Box::new(Submission {
            call: number,
            tenant,
            key: format!("key-{number}"),
            jobs,
        })));
        self.drain();
        Ok(())
    }

    /// Until nobody says anything any more.
    fn drain(&mut self) {
        while let Some((from, to, message)) = self.messages.pop_front() {
            if to == self.me {
                self.step_home(home::Event::Peer { from, speaks: 2, message });
            } else {
                self.step_executor(&to, executor::Event::Peer { from, speaks: 2, message });
            }
        }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: self.now_ms }
    }

    fn step_home(&mut self, event: home::Event) {
        let mut view = HomeView { realm: &self.realm, version: 0, real: false, fully: false, broken: &mut self.broken };
        let now = Now { mono_ms: self.now_ms, wall_ms: self.now_ms };
        let effects = self.home.step(now, event, &mut view);
        let me = self.me.clone();
        self.follow(&me, effects);
    }

    fn step_executor(&mut self, name: &NodeId, event: executor::Event) {
        let (now, mut signed) = (self.now(), Vec::new());
        let Some(executor) = self.executors.get_mut(name) else { return };
        let mut view = FactoryView { realm: &self.realm, me: name, version: 0, real: false, signed: &mut signed };
        let effects = executor.step(now, event, &mut view);
        self.follow(name, effects);
    }

    fn follow(&mut self, site: &NodeId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(to, message) => self.messages.push_back((site.clone(), to, message)),
                Effect::Start { run, .. } => {
                    let exit = Exit { code: Some(0), started: true, ran_ms: 0, ended_ms: self.now_ms };
                    self.step_executor(site, executor::Event::Exited(run, exit));
                }
                _ => {}
            }
        }
    }
}
