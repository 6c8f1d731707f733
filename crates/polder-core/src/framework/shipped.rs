//! The framework versions that Polder brings, as part of the program.
//!
//! Reading other files is absent: whoever has one reads it and calls [`Framework::new`].

use super::{Framework, raw};

/// The texts in TOML, by name; a framework with a base stands after it.
pub const SHIPPED: &[(&str, &str)] = &[
    ("csf-calculator-2026-06-01", include_str!("../../../../frameworks/csf-calculator-2026-06-01.toml")),
    ("csf-1.2.1-2025-10", include_str!("../../../../frameworks/csf-1.2.1-2025-10.toml")),
];

/// The shipped frameworks, checked. An error is a fault of Polder itself.
pub fn shipped() -> Result<Vec<Framework>, String> {
    let mut all: Vec<Framework> = Vec::new();
    for (name, text) in SHIPPED {
        let read: raw::Framework = toml::from_str(text).map_err(|e| format!("{name}: {e}"))?;
        let base = read.base.as_deref().and_then(|base| all.iter().find(|known| known.id() == base));
        all.push(Framework::new(read, base).map_err(|e| format!("{name}: {e}"))?);
    }
    Ok(all)
}
