//! Canonical JSON written field by field, for what is written with every request: nothing is put in order afterwards.
//!
//! The caller names the fields in ascending order; tests hold what is written so against the general way. Nesting is absent: a
//! value that is no text, number or digest comes in its canonical bytes.

use super::push_hex;

/// An object that is being written.
#[derive(Debug)]
pub struct Ordered(Vec<u8>);

impl Ordered {
    /// An object without fields, with room for so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// A field in canonical bytes.
    #[must_use]
    pub fn raw(mut self, name: &str, value: &[u8]) -> Self {
        self.name(name);
        self.0.extend_from_slice(value);
        self
    }

    /// A text.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.0.push(b'"');
        match value.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            true => self.0.extend_from_slice(value.as_bytes()),
            // A text can always be written.
            false => {
                let quoted = serde_json::Value::from(value).to_string();
                self.0.extend_from_slice(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().as_bytes());
            }
        }
        self.0.push(b'"');
        self
    }

    /// A number.
    #[must_use]
    pub fn number(mut self, name: &str, value: u64) -> Self {
        self.name(name);
        let (mut digits, mut at, mut rest) = ([b'0'; 20], 20_usize, value);
        loop {
            at = at.saturating_sub(1);
            if let Some(place) = digits.get_mut(at) {
                *place = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or_default());
            }
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(digits.get(at..).unwrap_or_default());
        self
    }

    /// Bytes as lower-case hexadecimal.
    #[must_use]
    pub fn hex(mut self, name: &str, value: &[u8]) -> Self {
        self.name(name);
        self.0.push(b'"');
        push_hex(&mut self.0, value);
        self.0.push(b'"');
        self
    }

    /// The object's bytes.
    #[must_use]
    pub fn end(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push(b'{');
        }
        self.0.push(b'}');
        self.0
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}
