//! What the lines of a batch under way came to, on disk before anything else knows it.
//!
//! A write is one sealed part in the content store, with what several lines came to and which ones begin now. Once there are many
//! parts they are put together, so that a long batch is few files. A part's id says which writes it holds: one that stands for
//! others replaces them, also where a crash left both. Reading what an answer says is absent.

use bytes::BytesMut;
use polder_core::ids::ProjectId;

use super::lines::Lines;
use crate::clock::now_ms;
use crate::content::{ContentError, ContentStore, Kind, New, Page};

/// How many parts of one write each are put together.
const TOGETHER: usize = 64;

/// How many parts are listed at once.
const LOOK: u32 = 256;

/// One entry.
pub enum Entry {
    /// These lines begin.
    Begun(Vec<u32>),
    /// These lines were left in good order, and begin anew another time.
    Left(Vec<u32>),
    /// A line has come to its end.
    Ended(Ended),
}

/// What a line came to.
#[derive(Debug)]
pub struct Ended {
    /// Its number.
    pub number: u32,
    /// Whether it is an answer, not an error.
    pub good: bool,
    /// The line of the output or the error file, without its end.
    pub text: Vec<u8>,
}

/// A batch's journal.
pub struct Journal {
    content: ContentStore,
    project: ProjectId,
    batch: String,
    /// The parts, by the first and last write that they hold.
    parts: Vec<(u32, u32)>,
}

/// What a part's id says: its batch, and the first and last write.
pub fn part_of(id: &str) -> Option<(&str, (u32, u32))> {
    let (batch, range) = id.split_once('.')?;
    let (first, last) = range.split_once('-')?;
    Some((batch, (first.parse().ok()?, last.parse().ok()?)))
}

impl Journal {
    /// A batch's journal with the parts that were found, each by its writes.
    pub async fn open(
        content: ContentStore,
        project: ProjectId,
        batch: String,
        mut found: Vec<(u32, u32)>,
    ) -> Result<Self, ContentError> {
        found.sort_unstable();
        let stands = |one: &(u32, u32)| !found.iter().any(|other| other != one && other.0 <= one.0 && one.1 <= other.1);
        let (parts, replaced): (Vec<_>, Vec<_>) = found.iter().copied().partition(stands);
        let journal = Self { content, project, batch, parts };
        journal.forget(&replaced).await?;
        Ok(journal)
    }

    /// The parts that there are of a batch's journal.
    pub async fn parts(
        content: &ContentStore,
        project: &ProjectId,
        batch: &str,
    ) -> Result<Vec<(u32, u32)>, ContentError> {
        let (mut parts, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = Page { after: after.as_deref(), newest_first: false, count: LOOK };
            let found = content.list(project, Kind::Part, page, now_ms()).await?;
            let own = |id: &str| part_of(id).filter(|(of, _)| *of == batch).map(|(_, writes)| writes);
            parts.extend(found.iter().filter_map(|kept| own(&kept.id)));
            match found.into_iter().next_back() {
                Some(last) => after = Some(last.id),
                None => return Ok(parts),
            }
        }
    }

    fn id(&self, (first, last): (u32, u32)) -> String {
        format!("{}.{first:08}-{last:08}", self.batch)
    }

    async fn put(&mut self, range: (u32, u32), bytes: &[u8]) -> Result<(), ContentError> {
        let (project, id) = (self.project.clone(), self.id(range));
        let new = New { kind: Kind::Part, project, id, note: Vec::new(), keep_ms: None };
        self.content.put(new, bytes, now_ms()).await.map(drop)
    }

    /// Writes entries; they are on disk when this returns.
    pub async fn write(&mut self, entries: &[Entry]) -> Result<(), ContentError> {
        let mut bytes = Vec::new();
        let numbers = |numbers: &[u32]| {
            let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
            words.join(" ")
        };
        for entry in entries {
            match entry {
                Entry::Begun(lines) => bytes.extend(format!("begun {}\n", numbers(lines)).bytes()),
                Entry::Left(lines) => bytes.extend(format!("left {}\n", numbers(lines)).bytes()),
                Entry::Ended(ended) => {
                    let word = if ended.good { "good" } else { "bad" };
                    bytes.extend(format!("{word} {}\n", ended.number).bytes());
                    bytes.extend_from_slice(&ended.text);
                    bytes.push(b'\n');
                }
            }
        }
        let next = self.parts.last().map_or(0, |(_, last)| last.saturating_add(1));
        self.put((next, next), &bytes).await?;
        self.parts.push((next, next));
        Ok(())
    }

    /// Puts parts together where there are many.
    pub async fn put_together(&mut self) -> Result<(), ContentError> {
        let small: Vec<(u32, u32)> = self.parts.iter().copied().filter(|(first, last)| first == last).collect();
        let (Some((first, _)), Some((_, last))) = (small.first(), small.last()) else { return Ok(()) };
        if small.len() < TOGETHER {
            return Ok(());
        }
        let whole = (*first, *last);
        let (project, id) = (self.project.clone(), self.id(whole));
        let new = New { kind: Kind::Part, project, id, note: Vec::new(), keep_ms: None };
        let mut writer = self.content.writer(new, now_ms()).await?;
        for part in &small {
            let found = self.content.reader(&self.project, Kind::Part, &self.id(*part), now_ms()).await?;
            let (_, mut reader) = found.ok_or(ContentError::Damaged)?;
            while let Some(piece) = reader.next().await? {
                writer.write(&piece).await?;
            }
        }
        writer.finish().await?;
        self.parts.retain(|part| !small.contains(part));
        self.parts.push(whole);
        self.forget(&small).await
    }

    async fn forget(&self, parts: &[(u32, u32)]) -> Result<(), ContentError> {
        for part in parts {
            self.content.delete(&self.project, Kind::Part, &self.id(*part), now_ms()).await?;
        }
        Ok(())
    }

    /// Everything that was written, in its order.
    pub fn entries(&self) -> Entries<'_> {
        Entries { journal: self, next: 0, lines: None }
    }

    /// Forgets all of it.
    pub async fn remove(self) -> Result<(), ContentError> {
        self.forget(&self.parts).await
    }
}

/// The entries of a journal, one at a time.
pub struct Entries<'a> {
    journal: &'a Journal,
    next: usize,
    lines: Option<Lines>,
}

impl Entries<'_> {
    /// The next line of all parts.
    async fn line(&mut self) -> Result<Option<BytesMut>, ContentError> {
        loop {
            if let Some(lines) = &mut self.lines
                && let Some(line) = lines.next().await?
            {
                return line.bytes.ok_or(ContentError::Damaged).map(Some);
            }
            let journal = self.journal;
            let Some(part) = journal.parts.get(self.next) else { return Ok(None) };
            self.next += 1;
            let found = journal.content.reader(&journal.project, Kind::Part, &journal.id(*part), now_ms()).await?;
            let (_, reader) = found.ok_or(ContentError::Damaged)?;
            self.lines = Some(Lines::new(reader, usize::MAX));
        }
    }

    /// The next entry.
    pub async fn next(&mut self) -> Result<Option<Entry>, ContentError> {
        let Some(line) = self.line().await? else { return Ok(None) };
        let text = std::str::from_utf8(&line).map_err(|_| ContentError::Damaged)?;
        let (word, rest) = text.split_once(' ').ok_or(ContentError::Damaged)?;
        let numbers = || -> Result<Vec<u32>, ContentError> {
            rest.split(' ').map(|word| word.parse().map_err(|_| ContentError::Damaged)).collect()
        };
        match word {
            "begun" => Ok(Some(Entry::Begun(numbers()?))),
            "left" => Ok(Some(Entry::Left(numbers()?))),
            "good" | "bad" => {
                let (number, good) = (rest.parse().map_err(|_| ContentError::Damaged)?, word == "good");
                let text = self.line().await?.ok_or(ContentError::Damaged)?.to_vec();
                Ok(Some(Entry::Ended(Ended { number, good, text })))
            }
            _ => Err(ContentError::Damaged),
        }
    }
}
