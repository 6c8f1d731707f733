//! `polder up`: one node, from a configuration file, or in front of an engine that already runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use polder_node::config::Config;
use polder_node::node::Node;
use polder_node::shutdown;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Output;
use crate::failure::{Exit, Failure};
use crate::logs::{self, LogFormat};
use crate::render;

mod upstream;

pub use upstream::sha256;

/// Run one node.
///
/// With --config, the node that the file describes. With --upstream, a node that is home and factory at once, in front of an
/// engine that speaks OpenAI's API; its policies are files in the state folder, and one key is printed.
///
/// SIGHUP reads policies and terms again; a broken file changes nothing and the log says where it is broken.
///
/// Example: polder up --upstream http://127.0.0.1:8000/v1 --listen 127.0.0.1:8080
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["config", "upstream"])))]
pub struct Arguments {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The base URL of the engine.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Where applications connect, with --upstream.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", conflicts_with = "config")]
    listen: SocketAddr,
    /// The file that holds the engine's own key, with --upstream.
    #[arg(long, value_name = "FILE", requires = "upstream")]
    upstream_key_file: Option<PathBuf>,
    /// Where the node keeps keys, policies and log, with --upstream.
    #[arg(long, value_name = "DIR", default_value = "polder-node", conflicts_with = "config")]
    state: PathBuf,
    /// How log lines are written on stderr; `POLDER_LOG` sets which, such as `debug`.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// End when standard input ends, so that no node outlives whoever started it.
    #[arg(long, hide = true)]
    tether: bool,
}

/// Runs the node until it is told to stop.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    logs::start(arguments.log_format);
    let (config, key) = match (&arguments.config, &arguments.upstream) {
        (Some(config), _) => (config.clone(), None),
        (None, Some(url)) => {
            let key_file = arguments.upstream_key_file.as_deref();
            let set_up = upstream::set_up(&arguments.state, url, arguments.listen, key_file)?;
            (set_up.config, Some(set_up.key))
        }
        (None, None) => return Err(Failure::new("name a configuration or an upstream").exit(Exit::Usage)),
    };
    let config = Config::load(&config).map_err(|e| {
        Failure::new(e.to_string()).hint("`polder doctor --config FILE` looks at everything that a configuration names")
    })?;
    let base = format!("http://{}", config.listen);
    // Only a home speaks to applications; a factory's homes find it by its members file.
    let endpoint = if config.home.is_some() { format!("{base}/v1") } else { base };
    let node = Node::open(config).await.map_err(|e| Failure::new(e.to_string()))?;
    let (stop, signal) = shutdown::channel();
    let watched = std::sync::Arc::clone(&node);
    // Heard from here on: whoever is told that the node is ready may stop it at once.
    let signals = Signals::hear()?;
    tokio::spawn(async move { obey(watched, stop, signals, arguments.tether).await });
    let served = node.serve(signal, || announce(&endpoint, key.as_deref(), output));
    served.await.map_err(|e| Failure::new(e.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// Tells that the node is ready, and how to use it. A reader that has gone away does not stop a node.
fn announce(endpoint: &str, key: Option<&str>, output: Output) {
    let told = match (output, key) {
        (Output::Json, key) => render::json(&json!({"ready": true, "endpoint": endpoint, "key": key})),
        (Output::Table, Some(key)) => render::line(&format!("export OPENAI_BASE_URL={endpoint}"))
            .and(render::line(&format!("export OPENAI_API_KEY={key}"))),
        (Output::Table, None) => render::line(&format!("ready at {endpoint}")),
    };
    if let Err(failure) = told {
        failure.print();
    }
}

/// The signals that a node obeys.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn hear() -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("signals cannot be heard: {e}"));
        Ok(Self {
            hangup: signal(SignalKind::hangup()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }
}

/// Waits for the word to stop, and reads policies again on SIGHUP.
async fn obey(node: std::sync::Arc<Node>, stop: shutdown::Stop, signals: Signals, tether: bool) {
    let Signals { mut hangup, mut terminate, mut interrupt } = signals;
    loop {
        tokio::select! {
            _ = hangup.recv() => match node.reload().await {
                Ok(()) => tracing::info!("policies and terms were read again"),
                Err(problems) => problems.iter().for_each(|problem| tracing::error!(problem, "a policy file was refused")),
            },
            _ = terminate.recv() => return stop.now(),
            _ = interrupt.recv() => return stop.now(),
            () = end_of_input(), if tether => return stop.now(),
        }
    }
}

async fn end_of_input() {
    let mut byte = [0];
    while let Ok(1..) = tokio::io::stdin().read(&mut byte).await {}
}

/// Reads a node's file, for `doctor`.
pub fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|e| Failure::new(e.to_string()))
}
