//! Limits on a policy's text, held before Cedar sees it.
//!
//! Cedar's parser and everything behind it descend into a condition by recursion, so a text that is deep enough would end
//! the process. On a thread of 2 MiB that takes 100 brackets, or 2,000 operators in a row; the limits stay well below.
//! Whether the text is a policy is absent: that is Cedar's to say.

/// Largest text of a layer, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most policies (`permit` and `forbid`) in a layer.
pub const POLICIES_MAX: usize = 1_000;
/// Deepest nesting of brackets, of whatever kind.
pub const NESTING_MAX: usize = 24;
/// Most operators, dots and brackets in one policy.
pub const OPERATORS_MAX: usize = 256;
/// Most entries, written as commas, in one policy.
pub const ENTRIES_MAX: usize = 10_000;

/// A limit that a text does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beyond {
    /// Where, in bytes from the text's beginning.
    pub offset: usize,
    /// What is too much.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// What was counted so far.
#[derive(Default)]
struct Count {
    policies: usize,
    depth: usize,
    operators: usize,
    entries: usize,
}

/// The first limit that a text does not keep.
pub(super) fn check(text: &str) -> Result<(), Beyond> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the text has {} bytes; at most {TEXT_BYTES_MAX} are read", text.len());
        let hint = "a policy is a few lines; split what is really several policies";
        return Err(Beyond { offset: 0, message, hint });
    }
    let mut count = Count::default();
    let bytes = text.as_bytes();
    let (mut at, mut quoted) = (0, false);
    while let Some(byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied().unwrap_or_default();
        let mut width = 1;
        match (quoted, byte) {
            (true, b'\\') => width = 2,
            (_, b'"') => quoted = !quoted,
            (true, _) => {}
            (false, b'/') if next == b'/' => width = line(bytes, at),
            (false, b'a'..=b'z' | b'A'..=b'Z' | b'_') => {
                width = word(bytes, at);
                count.word(bytes.get(at..at + width).unwrap_or_default(), at)?;
            }
            (false, mark) => count.mark(*mark, next, at)?,
        }
        at += width;
    }
    Ok(())
}

fn line(bytes: &[u8], at: usize) -> usize {
    bytes.iter().skip(at).take_while(|byte| **byte != b'\n').count()
}

fn word(bytes: &[u8], at: usize) -> usize {
    bytes.iter().skip(at).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

impl Count {
    fn word(&mut self, word: &[u8], at: usize) -> Result<(), Beyond> {
        match word {
            b"permit" | b"forbid" if self.depth == 0 => self.policy(at),
            b"when" | b"unless" | b"if" => self.operator(at),
            _ => Ok(()),
        }
    }

    fn mark(&mut self, mark: u8, next: u8, at: usize) -> Result<(), Beyond> {
        match mark {
            b'(' | b'[' | b'{' => {
                self.depth += 1;
                if self.depth > NESTING_MAX {
                    let message = format!("brackets nest more than {NESTING_MAX} deep");
                    return Err(Beyond {
                        offset: at,
                        message,
                        hint: "write the condition flatter, or as several rules",
                    });
                }
                self.operator(at)
            }
            b')' | b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            b'&' | b'|' if mark == next => self.operator(at),
            b'.' | b'+' | b'-' | b'*' | b'!' => self.operator(at),
            b',' => {
                self.entries += 1;
                if self.entries <= ENTRIES_MAX {
                    return Ok(());
                }
                let message = format!("one policy has more than {ENTRIES_MAX} entries");
                Err(Beyond { offset: at, message, hint: "write it as several rules" })
            }
            // The end of a policy: no expression goes on behind it.
            b';' => {
                (self.operators, self.entries) = (0, 0);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn policy(&mut self, at: usize) -> Result<(), Beyond> {
        self.policies += 1;
        if self.policies <= POLICIES_MAX {
            return Ok(());
        }
        let message = format!("the text has more than {POLICIES_MAX} policies");
        Err(Beyond { offset: at, message, hint: "a rule can name many values: `[…].contains(…)`" })
    }

    fn operator(&mut self, at: usize) -> Result<(), Beyond> {
        self.operators += 1;
        if self.operators <= OPERATORS_MAX {
            return Ok(());
        }
        let message = format!("one policy has more than {OPERATORS_MAX} operators and brackets");
        Err(Beyond { offset: at, message, hint: "write it as several rules, or list values: `[…].contains(…)`" })
    }
}

#[cfg(test)]
mod tests;
