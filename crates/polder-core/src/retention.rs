//! How long statements and their salts are kept, and what keeps them longer: retention classes and legal holds.
//!
//! Pure: the instant is an argument, and nothing is deleted here. What applications store is absent: it has a time of its own.

use std::collections::BTreeMap;

use crate::ids::{ProjectId, TenantId};
use crate::statement::v1::{Ground, HoldScope};

/// Fewest days that a statement of a decision or an execution is kept, in days: six months.
pub const LOG_DUTY_DAYS: u32 = 183;
/// Longest time of a class, in days.
pub const DAYS_MAX: u32 = 36_500;
/// Where the duty to keep logs stands.
pub const LOG_DUTY: &str = "AI Act, Regulation (EU) 2024/1689, Art. 19(1) and 26(6)";
/// The class of whatever no rule names; [`LOG_DUTY_DAYS`] where the rules do not say otherwise.
pub const DEFAULT_CLASS: &str = "log-duty";

const DAY_MS: u64 = 86_400_000;

/// A retention class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// For how many days.
    pub days: u32,
}

/// Which class what belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether what is old enough goes by itself.
    pub by_age: bool,
    /// The class of whatever the others do not name.
    pub default: Class,
    /// The class of decisions, by project.
    pub projects: BTreeMap<ProjectId, Class>,
    /// The class of what this node ran for other homes.
    pub executions: Option<Class>,
}

/// Nothing goes by itself, and nothing goes before the log duty is over.
impl Default for Rules {
    fn default() -> Self {
        let default = Class { name: DEFAULT_CLASS.to_owned(), days: LOG_DUTY_DAYS };
        Self { by_age: false, default, projects: BTreeMap::new(), executions: None }
    }
}

/// A statement that may be deleted one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its leaf's place in the log.
    pub place: u64,
    /// When it was made, in Unix milliseconds.
    pub at_ms: u64,
    /// For whom.
    pub tenant: TenantId,
    /// The project of a decision; absent for what ran for another home.
    pub project: Option<ProjectId>,
}

/// A hold in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub id: String,
    /// What it holds.
    pub scope: HoldScope,
}

/// Why something stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// A legal hold is on it.
    #[error("the legal hold `{0}` is on it: nothing deletes it before `polder hold lift {0}`")]
    Held(String),
    /// Its time is not over.
    #[error(
        "its retention class `{class}` keeps it for {days} days, and they are not over: logs are kept at least {LOG_DUTY_DAYS} days \
         ({LOG_DUTY}), \"unless provided otherwise\": for an erasure under data protection law say `--erasure`"
    )]
    Young {
        /// Its class.
        class: String,
        /// The days of the class.
        days: u32,
        /// First instant at which it may go, in Unix milliseconds.
        until_ms: u64,
    },
}

impl Rules {
    /// The class of a statement.
    pub fn class_of(&self, item: &Item) -> &Class {
        let named = match &item.project {
            Some(project) => self.projects.get(project),
            None => self.executions.as_ref(),
        };
        named.unwrap_or(&self.default)
    }

    /// First instant at which a statement may go, in Unix milliseconds.
    pub fn until_ms(&self, item: &Item) -> u64 {
        item.at_ms.saturating_add(u64::from(self.class_of(item).days).saturating_mul(DAY_MS))
    }

    /// The fewest days of any class.
    pub fn days_min(&self) -> u32 {
        let classes = self.projects.values().chain(&self.executions).chain(std::iter::once(&self.default));
        classes.map(|class| class.days).min().unwrap_or(LOG_DUTY_DAYS)
    }
}

/// Whether a statement may go, and under which class. A hold keeps it whatever the ground; an erasure alone does not wait for its time.
pub fn due<'a>(rules: &'a Rules, holds: &[Hold], item: &Item, ground: Ground, now_ms: u64) -> Result<&'a Class, Stays> {
    if let Some(hold) = holds.iter().find(|hold| holds_item(&hold.scope, item)) {
        return Err(Stays::Held(hold.id.clone()));
    }
    let (class, until_ms) = (rules.class_of(item), rules.until_ms(item));
    match ground {
        Ground::Age | Ground::Word if now_ms < until_ms => {
            Err(Stays::Young { class: class.name.clone(), days: class.days, until_ms })
        }
        Ground::Age | Ground::Word | Ground::Erasure => Ok(class),
    }
}

fn holds_item(scope: &HoldScope, item: &Item) -> bool {
    match scope {
        HoldScope::Tenant(tenant) => item.tenant == *tenant,
        HoldScope::Project(project) => item.project.as_ref() == Some(project),
        HoldScope::Leaves(leaves) => leaves.contains(&item.place),
    }
}

/// Places as ranges, each with its first and its last, ascending. The places are in any order, some perhaps twice.
pub fn ranges(mut places: Vec<u64>) -> Vec<(u64, u64)> {
    places.sort_unstable();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for place in places {
        match ranges.last_mut() {
            Some((_, last)) if place <= last.saturating_add(1) => *last = place,
            _ => ranges.push((place, place)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
