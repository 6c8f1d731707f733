//! The stage: true time, the events that are due, the network, and who takes part.
//!
//! Events of one instant come in the order in which they were set, so that nothing hangs on anything but the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use polder_core::ids::NodeId;
use polder_core::job::{Effect, JobId, Message, RunId};

use super::client::Clients;
use super::clock::Clock;
use super::dice::Dice;
use super::disk::Disk;
use super::liar::Liar;
use super::plan::{END_US, Plan, TROUBLE_US};
use super::process::Processes;
use super::realm::Realm;
use super::site::{Kind, Site};
use super::trace::{Trace, What};

/// Something that is due.
#[derive(Debug)]
pub enum Due {
    /// A message arrives: from, to.
    Arrives(usize, usize, Box<Message>),
    /// A site's deadline.
    Wake(usize),
    /// A site's write is durable, if the site has not gone down since.
    Written(usize, u64),
    /// A site goes down.
    Down {
        site: usize,
        down_us: u64,
        machine: bool,
    },
    /// A site comes back.
    Up(usize, u64),
    /// A process of a factory ends, if nothing else became of it.
    Exit(usize, RunId, u64),
    /// A client hands in, or asks again.
    Submit(usize, u32),
    /// A client takes a job back.
    Cancel(usize, JobId),
    /// A person looks after held jobs of a home.
    Person(usize),
    Policy(usize, usize),
    Terms(usize, usize),
    Evict(usize),
    Full(usize, bool),
}

/// An event that is set, ordered by its time and then by when it was set.
struct Set {
    at_us: u64,
    number: u64,
    due: Due,
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Set {}

impl PartialOrd for Set {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Set {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// A schedule that is being played.
pub struct Stage<'a> {
    pub realm: &'a Realm,
    pub plan: &'a Plan,
    pub dice: Dice,
    pub now_us: u64,
    pub trace: Trace,
    pub sites: Vec<Site>,
    pub clients: Clients,
    events: BinaryHeap<Reverse<Set>>,
    set: u64,
    places: BTreeMap<NodeId, usize>,
}

impl<'a> Stage<'a> {
    /// The stage before anything has happened.
    pub fn new(realm: &'a Realm, plan: &'a Plan) -> Result<Self, String> {
        let mut dice = Dice::new(plan.seed);
        let mut sites = Vec::new();
        for place in 0..plan.homes + plan.factories {
            let name = match place.checked_sub(plan.homes) {
                None => {
                    if place == 0 {
                        "home-a"
                    } else {
                        "home-b"
                    }
                }
                Some(factory) => Plan::factory_name(factory),
            };
            let kind = match place.checked_sub(plan.homes) {
                None => Kind::Home(None),
                Some(factory) if plan.liar == Some(factory) => Kind::Liar(Box::new(Liar::new(&mut dice))),
                Some(_) => Kind::Factory(None, Processes::default()),
            };
            let drift = i64::try_from(dice.within(0, 2 * plan.drift_ppm_max)).unwrap_or(0);
            let offset = i64::try_from(dice.within(0, 2 * plan.offset_ms_max)).unwrap_or(0);
            let drift = drift - i64::try_from(plan.drift_ppm_max).unwrap_or(0);
            let offset = offset - i64::try_from(plan.offset_ms_max).unwrap_or(0);
            let id = NodeId::parse(name).map_err(|e| e.to_string())?;
            sites.push(Site::new(id, kind, Clock::new(0, drift, offset), Disk::new(plan.real), &mut dice));
        }
        let places = sites.iter().enumerate().map(|(place, site)| (site.id.clone(), place)).collect();
        let clients = Clients::new(plan, realm, &mut dice)?;
        let mut stage = Self {
            realm,
            plan,
            dice,
            now_us: 0,
            trace: Trace::default(),
            sites,
            clients,
            events: BinaryHeap::new(),
            set: 0,
            places,
        };
        stage.set_up();
        Ok(stage)
    }

    fn set_up(&mut self) {
        let plan = self.plan;
        for crash in &plan.crashes {
            self.set(crash.at_us, Due::Down { site: crash.site, down_us: crash.down_us, machine: crash.machine });
        }
        for (site, from, until) in &plan.full_disks {
            self.set(*from, Due::Full(*site, true));
            self.set(*until, Due::Full(*site, false));
        }
        for (at, home, version) in &plan.policies {
            self.set(*at, Due::Policy(*home, *version));
        }
        for (at, factory, version) in &plan.terms {
            self.set(*at, Due::Terms(plan.homes + *factory, *version));
        }
        for (at, factory) in &plan.evictions {
            self.set(*at, Due::Evict(plan.homes + *factory));
        }
        for (place, one) in plan.submissions.iter().enumerate() {
            self.set(one.at_us, Due::Submit(place, 0));
        }
        for home in 0..plan.homes {
            self.set(TROUBLE_US / 2, Due::Person(home));
        }
    }

    /// Plays the schedule to its end.
    pub fn play(&mut self) {
        for site in 0..self.sites.len() {
            self.boot(site);
        }
        for home in 0..self.plan.homes {
            self.fund(home);
        }
        while let Some(Reverse(Set { at_us, due, .. })) = self.events.pop() {
            if at_us > END_US || self.trace.seen.len() > 400_000 {
                break;
            }
            self.now_us = at_us;
            self.happen(due);
            if at_us > TROUBLE_US + 5_000_000 && self.clients.all_heard() && self.quiet() {
                break;
            }
        }
        for site in 0..self.sites.len() {
            self.compare(site);
        }
    }

    /// Whether nothing is left to do: every job is over and every receipt is answered.
    fn quiet(&self) -> bool {
        self.sites.iter().all(Site::is_quiet)
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Arrives(from, to, message) => self.arrive(from, to, *message),
            Due::Wake(site) => self.awake(site),
            Due::Written(site, life) => self.written(site, life),
            Due::Down { site, down_us, machine } => self.crash(site, down_us, machine),
            Due::Up(site, life) => {
                if self.sites.get(site).is_some_and(|site| !site.up && site.life == life) {
                    self.boot(site);
                }
            }
            Due::Exit(site, run, change) => self.process_ends(site, &run, change),
            Due::Submit(submission, tries) => self.hand_in(submission, tries),
            Due::Cancel(submission, job) => self.take_back(submission, job),
            Due::Person(home) => self.look_after(home),
            Due::Policy(site, version) => self.change_policy(site, version),
            Due::Terms(site, version) => self.change_terms(site, version),
            Due::Evict(site) => self.evict(site),
            Due::Full(site, full) => {
                if let Some(site) = self.sites.get_mut(site) {
                    site.disk.full = full;
                }
            }
        }
    }

    /// Sets an event.
    pub fn set(&mut self, at_us: u64, due: Due) {
        self.set += 1;
        self.events.push(Reverse(Set { at_us: at_us.max(self.now_us), number: self.set, due }));
    }

    /// The name of a site.
    pub fn name(&self, site: usize) -> &str {
        self.sites.get(site).map_or("client", |site| site.id.as_str())
    }

    /// The place of a site.
    pub fn place(&self, name: &NodeId) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Notes what is seen.
    pub fn see(&mut self, site: usize, what: What) {
        self.trace.add(self.now_us, site, what);
    }

    /// Sends a message, and decides what becomes of it.
    pub fn send(&mut self, from: usize, to: usize, message: Message) {
        self.see(from, What::Sent { to, message: Box::new(message.clone()) });
        let trouble = self.now_us < TROUBLE_US;
        let bit = |site: usize| 1_u64 << site;
        let now = self.now_us;
        let cut = self.plan.cuts.iter().any(|cut| {
            cut.from_us <= now && now < cut.until_us && cut.from_sites & bit(from) != 0 && cut.to_sites & bit(to) != 0
        });
        if cut || (trouble && self.dice.chance_ppm(self.plan.loss_ppm)) {
            return;
        }
        let twice = trouble && self.dice.chance_ppm(self.plan.twice_ppm);
        let late = trouble && self.dice.chance_ppm(self.plan.late_ppm);
        let (least, most) = self.plan.delay_us;
        let most = if trouble { most } else { most.min(20_000).max(least) };
        let delays = [Some(self.dice.within(least, most)), twice.then(|| self.dice.within(least, most)), None];
        for delay_us in delays.into_iter().flatten() {
            self.set(self.now_us + delay_us, Due::Arrives(from, to, Box::new(message.clone())));
        }
        if late {
            let delay_us = self.dice.within(1_000_000, 25_000_000);
            self.set(self.now_us + delay_us, Due::Arrives(from, to, Box::new(message)));
        }
    }

    fn arrive(&mut self, from: usize, to: usize, message: Message) {
        let Some((sender, speaks)) = self.sites.get(from).map(|site| (site.id.clone(), site.speaks)) else { return };
        let message = if self.plan.real { self.through_bytes(to, message, speaks) } else { Some(message) };
        if let Some(message) = message {
            self.deliver(to, sender, speaks, message);
        }
    }

    fn through_bytes(&mut self, to: usize, message: Message, speaks: u8) -> Option<Message> {
        use polder_core::job::message::Wire;
        let wire = Wire { speaks, must: Default::default(), message };
        let read = wire.encode().and_then(|bytes| Wire::decode(&bytes));
        match read {
            Ok(read) if read == wire => Some(read.message),
            Ok(_) => {
                self.see(to, What::Broken("a message changed on its way through bytes".to_owned()));
                None
            }
            Err(error) => {
                self.see(to, What::Broken(format!("a message cannot be read: {error}")));
                None
            }
        }
    }

    /// Puts effects behind those that wait, and carries out what can be.
    pub fn follow(&mut self, site: usize, effects: Vec<Effect>) {
        if let Some(one) = self.sites.get_mut(site) {
            one.outbox.extend(effects);
        }
        self.pump(site);
    }
}
