//! How long statements are kept: the `[retention]` table as a person writes it, and the rules that are made of it.
//!
//! Without the table nothing is deleted by its age. What applications store is absent: `[home.content]` says how long that stays.

use std::collections::BTreeMap;

use polder_core::ids::ProjectId;
use polder_core::retention::{Class, DAYS_MAX, DEFAULT_CLASS, LOG_DUTY, LOG_DUTY_DAYS, Rules};
use serde::{Deserialize, Serialize};

use super::{ConfigError, HomeConfig};

/// Longest name of a class, in characters.
const NAME_MAX: usize = 63;

/// The `[retention]` table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The class of whatever the lines below do not name; `log-duty`, 183 days, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The class of what this node ran for other homes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executions: Option<String>,
    /// The days of each class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, u32>,
    /// The class of each project's decisions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub projects: BTreeMap<ProjectId, String>,
}

impl Retention {
    pub(super) fn check(
        self,
        home: Option<&HomeConfig>,
        content: &dyn Fn(String) -> ConfigError,
    ) -> Result<Rules, ConfigError> {
        for (name, days) in &self.classes {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) {
                return Err(content(format!(
                    "retention: `{name}` is no class's name: 1 to {NAME_MAX} of a-z, 0-9 and -"
                )));
            }
            if *days < LOG_DUTY_DAYS {
                return Err(content(format!(
                    "retention: `{name} = {days}` is too short: logs are kept at least {LOG_DUTY_DAYS} days ({LOG_DUTY})"
                )));
            }
            if *days > DAYS_MAX {
                return Err(content(format!("retention: `{name} = {days}` is too long: at most {DAYS_MAX} days")));
            }
        }
        let class = |name: &str| match self.classes.get(name) {
            Some(days) => Ok(Class { name: name.to_owned(), days: *days }),
            None if name == DEFAULT_CLASS => Ok(Class { name: name.to_owned(), days: LOG_DUTY_DAYS }),
            None => Err(content(format!("retention: no class `{name}`: name it under `[retention.classes]`"))),
        };
        let mut projects = BTreeMap::new();
        for (project, name) in &self.projects {
            if !home.is_some_and(|home| home.projects.contains_key(project)) {
                return Err(content(format!("retention: no project `{project}` is in `[[home.projects]]`")));
            }
            projects.insert(project.clone(), class(name)?);
        }
        Ok(Rules {
            by_age: true,
            default: class(self.default.as_deref().unwrap_or(DEFAULT_CLASS))?,
            projects,
            executions: self.executions.as_deref().map(class).transpose()?,
        })
    }
}
