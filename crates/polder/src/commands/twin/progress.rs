//! A line of progress on anything that takes longer than two seconds: how much is done, how fast, and how long it will take yet.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Quiet before this; then a line of progress now and again.
const QUIET: Duration = Duration::from_secs(2);

/// A bar on stderr.
pub struct Bar {
    begun: Instant,
    told: Instant,
    live: bool,
    shown: bool,
}

impl Bar {
    /// A bar that has told nothing yet.
    pub fn new(begun: Instant) -> Self {
        Self { begun, told: begun, live: std::io::stderr().is_terminal(), shown: false }
    }

    /// Tells how much is done, where it is time to.
    pub fn show(&mut self, done: u64, of: u64, what: &str) {
        let part = done as f64 / of.max(1) as f64;
        let rate = |took: f64| format!("{:.0} {what} a second", done as f64 / took);
        self.line(part, rate);
    }

    /// The same with words of one's own, made from the seconds that it took so far.
    pub fn line(&mut self, part: f64, words: impl Fn(f64) -> String) {
        let every = if self.live { Duration::from_millis(200) } else { Duration::from_secs(10) };
        if self.begun.elapsed() < QUIET || self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let took = self.begun.elapsed().as_secs_f64();
        let left = took / part.max(1e-9) - took;
        let bar: String = (0..20).map(|step| if f64::from(step) < part * 20.0 { '#' } else { '.' }).collect();
        let line = format!("[{bar}] {:>3.0} %  {}, {left:.0} s left", part * 100.0, words(took));
        if self.live {
            self.shown = true;
            eprint!("\r{line}  ");
            drop(std::io::stderr().flush());
        } else {
            eprintln!("{line}");
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown {
            eprintln!();
        }
    }
}
