//! Hazards: conditions that could fail to evaluate, found before any request does.
//!
//! After the schema's check, and with extension functions refused, only arithmetic that leaves 64 bits can. Ranges of
//! attributes are known, so a sum of two shares is no hazard. An overestimate is possible, an underestimate is not.
//! Solving conditions is absent: that is what proofs are for.

use serde_json::Value;

use super::schema::{NUMBERS, SEALS};

type Range = (i128, i128);
const LONG: Range = (i64::MIN as i128, i64::MAX as i128);

/// What could fail when a policy in Cedar's JSON form is evaluated, in a few words; nothing where nothing can.
pub(super) fn hazard(policy: &Value) -> Option<String> {
    let conditions = policy.get("conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.filter_map(|condition| condition.get("body")).find_map(of_expression)
}

fn of_expression(expression: &Value) -> Option<String> {
    let (operator, operands) = expression.as_object()?.iter().next()?;
    if operator == "Value" {
        return None;
    }
    if matches!(operator.as_str(), "+" | "-" | "*" | "neg") {
        let (low, high) = exact(operator, operands);
        if low < LONG.0 || high > LONG.1 {
            return Some(format!("`{operator}` can leave the range of numbers"));
        }
    }
    match operands {
        Value::Array(all) => all.iter().find_map(of_expression),
        Value::Object(all) if operator == "Record" => all.values().find_map(of_expression),
        Value::Object(all) => {
            let parts = ["left", "right", "arg", "if", "then", "else"];
            parts.iter().filter_map(|part| all.get(*part)).find_map(of_expression)
        }
        _ => None,
    }
}

/// The range of an operation before it is cut to 64 bits.
fn exact(operator: &str, operands: &Value) -> Range {
    let of = |part: &str| operands.get(part).map_or(LONG, range);
    let ((a, b), (c, d)) = (of("left"), of("right"));
    match operator {
        "+" => (a + c, b + d),
        "-" => (a - d, b - c),
        "neg" => {
            let (low, high) = of("arg");
            (-high, -low)
        }
        _ => {
            let corners = [a * c, a * d, b * c, b * d];
            let least = corners.iter().copied().fold(i128::MAX, i128::min);
            (least, corners.iter().copied().fold(i128::MIN, i128::max))
        }
    }
}

/// The numbers that an expression can be.
fn range(expression: &Value) -> Range {
    let Some((operator, operands)) = expression.as_object().and_then(|all| all.iter().next()) else { return LONG };
    let cut = |(low, high): Range| (low.clamp(LONG.0, LONG.1), high.clamp(LONG.0, LONG.1));
    match operator.as_str() {
        "Value" => operands.as_i64().map_or(LONG, |number| (i128::from(number), i128::from(number))),
        "+" | "-" | "*" | "neg" => cut(exact(operator, operands)),
        "if-then-else" => {
            let of = |part: &str| operands.get(part).map_or(LONG, range);
            let ((a, b), (c, d)) = (of("then"), of("else"));
            (a.min(c), b.max(d))
        }
        "." => {
            let attribute = operands.get("attr").and_then(Value::as_str).unwrap_or_default();
            let known = NUMBERS.iter().find(|(name, _, _)| *name == attribute).map(|(_, low, high)| (*low, *high));
            let seal = || operands.to_string().contains("\"attr\":\"seals\"").then_some(SEALS);
            known.or_else(seal).map_or(LONG, |(low, high)| (i128::from(low), i128::from(high)))
        }
        _ => LONG,
    }
}
