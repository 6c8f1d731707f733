//! One batch from its first look to its last word.
//!
//! In each round what lines came to is written with the numbers of those that begin next, and only then do these begin: so no line
//! that has an end on disk runs again. One that had begun when the node broke off runs once more, and not a third time. A full
//! store holds the batch up until there is room. Asking for a line is absent, and so is writing the batch's files.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::super::Gateway;
use super::journal::{Ended, Entry, Journal};
use super::line::{self, Came};
use super::lines::{Lines, Request, check, request};
use super::live::Under;
use super::record::{Problem, Status, Stop};
use crate::clock::now_ms;
use crate::content::{ContentError, ContentReader, Kind};
use crate::shutdown::Shutdown;

/// How long a round waits for more lines to end after one has.
const GATHER: Duration = Duration::from_millis(20);
/// How long a batch waits before it tries again to write to a store that is full.
const FULL_PAUSE: Duration = Duration::from_secs(5);
/// How often a batch tries again after an error of the content store, and how long it waits before.
const TRIES_MAX: u32 = 5;
const TRY_PAUSE: Duration = Duration::from_secs(30);
/// How long lines under way have when the node is told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How often one line begins at most, over crashes of the node.
const BEGUN_MAX: u8 = 2;

/// What is known of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// How often it began.
    pub begun: u8,
    /// Its end is on disk.
    pub ended: bool,
}

/// What is known of the lines that have begun, by number.
pub type Marks = BTreeMap<u32, Mark>;

/// How a part of the work ended.
enum Way {
    /// Every line has run.
    Through,
    /// Some lines will not.
    Stopped(Stop),
    /// The node stops; the next start goes on.
    Later,
}

/// One batch that runs.
pub struct Runner {
    /// What it asks through.
    pub gateway: Gateway,
    /// The batch.
    pub under: Arc<Under>,
    shutdown: Shutdown,
}

/// Lines on their way, and what has come of some.
#[derive(Default)]
struct Flying {
    tasks: JoinSet<(u32, Came)>,
    numbers: Vec<u32>,
    ended: Vec<Ended>,
    nobody: bool,
}

/// A line that may begin.
struct Next {
    number: u32,
    request: Request,
    place: OwnedSemaphorePermit,
}

impl Runner {
    /// A batch that is to run.
    pub fn new(gateway: Gateway, under: Arc<Under>, shutdown: Shutdown) -> Self {
        Self { gateway, under, shutdown }
    }

    /// Runs it as far as it comes. `parts` is what there is of its journal.
    pub async fn run(mut self, parts: Vec<(u32, u32)>) {
        let mut known = Some(parts);
        for tries in 0.. {
            let error = match self.attempt(known.take()).await {
                Ok(true) => return self.gateway.batches.leave(&self.under),
                Ok(false) => return,
                Err(error) => error,
            };
            tracing::error!(%error, "a batch met an error of the content store");
            if tries == TRIES_MAX || matches!(error, ContentError::Damaged) {
                return self.broken().await;
            }
            tokio::select! {
                () = tokio::time::sleep(TRY_PAUSE) => {}
                () = self.shutdown.wait() => return,
            }
        }
    }

    /// One attempt, with the parts of its journal or after a look for them; whether it came to its end.
    async fn attempt(&mut self, parts: Option<Vec<(u32, u32)>>) -> Result<bool, ContentError> {
        let parts = match parts {
            Some(parts) => parts,
            None => {
                let (project, id) = (&self.under.project, self.under.batch().id);
                Journal::parts(&self.gateway.content, project, &id).await?
            }
        };
        self.work(parts).await
    }

    /// It cannot go on, and says so.
    async fn broken(&self) {
        self.under.change(|batch| {
            let message = "this node failed; its operator's log says why".to_owned();
            batch.problems.push(Problem { code: "internal_error".to_owned(), message, param: None, line: None });
            batch.come_to(Status::Failed);
        });
        if let Err(error) = self.under.save(&self.gateway.content).await {
            tracing::error!(%error, "nor could it be said that a batch failed");
        }
        self.gateway.batches.leave(&self.under);
    }

    /// Whether it came to its end.
    async fn work(&mut self, parts: Vec<(u32, u32)>) -> Result<bool, ContentError> {
        if self.under.batch().status == Status::Validating && !self.validate().await? {
            return Ok(true);
        }
        let batch = self.under.batch();
        let content = self.gateway.content.clone();
        let mut journal = Journal::open(content, self.under.project.clone(), batch.id.clone(), parts).await?;
        let mut marks = self.read(&journal).await?;
        let way = match (batch.status, batch.stop) {
            (Status::Cancelling, _) => Way::Stopped(Stop::Cancelled),
            (Status::Finalizing, None) => Way::Through,
            (Status::Finalizing, Some(stop)) => Way::Stopped(stop),
            _ => self.lines(&mut journal, &mut marks).await?,
        };
        let stop = match way {
            Way::Later => return Ok(false),
            Way::Through => None,
            Way::Stopped(stop) => Some(stop),
        };
        self.finalise(journal, stop).await
    }

    /// The input, from its beginning; none where it is gone.
    pub async fn input(&self) -> Result<Option<Lines>, ContentError> {
        let input = self.under.batch().input;
        let found = self.gateway.content.reader(&self.under.project, Kind::File, &input, now_ms()).await?;
        let lines = |(_, reader): (_, ContentReader)| Lines::new(reader, self.gateway.body_bytes_max);
        Ok(found.map(lines))
    }

    /// Looks at every line once; whether the batch may begin.
    async fn validate(&self) -> Result<bool, ContentError> {
        let (endpoint, most) = (self.under.batch().endpoint, self.gateway.batches.limits().lines_max);
        let (total, problems) = match self.input().await? {
            Some(mut lines) => check(&mut lines, endpoint, most).await?,
            None => (0, Stop::Input.problem().into_iter().collect()),
        };
        let good = problems.is_empty();
        self.under.change(|batch| {
            batch.counts.total = if good { total } else { 0 };
            batch.problems = problems;
            match (good, batch.status) {
                (false, _) => batch.come_to(Status::Failed),
                (true, Status::Validating) => batch.come_to(Status::InProgress),
                // It was cancelled meanwhile.
                (true, _) => {}
            }
        });
        self.under.save(&self.gateway.content).await?;
        Ok(good)
    }

    /// What the journal says of lines, and counts them.
    async fn read(&self, journal: &Journal) -> Result<Marks, ContentError> {
        let (mut marks, mut entries, mut counts) = (Marks::new(), journal.entries(), (0u32, 0u32));
        while let Some(entry) = entries.next().await? {
            match entry {
                Entry::Begun(lines) => lines.into_iter().for_each(|line| {
                    let mark = marks.entry(line).or_default();
                    mark.begun = mark.begun.saturating_add(1);
                }),
                Entry::Left(lines) => lines.into_iter().for_each(|line| {
                    let mark = marks.entry(line).or_default();
                    mark.begun = mark.begun.saturating_sub(1);
                }),
                Entry::Ended(ended) => {
                    if !std::mem::replace(&mut marks.entry(ended.number).or_default().ended, true) {
                        let count = if ended.good { &mut counts.0 } else { &mut counts.1 };
                        *count = count.saturating_add(1);
                    }
                }
            }
        }
        self.under.change(|batch| (batch.counts.completed, batch.counts.failed) = counts);
        Ok(marks)
    }

    /// Runs every line that has no end yet.
    async fn lines(&mut self, journal: &mut Journal, marks: &mut Marks) -> Result<Way, ContentError> {
        let Some(mut input) = self.input().await? else {
            return Ok(Way::Stopped(Stop::Input));
        };
        let (under, mut flying, mut more) = (Arc::clone(&self.under), Flying::default(), true);
        let mut cancelled = std::pin::pin!(under.wait_for_cancel());
        let mut expired = std::pin::pin!(under.wait_for_expiry());
        let (mut shutdown, mut held) = (self.shutdown.clone(), None);
        loop {
            let mut next = Vec::new();
            while more && flying.has_room(next.len(), self.gateway.batches.limits().lines_at_once) {
                let free = || self.gateway.batches.places().try_acquire_owned().ok();
                let Some(place) = held.take().or_else(free) else { break };
                match self.next(&mut input, marks, &mut flying.ended).await? {
                    Some((number, request)) => next.push(Next { number, request, place }),
                    None => more = false,
                }
            }
            if !self.record(journal, marks, &mut flying, &next).await? {
                return Ok(Way::Later);
            }
            for line in next {
                flying.begin(&self.gateway, &self.under, line);
            }
            if flying.nobody {
                return Ok(Way::Stopped(Stop::Key));
            }
            if !more && flying.tasks.is_empty() {
                return Ok(Way::Through);
            }
            let stop = tokio::select! {
                () = flying.gather() => continue,
                // Every place is taken by other batches: the first that is free is for the next round.
                place = self.gateway.batches.places().acquire_owned(), if flying.tasks.is_empty() => {
                    held = place.ok();
                    continue;
                }
                () = &mut cancelled => Stop::Cancelled,
                () = &mut expired => Stop::Expired,
                () = shutdown.wait() => {
                    self.leave(journal, marks, flying).await?;
                    return Ok(Way::Later);
                }
            };
            // What runs is stopped; what has ended is kept.
            flying.tasks.abort_all();
            return Ok(match self.record(journal, marks, &mut flying, &[]).await? {
                true => Way::Stopped(stop),
                false => Way::Later,
            });
        }
    }

    /// The next line that has no end.
    async fn next(
        &self,
        input: &mut Lines,
        marks: &Marks,
        ended: &mut Vec<Ended>,
    ) -> Result<Option<(u32, Request)>, ContentError> {
        let batch = self.under.batch();
        while let Some(line) = input.next().await? {
            let mark = marks.get(&line.number).copied().unwrap_or_default();
            // Every line was looked at before the batch began; what is not one now was never counted.
            let Ok(request) = request(&line, batch.endpoint) else { continue };
            match mark {
                Mark { ended: true, .. } => {}
                Mark { begun: BEGUN_MAX.., .. } => {
                    let said = ("interrupted", "the node broke off twice while this line ran: it is not tried again");
                    ended.push(line::not_run(&batch.id, line.number, &request.custom_id, said));
                }
                Mark { .. } => return Ok(Some((line.number, request))),
            }
        }
        Ok(None)
    }

    /// Brings to disk what lines came to and which begin; whether that could be done before the node stops.
    async fn record(
        &self,
        journal: &mut Journal,
        marks: &mut Marks,
        flying: &mut Flying,
        next: &[Next],
    ) -> Result<bool, ContentError> {
        let mut entries: Vec<Entry> = std::mem::take(&mut flying.ended).into_iter().map(Entry::Ended).collect();
        if !next.is_empty() {
            entries.push(Entry::Begun(next.iter().map(|line| line.number).collect()));
        }
        if entries.is_empty() {
            return Ok(true);
        }
        while let Err(error) = journal.write(&entries).await {
            if !self.waits_for_room(error).await? {
                return Ok(false);
            }
        }
        let (mut good, mut bad) = (0u32, 0u32);
        for entry in &entries {
            let Entry::Ended(ended) = entry else { continue };
            marks.entry(ended.number).or_default().ended = true;
            let count = if ended.good { &mut good } else { &mut bad };
            *count = count.saturating_add(1);
        }
        self.under.change(|batch| {
            batch.counts.completed = batch.counts.completed.saturating_add(good);
            batch.counts.failed = batch.counts.failed.saturating_add(bad);
        });
        match journal.put_together().await {
            // For that there is time until there is room.
            Err(ContentError::Full { .. }) => Ok(true),
            done => done.map(|()| true),
        }
    }

    /// Waits a while where the store is full; whether the node still runs then.
    pub async fn waits_for_room(&self, error: ContentError) -> Result<bool, ContentError> {
        let full = match &error {
            ContentError::Full { .. } => true,
            ContentError::File(error) => matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
            _ => false,
        };
        if !full {
            return Err(error);
        }
        tracing::warn!("a batch waits until there is room in the content store");
        let mut shutdown = self.shutdown.clone();
        Ok(tokio::select! {
            () = tokio::time::sleep(FULL_PAUSE) => true,
            () = shutdown.wait() => false,
        })
    }

    /// The node stops: lines under way may end; the others begin anew after the next start.
    async fn leave(&self, journal: &mut Journal, marks: &mut Marks, mut flying: Flying) -> Result<(), ContentError> {
        let all = async {
            while !flying.tasks.is_empty() {
                flying.gather().await;
            }
        };
        drop(tokio::time::timeout(DRAIN, all).await);
        flying.tasks.abort_all();
        self.record(journal, marks, &mut flying, &[]).await?;
        match flying.numbers.is_empty() {
            true => Ok(()),
            false => journal.write(&[Entry::Left(std::mem::take(&mut flying.numbers))]).await,
        }
    }
}

impl Flying {
    fn has_room(&self, more: usize, most: usize) -> bool {
        !self.nobody && self.tasks.len().saturating_add(more) < most
    }

    fn begin(&mut self, gateway: &Gateway, under: &Arc<Under>, next: Next) {
        let Next { number, request, place } = next;
        let (gateway, under) = (gateway.clone(), Arc::clone(under));
        self.numbers.push(number);
        self.tasks.spawn(async move {
            let came = line::run(gateway, under, number, request).await;
            drop(place);
            (number, came)
        });
    }

    /// Returns once a line has ended, with what else ended in a moment; never where none is on its way.
    async fn gather(&mut self) {
        match self.tasks.join_next().await {
            Some(ended) => self.take(ended),
            None => return std::future::pending().await,
        }
        let rest = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.take(ended);
            }
        };
        drop(tokio::time::timeout(GATHER, rest).await);
    }

    fn take(&mut self, ended: Result<(u32, Came), tokio::task::JoinError>) {
        match ended {
            Ok((number, Came::Ended(ended))) => {
                self.numbers.retain(|one| *one != number);
                self.ended.push(ended);
            }
            Ok((number, Came::Nobody)) => {
                self.numbers.retain(|one| *one != number);
                self.nobody = true;
            }
            Err(error) => tracing::error!(%error, "a batch's line broke off"),
        }
    }
}
