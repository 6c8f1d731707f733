//! Running a page's commands: one session, in order, each with the real binary.
//!
//! Home, temporary and working folder are fresh, so that nobody's configuration is read and nothing is left behind. What was started in the
//! background is interrupted as a person would do it, and ended if that does not help.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::normal;
use super::{Action, Program, Step};

/// How long a command in the background may take until it has printed what is expected.
const BACKGROUND_MAX: Duration = Duration::from_secs(60);
/// How the session's folder reads in the README: it stands in for `XDG_STATE_HOME`, whose default this is.
const STATE_SHOWN: &str = "~/.local/state";
/// How long a command may take to end when it is interrupted.
const INTERRUPTED_MAX: Duration = Duration::from_secs(15);

/// A sitting at the terminal.
pub struct Session {
    /// The page, for messages.
    page: String,
    binary: PathBuf,
    home: PathBuf,
    exported: Vec<(String, String)>,
    /// What the page shows of addresses, keys and ids, and what was printed in their place.
    learned: Vec<(String, String)>,
    status: i32,
    background: Vec<Child>,
}

impl Session {
    /// Begins with the built binary and a fresh home.
    pub fn new(page: &str, binary: &Path, home: &Path) -> Self {
        Self {
            page: page.to_owned(),
            binary: binary.to_owned(),
            home: home.to_owned(),
            exported: Vec::new(),
            learned: Vec::new(),
            status: 0,
            background: Vec::new(),
        }
    }

    /// Runs one step; the error tells the difference.
    pub fn run(&mut self, step: &Step) -> Result<(), String> {
        let printed = match &step.action {
            Action::EchoStatus => format!("{}\n", self.status),
            Action::Export { name, value } => {
                let value = self.really(value);
                self.exported.push((name.clone(), value));
                String::new()
            }
            Action::File { name, text } => {
                std::fs::write(self.home.join(name), text).map_err(|error| format!("`{name}`: {error}"))?;
                String::new()
            }
            Action::Client { program, script } => self.client(*program, script)?,
            Action::Polder { args, background: true } => {
                let running = self.begin(args, &step.expected)?;
                self.background.push(running.child);
                self.shown(&running.printed)
            }
            Action::Polder { args, .. } if step.expected.iter().any(|line| line == "^C") => {
                self.interrupted(args, &step.expected)?
            }
            Action::Polder { args, .. } => {
                let args: Vec<String> = args.iter().map(|arg| self.really(arg)).collect();
                self.foreground(&self.binary.clone(), &args)?
            }
        };
        let expected: Vec<String> = step.expected.iter().filter(|line| *line != "^C").cloned().collect();
        let difference = normal::difference(&expected, &printed);
        if difference.is_none() {
            self.learned.extend(normal::stands_for(&expected, &printed));
        }
        difference.map_or(Ok(()), |message| Err(format!("{}:{}: `$ {}`\n{message}", self.page, step.line, step.text)))
    }

    /// What the page shows, with what was printed in its place; what was learned last counts.
    fn really(&self, text: &str) -> String {
        let replace = |text: String, (shown, printed): &(String, String)| text.replace(shown.as_str(), printed);
        self.learned.iter().rev().fold(text.to_owned(), replace)
    }

    /// Runs a file of the page with the clients of the test environment.
    fn client(&mut self, program: Program, script: &str) -> Result<String, String> {
        let set = |name: &str| std::env::var_os(name).ok_or(format!("`{name}` is not set: use `cargo xtask test`"));
        let program = match program {
            Program::Python => PathBuf::from(set("POLDER_TEST_PYTHON")?),
            Program::Node => {
                let from = PathBuf::from(set("POLDER_TEST_NODE_DIR")?).join("node_modules");
                let to = self.home.join("node_modules");
                if !to.exists() {
                    std::os::unix::fs::symlink(from, to).map_err(|error| error.to_string())?;
                }
                PathBuf::from("node")
            }
        };
        self.foreground(&program, &[script.to_owned()])
    }

    fn command(&self, program: &Path, args: &[String]) -> (Command, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.home).stdin(Stdio::null());
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "TMPDIR"] {
            command.env(variable, &self.home);
        }
        command.env("NO_COLOR", "1").envs(self.exported.iter().cloned());
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        (command, reader)
    }

    fn foreground(&mut self, program: &Path, args: &[String]) -> Result<String, String> {
        let (mut command, mut reader) = self.command(program, args);
        let mut child = command.spawn().map_err(|error| format!("`{}`: {error}", program.display()))?;
        drop(command);
        let mut printed = String::new();
        reader.read_to_string(&mut printed).map_err(|error| error.to_string())?;
        self.status = child.wait().map_err(|error| error.to_string())?.code().unwrap_or(-1);
        Ok(self.shown(&Mutex::new(printed)))
    }

    /// Starts a command and waits until it has printed what is expected, or its time is over.
    fn begin(&mut self, args: &[String], expected: &[String]) -> Result<Running, String> {
        let (mut command, reader) = self.command(&self.binary, args);
        let child = command.spawn().map_err(|error| format!("`{}`: {error}", self.binary.display()))?;
        drop(command);
        let printed = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&printed);
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                sink.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let start = Instant::now();
        while normal::difference(expected, &self.shown(&printed)).is_some() && start.elapsed() < BACKGROUND_MAX {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Running { child, printed, reading })
    }

    /// Runs a command up to the line `^C`, interrupts it there, and reads what it says to that.
    fn interrupted(&mut self, args: &[String], expected: &[String]) -> Result<String, String> {
        let before: Vec<String> = expected.iter().take_while(|line| *line != "^C").cloned().collect();
        let mut running = self.begin(args, &before)?;
        self.status = end(&mut running.child);
        running.reading.join().map_err(|_| "reading the output failed".to_owned())?;
        Ok(self.shown(&running.printed))
    }

    /// What was printed, the fresh folder shown as the one that state is kept in where nobody says otherwise.
    fn shown(&self, printed: &Mutex<String>) -> String {
        printed.lock().unwrap().replace(&self.home.to_string_lossy().into_owned(), STATE_SHOWN)
    }
}

/// A command that has not ended yet.
struct Running {
    child: Child,
    printed: Arc<Mutex<String>>,
    reading: std::thread::JoinHandle<()>,
}

/// Interrupts a process as Ctrl-C does, ends it if that does not help, and returns its exit code.
fn end(child: &mut Child) -> i32 {
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code().unwrap_or(-1),
            Ok(None) if start.elapsed() > INTERRUPTED_MAX => drop(child.kill()),
            Ok(None) => {}
            Err(_) => return -1,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for child in &mut self.background {
            end(child);
        }
    }
}
