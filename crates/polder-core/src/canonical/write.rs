//! Puts compact JSON into canonical form: the fields of every object in order, and nothing that has no such form.
//!
//! It works on the text itself, so that no field costs an allocation of its own; a tree of values would. The text comes from
//! `serde_json`, which leaves no white space and escapes strings exactly as RFC 8785 §3.2.2.2 does. Reading foreign JSON is
//! absent.

use std::borrow::Cow;

use super::CanonicalError;

/// A text that is being put in order.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// A field of an object: its name with the quotes, and where it begins in what was written.
struct Field<'a> {
    name: &'a [u8],
    begin: usize,
}

impl Field<'_> {
    /// The name without its quotes, still escaped.
    fn inner(&self) -> &[u8] {
        self.name.get(1..self.name.len().saturating_sub(1)).unwrap_or_default()
    }

    fn is_plain(&self) -> bool {
        !self.name.contains(&b'\\')
    }

    /// What fields are ordered by: an escape stands for another character than its first.
    fn key(&self) -> Cow<'_, [u8]> {
        match self.is_plain() {
            true => Cow::Borrowed(self.inner()),
            false => Cow::Owned(serde_json::from_slice::<String>(self.name).unwrap_or_default().into_bytes()),
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Writes the next value in canonical form.
    pub(super) fn value(&mut self, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
        match self.peek() {
            Some(b'{') => self.object(out),
            Some(b'[') => self.array(out),
            Some(b'"') => {
                out.extend_from_slice(self.string());
                Ok(())
            }
            _ => self.plain(out),
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> &'a [u8] {
        let begin = self.at;
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(place) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
                self.at = self.text.len();
                break;
            };
            let escape = rest.get(place) == Some(&b'\\');
            self.at += place + if escape { 2 } else { 1 };
            if !escape {
                break;
            }
        }
        self.text.get(begin..self.at).unwrap_or_default()
    }

    /// `null`, `true`, `false` or an integer.
    fn plain(&mut self, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| b",]}".contains(byte)).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        self.at += length;
        if word.first().is_some_and(|first| *first == b'-' || first.is_ascii_digit())
            && word.iter().any(|byte| b".eE".contains(byte))
        {
            return Err(CanonicalError::Fraction(String::from_utf8_lossy(word).into_owned()));
        }
        out.extend_from_slice(word);
        Ok(())
    }

    fn array(&mut self, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
        self.at += 1;
        out.push(b'[');
        loop {
            match self.peek() {
                Some(b']') | None => break,
                Some(b',') => {
                    self.at += 1;
                    out.push(b',');
                }
                Some(_) => self.value(out)?,
            }
        }
        self.at += 1;
        out.push(b']');
        Ok(())
    }

    /// The fields are written as they come, each with a comma before it, and put in order at the end where they are not.
    fn object(&mut self, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
        self.at += 1;
        let begin = out.len();
        let mut fields: Vec<Field<'a>> = Vec::with_capacity(8);
        loop {
            match self.peek() {
                Some(b'}') | None => break,
                Some(b'"') => {
                    let name = self.string();
                    if !name.is_ascii() {
                        return Err(CanonicalError::Key(String::from_utf8_lossy(name).trim_matches('"').to_owned()));
                    }
                    fields.push(Field { name, begin: out.len() });
                    out.push(b',');
                    out.extend_from_slice(name);
                    out.push(b':');
                    // The colon.
                    self.at += 1;
                    self.value(out)?;
                }
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        close(out, begin, &fields)
    }
}

fn close(out: &mut Vec<u8>, begin: usize, fields: &[Field<'_>]) -> Result<(), CanonicalError> {
    let in_order = fields.windows(2).all(|pair| match pair {
        [one, next] => one.is_plain() && next.is_plain() && one.inner() < next.inner(),
        _ => true,
    });
    if !in_order {
        put_in_order(out, begin, fields)?;
    }
    match out.get_mut(begin) {
        // The first field's comma becomes the brace.
        Some(first) => *first = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
    Ok(())
}

fn put_in_order(out: &mut Vec<u8>, begin: usize, fields: &[Field<'_>]) -> Result<(), CanonicalError> {
    let ends = fields.iter().skip(1).map(|field| field.begin).chain([out.len()]);
    let mut pieces: Vec<(Cow<'_, [u8]>, std::ops::Range<usize>)> =
        fields.iter().zip(ends).map(|(field, end)| (field.key(), field.begin..end)).collect();
    pieces.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    if let Some([(name, _), _]) = pieces.windows(2).find(|pair| matches!(pair, [one, next] if one.0 == next.0)) {
        let name = String::from_utf8_lossy(name);
        return Err(CanonicalError::Json(format!("the field `{name}` stands there twice")));
    }
    let mut sorted = Vec::with_capacity(out.len().saturating_sub(begin));
    pieces.into_iter().filter_map(|(_, range)| out.get(range)).for_each(|piece| sorted.extend_from_slice(piece));
    out.truncate(begin);
    out.extend_from_slice(&sorted);
    Ok(())
}
