//! One look at every log: fetched, checked, and read on from where the last look ended.
//!
//! A log that cannot be read is a finding and holds up no other. Judging is `polder_core::monitor`'s.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use polder_core::canonical::Digest;
use polder_core::monitor::{Cut, Finding, Kind, Leaf, Log, Missing, Objects, Shown, Wanted, check_verdict, named};
use polder_core::note::{Checkpoint, Note};
use polder_core::statement::v1::{DecisionStatement, Statement};
use polder_core::tiles::{self, Place, TileError, WIDTH, parse_entries, parse_tile};
use serde::Serialize;

use super::reach::{Row, Source};
use super::state::State;
use super::{Anchors, now_ms};

/// Most leaves that are taken from one log in one look.
const LEAVES_MAX: u64 = 20_000_000;
/// Most objects that are held; past that all are fetched again, which costs time and nothing else.
const OBJECTS_MAX: usize = 20_000;
/// How much earlier than its last leaf a run may have decided what it lost, in milliseconds.
const CUT_SLACK_MS: u64 = 1_000;
/// Most rounds of fetching what a decision names: a list, tables, what those name.
const ROUNDS_MAX: usize = 12;
/// Most checkpoints that others were shown which are compared in one look, for each log.
const OTHERS_MAX: usize = 1_000;

/// What one look came to at one log.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Looked {
    /// The log's name; the source's where that is not known.
    pub log: String,
    /// How many leaves are known.
    pub leaves: u64,
    /// How many statements were read in this look.
    pub statements: u64,
    /// How many decisions were checked in this look.
    pub decisions: u64,
}

/// A look.
pub struct Pass<'a> {
    pub anchors: &'a mut Anchors,
    pub state: &'a mut State,
    pub findings: Vec<Finding>,
    pub looked: Vec<Looked>,
    objects: Objects,
    /// Of each log, which source gave what is known of it now.
    newest: BTreeMap<String, usize>,
}

impl<'a> Pass<'a> {
    /// A look with what is known.
    pub fn new(anchors: &'a mut Anchors, state: &'a mut State) -> Self {
        Self {
            anchors,
            state,
            findings: Vec::new(),
            looked: Vec::new(),
            objects: Objects::new(),
            newest: BTreeMap::new(),
        }
    }

    /// Looks at all logs, one after another.
    pub async fn run(&mut self, sources: &[Source]) {
        // Keys first: a log may have changed its own since the members' file was written. Without members there is no identity that
        // could vouch for that.
        if !self.anchors.cards.is_empty() {
            for source in sources {
                if let Some(history) = source.keys().await {
                    self.anchors.learn(&history);
                }
            }
        }
        let mut others = self.others(sources).await;
        for (number, source) in sources.iter().enumerate() {
            let mut looked = Looked { log: source.name.clone(), ..Looked::default() };
            if let Err(finding) = self.look((number, sources), &mut looked, &mut others).await {
                self.findings.push(*finding);
            }
            self.looked.push(looked);
        }
    }

    /// The checkpoints that others were shown, by log: only what the log's key has signed.
    async fn others(&mut self, sources: &[Source]) -> BTreeMap<String, Vec<Shown>> {
        let mut all: BTreeMap<String, Vec<Shown>> = BTreeMap::new();
        for source in sources {
            // A node that does not answer is found when its own log is read.
            for text in source.seen().await.unwrap_or_default() {
                if let Some((origin, shown)) = self.signed(&text) {
                    let held = all.entry(origin).or_default();
                    if held.len() < OTHERS_MAX
                        && !held.iter().any(|one| (one.size, one.root) == (shown.size, shown.root))
                    {
                        held.push(shown);
                    }
                }
            }
        }
        all
    }

    fn signed(&self, text: &str) -> Option<(String, Shown)> {
        let note = Note::parse(text).ok()?;
        let origin = Checkpoint::parse(&note.text).ok()?.origin;
        let checkpoint = self.anchors.of(&origin).into_iter().find_map(|key| Checkpoint::of_note(&note, key).ok())?;
        Some((origin, Shown { size: checkpoint.size, root: checkpoint.root, note: text.to_owned() }))
    }

    async fn look(
        &mut self,
        (number, sources): (usize, &[Source]),
        looked: &mut Looked,
        others: &mut BTreeMap<String, Vec<Shown>>,
    ) -> Result<(), Box<Finding>> {
        let Some(source) = sources.get(number) else { return Ok(()) };
        let unreachable = |log: &str, says: String| Box::new(Finding::new(Kind::Unreachable, log, None, says));
        let note = source.checkpoint().await.map_err(|says| unreachable(&source.name, says))?;
        let origin = note.lines().next().unwrap_or_default().to_owned();
        let keys = self.anchors.of(&origin);
        let parsed = Note::parse(&note);
        let held = |key: &&&polder_core::note::VerifierKey| {
            parsed.as_ref().is_ok_and(|note| note.signed_by(key).is_ok_and(|at| at.is_some()))
        };
        let Some(key) = keys.iter().find(held).or(keys.first()).map(|key| (*key).clone()) else {
            let says = format!(
                "it calls itself `{}`, and no key is known for that name: give --members, --vkey or --policy",
                shorten(&origin)
            );
            return Err(Box::new(Finding::new(Kind::Checkpoint, &source.name, None, says)));
        };
        looked.log.clone_from(&origin);
        let mut log = self.state.logs.remove(&origin).unwrap_or_else(|| Log::new(&*origin));
        if let Some(finding) = self.behind(sources, &log, &note).await {
            looked.leaves = log.size();
            self.state.logs.insert(origin, log);
            self.findings.extend(finding);
            return Ok(());
        }
        let known = log.clone();
        let (shown, found) = log.look(&note, &key, self.anchors.policy.as_ref());
        self.findings.extend(found);
        let result = match shown {
            Some(shown) => {
                // Whoever asks next is told the same, or there is a fork.
                others.entry(origin.clone()).or_default().push(shown.clone());
                let others = others.get(&origin).cloned().unwrap_or_default();
                let read = self.read(source, &mut log, &shown, &others, looked).await;
                if log.last() == Some(&shown) {
                    self.newest.insert(origin.clone(), number);
                }
                read
            }
            None => {
                log = known;
                Ok(())
            }
        };
        looked.leaves = log.size();
        self.state.logs.insert(origin.clone(), log);
        result.map_err(|says| unreachable(&origin, says))
    }

    /// Whether another source of this very look has shown more of the log; then this one is merely behind, or shows another history.
    async fn behind(&self, sources: &[Source], log: &Log, note: &str) -> Option<Option<Finding>> {
        let newest = sources.get(*self.newest.get(log.origin())?)?;
        let (_, shown) = self.signed(note)?;
        let last = log.last().filter(|last| shown.size < last.size)?;
        Some(forked(newest, log, &shown, last).await)
    }

    /// Takes what has grown, and reads its statements where they are shown.
    async fn read(
        &mut self,
        source: &Source,
        log: &mut Log,
        shown: &Shown,
        others: &[Shown],
        looked: &mut Looked,
    ) -> Result<(), String> {
        self.compare_earlier(source, log, shown, others).await?;
        if !self.grow(source, log, shown, others).await? {
            return Ok(());
        }
        log.seen(shown.size, now_ms());
        if source.shows_statements() {
            self.statements(source, log, looked).await?;
            self.findings.extend(log.overdue(now_ms()));
        }
        Ok(())
    }

    /// Takes the entries that are new; whether they make what was signed.
    async fn grow(&mut self, source: &Source, log: &mut Log, shown: &Shown, others: &[Shown]) -> Result<bool, String> {
        let from = log.size();
        if shown.size.saturating_sub(from) > LEAVES_MAX {
            return Err(format!("it has grown by more than {LEAVES_MAX} leaves since it was read"));
        }
        let entries = match entries(source, from, shown.size).await? {
            Ok(entries) => entries,
            Err(says) => {
                self.findings.push(Finding::new(Kind::Tiles, log.origin(), Some(from), says));
                return Ok(false);
            }
        };
        match log.grow(&entries, shown, others) {
            Ok(found) => {
                for finding in found {
                    let proved = self.prove(source, finding, log, shown, others).await;
                    self.findings.push(proved);
                }
                Ok(true)
            }
            Err(finding) => {
                // A proof from what was seen before shows whether this is another history, or merely damaged.
                let last = log.last().cloned();
                let forked = match last {
                    Some(last) => forked(source, log, &last, shown).await,
                    None => None,
                };
                self.findings.push(forked.unwrap_or(*finding));
                Ok(false)
            }
        }
    }

    /// A fork's finding with the proof that others can check, where the tiles give one.
    async fn prove(&self, source: &Source, finding: Finding, log: &Log, shown: &Shown, others: &[Shown]) -> Finding {
        if finding.evidence.is_some() {
            return finding;
        }
        let other = others.iter().find(|other| Some(other.size) == finding.index && other.size < shown.size);
        let forked = match other {
            Some(other) => forked(source, log, other, shown).await,
            None => None,
        };
        forked.unwrap_or(finding)
    }

    /// Holds what others were shown earlier than what is known here against the tree of now.
    async fn compare_earlier(
        &mut self,
        source: &Source,
        log: &Log,
        shown: &Shown,
        others: &[Shown],
    ) -> Result<(), String> {
        for other in others.iter().filter(|other| other.size > 0 && other.size < log.size().min(shown.size)) {
            let key = (log.origin().to_owned(), other.size, other.root);
            if self.state.compared.contains(&key) {
                continue;
            }
            let forked = forked(source, log, other, shown).await;
            self.findings.extend(forked);
            self.state.compared.insert(key);
        }
        while self.state.compared.len() > OTHERS_MAX * 16 {
            self.state.compared.pop_first();
        }
        Ok(())
    }

    async fn statements(&mut self, source: &Source, log: &mut Log, looked: &mut Looked) -> Result<(), String> {
        let numbers = source.numbers().await?;
        let cut = |run: &super::reach::CutRun| Cut {
            node: numbers.node.clone(),
            from_ms: run.recorded_ms.saturating_sub(CUT_SLACK_MS),
            until_ms: run.next_ms,
        };
        if log.node().as_ref() == Some(&numbers.node) {
            self.state.pairs.show(&numbers.node, numbers.cut.iter().map(cut));
        }
        let size = log.size();
        let mut from = log.statements_read();
        while from < size {
            let page = source.statements(from).await?;
            let rows: BTreeMap<u64, &Row> = page.statements.iter().map(|row| (row.index, row)).collect();
            // What lies between two rows is not shown; what comes after the last is asked for again.
            let until =
                page.next.min(size).max(rows.keys().next_back().map_or(from, |last| last.saturating_add(1)).min(size));
            let until = if until > from { until } else { size };
            let public = match entries(source, from, until).await? {
                Ok(entries) => entries,
                Err(says) => return Err(says),
            };
            for (index, entry) in (from..until).zip(public) {
                let row = rows.get(&index);
                let shown = row.map(|row| (&row.salt, row.statement.as_bytes()));
                let (statement, found) = log.read(Leaf { index, entry, shown }, now_ms());
                self.findings.extend(found);
                looked.statements += u64::from(row.is_some());
                if let Some(statement) = statement {
                    self.take(source, log, index, &statement, looked).await?;
                }
            }
            from = until;
        }
        Ok(())
    }

    async fn take(
        &mut self,
        source: &Source,
        log: &Log,
        index: u64,
        statement: &Statement,
        looked: &mut Looked,
    ) -> Result<(), String> {
        let found = self.state.pairs.take(log.origin(), index, statement);
        self.findings.extend(found);
        if let Statement::Decision(decision) = statement {
            let found = self.verdict(source, log, index, decision).await?;
            self.findings.extend(found);
            looked.decisions += 1;
        }
        Ok(())
    }

    /// Decides again, by the auditor's own reading of policies and facts.
    async fn verdict(
        &mut self,
        source: &Source,
        log: &Log,
        index: u64,
        decision: &DecisionStatement,
    ) -> Result<Vec<Finding>, String> {
        let finding = |kind, says: String| Finding::new(kind, log.origin(), Some(index), says);
        let missing = |wanted: &Wanted| {
            finding(Kind::Sources, format!("the {} with the digest {} is not shown", wanted.what, wanted.digest))
        };
        for _ in 0..=ROUNDS_MAX {
            let wanted = match named(decision, &self.objects) {
                Ok((tables, sources)) => {
                    let wrong = check_verdict(decision, &tables, &sources);
                    let mut found = log.check_imports(index, decision, &tables);
                    found.extend(wrong.into_iter().map(|says| finding(Kind::Verdict, says)));
                    return Ok(found);
                }
                Err(Missing::Broken(wanted)) => {
                    // It may have been kept as another node gave it.
                    self.objects.remove(&wanted.digest);
                    return Ok(vec![finding(
                        Kind::Sources,
                        format!("the {} that is shown cannot be read", wanted.what),
                    )]);
                }
                Err(Missing::Wanted(wanted)) => wanted,
            };
            if self.objects.len() > OBJECTS_MAX {
                self.objects.clear();
            }
            let digests: BTreeSet<Digest> = wanted.iter().map(|one| one.digest).collect();
            let given = source.objects(&digests.iter().copied().collect::<Vec<_>>()).await?;
            let before = self.objects.len();
            self.objects.extend(
                given
                    .into_iter()
                    .filter(|one| digests.contains(&one.digest))
                    .map(|one| (one.digest, one.text.into_bytes())),
            );
            if self.objects.len() == before {
                return Ok(wanted.first().map(missing).into_iter().collect());
            }
        }
        Ok(vec![finding(Kind::Sources, "what it names does not come to an end".to_owned())])
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The entries from a place up to another; in words what is wrong with them.
pub(super) async fn entries(source: &Source, from: u64, to: u64) -> Result<Result<Vec<Digest>, String>, String> {
    let (width, mut all) = (u64::from(WIDTH), Vec::new());
    let mut at = from;
    while at < to {
        let index = at / width;
        let Some(place) = Place::bundle(index).filled(to) else { break };
        let Some(bytes) = source.tile(place).await? else {
            return Ok(Err(format!("`{}` is not there, and the checkpoint needs it", place.path())));
        };
        let entries = match parse_entries(place, &bytes) {
            Ok(entries) => entries,
            Err(error) => return Ok(Err(error.to_string())),
        };
        for entry in entries.into_iter().skip(usize::try_from(at - index * width).unwrap_or(usize::MAX)) {
            let Ok(entry) = <[u8; 32]>::try_from(entry) else {
                return Ok(Err(format!("`{}` has an entry that is not 32 bytes", place.path())));
            };
            all.push(Digest(entry));
        }
        at = (index + 1) * width;
    }
    Ok(Ok(all))
}

/// The fork that the tiles behind a checkpoint show, against one that somebody was shown before; none where both are of one history.
async fn forked(source: &Source, log: &Log, first: &Shown, second: &Shown) -> Option<Finding> {
    let (old, new) = (first.size, second.size);
    let mut held = BTreeMap::new();
    for place in tiles::tiles_of_root(old).into_iter().chain(tiles::tiles_of_consistency(old, new)).map(Place::full) {
        if let Entry::Vacant(vacant) = held.entry(place) {
            // What is there now may be wider than it was then.
            let place = place.filled(new)?;
            let bytes = source.tile(place).await.ok()??;
            vacant.insert(parse_tile(place, &bytes).ok()?);
        }
    }
    let fetch = &mut |place: Place| held.get(&place.full()).ok_or(TileError::Short(place));
    let prefix = tiles::root(old, fetch).ok()?;
    let proof = tiles::consistency(old, new, fetch).ok()??;
    log.forked(first, second, prefix, &proof)
}
