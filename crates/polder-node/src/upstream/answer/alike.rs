//! Lines of a stream that differ in their text alone.
//!
//! Most engines send every token of an answer in the same JSON but for the token. A line that was read in full, and came to one
//! piece of text and nothing else, says where the text stands; a line with the very same bytes before and behind it, and between
//! them a text without a quote, an escape or a control character, is then the same JSON with that text. Anything else is read in
//! full. Pure.

use crate::inference::{Delta, Event};

/// What stands before a text, and what would stand before another that counts in its place.
const NAME: &[u8] = b"\"content\":\"";
const OTHER: &[u8] = b"\"text\":";

/// The bytes around the text of the last line that was read in full.
#[derive(Debug)]
pub struct Alike {
    choice: u32,
    before: Vec<u8>,
    behind: Vec<u8>,
}

impl Alike {
    /// What a line teaches that came to this event alone; nothing where its text does not stand there plainly, and once.
    pub fn learn(line: &[u8], event: &Event) -> Option<Self> {
        let Event::Delta(Delta { choice, content: Some(content), logprobs: None, rest }) = event else { return None };
        let mut places = memchr::memmem::find_iter(line, NAME);
        let (Some(place), None, true) = (places.next(), places.next(), rest.is_empty()) else { return None };
        if memchr::memmem::find(line, OTHER).is_some() {
            return None;
        }
        let (before, rest) = line.split_at_checked(place + NAME.len())?;
        let behind = rest.strip_prefix(content.as_bytes()).filter(|behind| behind.first() == Some(&b'"'))?;
        plain(content.as_bytes())?;
        Some(Self { choice: *choice, before: before.to_vec(), behind: behind.to_vec() })
    }

    /// The event of a line that is alike.
    pub fn event(&self, line: &[u8]) -> Option<Event> {
        let text = line.strip_prefix(self.before.as_slice())?.strip_suffix(self.behind.as_slice())?;
        let content = Some(plain(text)?.to_owned());
        Some(Event::Delta(Delta { choice: self.choice, content, ..Delta::default() }))
    }
}

/// A text that stands in JSON as it is, and is not empty.
fn plain(text: &[u8]) -> Option<&str> {
    let escaped = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    if text.is_empty() || text.iter().any(escaped) {
        return None;
    }
    std::str::from_utf8(text).ok()
}
