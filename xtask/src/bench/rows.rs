//! A benchmark's rows: one quantity each, with what it is compared to and what is asked of it.
//!
//! The JSON is `{"rows": […]}` with `name`, `value`, `unit`, `baseline`, `ratio`, `must` and `goal`; what is absent is null.

use serde_json::{Value, json};

/// What is asked of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// `le`, `ge` or `eq`.
    pub op: &'static str,
    /// `value` or `ratio`.
    pub of: &'static str,
    /// The number that it is compared with.
    pub than: f64,
}

/// One measured quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// What it is compared to, in the same unit.
    pub baseline: Option<f64>,
    /// What must hold.
    pub must: Option<Bound>,
    /// What is aimed at.
    pub goal: Option<Bound>,
}

impl Row {
    /// A quantity with nothing asked of it.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, baseline: None, must: None, goal: None }
    }

    /// The same quantity, which should be at most `than`.
    pub fn goal_at_most(self, than: f64) -> Self {
        Self { goal: Some(Bound { op: "le", of: "value", than }), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline.filter(|baseline| *baseline != 0.0).map(|baseline| self.value / baseline)
    }

    fn json(&self) -> Value {
        let bound = |bound: Option<Bound>| bound.map(|b| json!({"op": b.op, "of": b.of, "than": b.than}));
        json!({
            "name": self.name, "value": self.value, "unit": self.unit, "baseline": self.baseline,
            "ratio": self.ratio(), "must": bound(self.must), "goal": bound(self.goal),
        })
    }
}

/// Prints rows for programs.
pub fn print_json(rows: &[Row]) {
    println!("{}", json!({"rows": rows.iter().map(Row::json).collect::<Vec<_>>()}));
}

/// Prints rows for people.
pub fn print_table(rows: &[Row]) {
    for row in rows {
        let asked = |word: &str, bound: Option<Bound>| match bound {
            Some(Bound { op, of, than }) => format!("  ({word}: {of} {op} {than})"),
            None => String::new(),
        };
        let ratio = row.ratio().map_or_else(String::new, |ratio| format!("  {ratio:.2} x baseline"));
        let asked = asked("must", row.must) + &asked("goal", row.goal);
        println!("{:<44} {:>12.1} {:<8}{ratio}{asked}", row.name, row.value, row.unit);
    }
}

/// The middle of several measurements; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::{Row, median};

    #[test]
    fn rows_have_one_shape() {
        let row = Row { baseline: Some(4.0), ..Row::new("a", 2.0, "ms") }.goal_at_most(3.0).json();
        assert_eq!(row["ratio"], 0.5);
        assert_eq!(row["goal"]["op"], "le");
        assert!(row["must"].is_null());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
