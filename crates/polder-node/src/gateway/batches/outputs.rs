//! The end of a batch: its journal becomes two files, one of answers and one of errors.
//!
//! Every line stands in exactly one of them, also those that did not run. The files' ids are known from the beginning, so that a
//! crash midway leaves nothing that a second try does not replace. Where there is no room the batch waits for it.

use std::collections::BTreeSet;

use super::super::files::{Note, OUTPUT};
use super::journal::{Ended, Entry, Journal};
use super::line::not_run;
use super::lines::request;
use super::record::{Batch, Status, Stop};
use super::run::Runner;
use crate::clock::now_ms;
use crate::content::{ContentError, ContentWriter, Kind, New};

/// The two files on their way, each begun with its first line.
struct Files<'a> {
    runner: &'a Runner,
    batch: Batch,
    good: Option<ContentWriter>,
    bad: Option<ContentWriter>,
    written: BTreeSet<u32>,
}

impl Runner {
    /// Writes the files and the last word; whether that could be done before the node stops.
    pub(super) async fn finalise(&self, journal: Journal, stop: Option<Stop>) -> Result<bool, ContentError> {
        let content = &self.gateway.content;
        self.under.change(|batch| {
            if batch.stop != stop {
                batch.stop = stop;
                batch.problems.extend(stop.and_then(Stop::problem));
            }
            if !matches!(batch.status, Status::Cancelling | Status::Finalizing) {
                batch.come_to(Status::Finalizing);
            }
        });
        while let Err(error) = self.under.save(content).await {
            if !self.waits_for_room(error).await? {
                return Ok(false);
            }
        }
        let (there, lines) = loop {
            match self.files(&journal, stop).await {
                Ok(there) => break there,
                Err(error) => {
                    if !self.waits_for_room(error).await? {
                        return Ok(false);
                    }
                }
            }
        };
        self.under.change(|batch| {
            batch.files = there;
            // One that was cancelled before its lines were counted has them counted now.
            batch.counts.total = batch.counts.total.max(lines);
            batch.come_to(stop.map_or(Status::Completed, Stop::status));
        });
        while let Err(error) = self.under.save(content).await {
            if !self.waits_for_room(error).await? {
                return Ok(false);
            }
        }
        journal.remove().await?;
        Ok(true)
    }

    /// Writes both files; which of them there are, and how many lines stand in them.
    async fn files(&self, journal: &Journal, stop: Option<Stop>) -> Result<((bool, bool), u32), ContentError> {
        let batch = self.under.batch();
        let mut files = Files { runner: self, batch, good: None, bad: None, written: BTreeSet::new() };
        let mut entries = journal.entries();
        while let Some(entry) = entries.next().await? {
            if let Entry::Ended(ended) = entry {
                files.add(ended).await?;
            }
        }
        if let Some(stop) = stop {
            files.add_those_not_run(stop).await?;
        }
        let there = (files.good.is_some(), files.bad.is_some());
        for writer in [files.good, files.bad].into_iter().flatten() {
            writer.finish().await?;
        }
        Ok((there, u32::try_from(files.written.len()).unwrap_or(u32::MAX)))
    }
}

impl Files<'_> {
    async fn add(&mut self, ended: Ended) -> Result<(), ContentError> {
        // A line may have an end twice where a crash came between two writes of one part.
        if !self.written.insert(ended.number) {
            return Ok(());
        }
        let place = if ended.good { &mut self.good } else { &mut self.bad };
        let writer = match place {
            Some(writer) => writer,
            None => {
                let (id, name) = match ended.good {
                    true => (self.batch.output_id(), "output"),
                    false => (self.batch.error_id(), "error"),
                };
                let note = Note { filename: format!("{}_{name}.jsonl", self.batch.id), purpose: OUTPUT.to_owned() };
                let project = self.runner.under.project.clone();
                let new = New { kind: Kind::File, project, id, note: note.to_bytes(), keep_ms: self.batch.keep_ms };
                place.insert(self.runner.gateway.content.writer(new, now_ms()).await?)
            }
        };
        writer.write(&ended.text).await?;
        writer.write(b"\n").await
    }

    async fn add_those_not_run(&mut self, stop: Stop) -> Result<(), ContentError> {
        let Some(mut lines) = self.runner.input().await? else { return Ok(()) };
        while let Some(line) = lines.next().await? {
            if self.written.contains(&line.number) {
                continue;
            }
            if let Ok(request) = request(&line, self.batch.endpoint) {
                let ended = not_run(&self.batch.id, line.number, &request.custom_id, stop.said());
                self.add(ended).await?;
            }
        }
        Ok(())
    }
}
