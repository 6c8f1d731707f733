//! Numbers for streamed tool calls where an engine leaves them out.
//!
//! The SDKs put the pieces of calls together by `index`; one fails where it is missing. A piece with an id or a name begins a
//! call, any other goes on with the last one. What an engine numbers itself stays as it is.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::inference::Event;

/// How many calls each choice has begun.
#[derive(Debug, Default)]
pub struct Calls(BTreeMap<u32, u64>);

impl Calls {
    /// The event with a number in each of its tool calls.
    pub fn numbered(&mut self, mut event: Event) -> Event {
        if let Event::Delta(delta) = &mut event
            && let Some(Value::Array(calls)) = delta.rest.get_mut("tool_calls")
        {
            let begun = self.0.entry(delta.choice).or_default();
            calls.iter_mut().for_each(|call| number(begun, call));
        }
        event
    }
}

fn number(begun: &mut u64, call: &mut Value) {
    if let Some(index) = call.get("index").and_then(Value::as_u64) {
        *begun = (*begun).max(index.saturating_add(1));
        return;
    }
    let text = |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let begins = text(call.get("id")) || text(call.get("function").and_then(|function| function.get("name")));
    if begins || *begun == 0 {
        *begun = begun.saturating_add(1);
    }
    if let Value::Object(call) = call {
        call.insert("index".to_owned(), begun.saturating_sub(1).into());
    }
}
