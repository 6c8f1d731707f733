//! The limits of a job's values, one by one.
//!
//! What hangs on several jobs (names, cycles) stands in the file's own check.

use super::{JobSpec, LIST_MAX, PRIORITY_MAX, Program, RETRIES_MAX, SpecError, TEXT_BYTES_MAX, WALL_S_MAX};

/// The most of each kind that one job may ask for.
const ACCELERATORS_MAX: u32 = 100_000;
const CORES_MAX: u32 = 1_000_000;
const MEMORY_MIB_MAX: u64 = 1 << 40;
/// The most that one attempt may cost: a hundred million euro, in micro-euro.
const COST_MICROEUR_MAX: u64 = 100_000_000_000_000;

impl JobSpec {
    pub(super) fn wrong(&self, message: impl Into<String>) -> SpecError {
        SpecError::Value { job: self.name.chars().take(64).collect(), message: message.into() }
    }

    /// Checks what can be said of one job alone.
    pub fn check(&self) -> Result<(), SpecError> {
        let named = !self.name.is_empty()
            && self.name.len() <= 63
            && self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
        if !named {
            return Err(self.wrong("`name` is 1 to 63 of a-z, 0-9, `-` and `.`"));
        }
        self.numbers()?;
        self.program()?;
        if self.inputs.len() > LIST_MAX || self.outputs.len() > LIST_MAX || self.after.len() > LIST_MAX {
            return Err(self.wrong(format!("a list has more than {LIST_MAX} entries: split the job")));
        }
        for input in &self.inputs {
            self.text("inputs.uri", &input.uri)?;
            self.inside("inputs.path", &input.path)?;
            let digest = |text: &String| {
                text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            };
            if !input.sha256.as_ref().is_none_or(digest) {
                return Err(self.wrong("`inputs.sha256` is 64 lower-case hexadecimal digits"));
            }
        }
        for output in &self.outputs {
            self.text("outputs.uri", &output.uri)?;
            self.inside("outputs.path", &output.path)?;
        }
        match &self.checkpoint {
            Some(folder) => self.inside("checkpoint", folder),
            None => Ok(()),
        }
    }

    fn numbers(&self) -> Result<(), SpecError> {
        let amounts = self.resources.amounts();
        let limits: [(&str, u64, u64, u64); 8] = [
            ("wall_s", self.wall_s, 1, WALL_S_MAX),
            ("array", u64::from(self.array), 1, u64::from(super::ARRAY_MAX)),
            ("priority", u64::from(self.priority), 0, u64::from(PRIORITY_MAX)),
            ("retries", u64::from(self.retries), 0, u64::from(RETRIES_MAX)),
            ("resources.accelerators", u64::from(amounts.accelerators), 0, u64::from(ACCELERATORS_MAX)),
            ("resources.cores", u64::from(amounts.cores), 0, u64::from(CORES_MAX)),
            ("resources.memory_mib", amounts.memory_mib, 0, MEMORY_MIB_MAX),
            ("cost_microeur_max", self.cost_microeur_max, 0, COST_MICROEUR_MAX),
        ];
        for (name, value, least, most) in limits {
            if value < least || value > most {
                return Err(self.wrong(format!("`{name}` is {value}: use {least} to {most}")));
            }
        }
        if amounts.accelerators == 0 && amounts.cores == 0 && amounts.memory_mib == 0 {
            return Err(self.wrong("`resources` asks for nothing: name accelerators, cores or memory_mib"));
        }
        Ok(())
    }

    fn program(&self) -> Result<(), SpecError> {
        let command = match &self.run {
            Program::Command(command) if command.is_empty() => {
                return Err(self.wrong("`run.command` is empty: name the program"));
            }
            Program::Command(command) => command,
            Program::Image { image, command } => {
                // A tag may be moved to another image later, a digest may not.
                if !image.contains("@sha256:") {
                    return Err(self.wrong("`run.image` has no digest: write NAME@sha256:DIGEST"));
                }
                self.text("run.image", image)?;
                command
            }
        };
        if command.len() > LIST_MAX {
            return Err(self.wrong(format!("the command has more than {LIST_MAX} words")));
        }
        command.iter().try_for_each(|word| self.text("run", word))
    }

    fn text(&self, name: &str, text: &str) -> Result<(), SpecError> {
        if text.len() > TEXT_BYTES_MAX || text.contains('\0') {
            return Err(self.wrong(format!("`{name}` is longer than {TEXT_BYTES_MAX} bytes, or has a zero byte")));
        }
        Ok(())
    }

    /// A path must stay inside the work folder, however it is read.
    fn inside(&self, name: &str, path: &str) -> Result<(), SpecError> {
        self.text(name, path)?;
        let climbs = path.split(['/', '\\']).any(|part| part == ".." || part == ".");
        if path.is_empty() || path.starts_with(['/', '\\', '~']) || climbs || path.contains(':') {
            let shown: String = path.chars().take(64).collect();
            return Err(self.wrong(format!("`{name}` is `{shown}`: use a relative path that stays in the work folder")));
        }
        Ok(())
    }
}
