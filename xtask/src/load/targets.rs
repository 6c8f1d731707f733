//! What the load is pointed at: nginx, a Polder node in front of the mock, and the mock itself; and what they cost.
//!
//! CPU time and memory are read from `/proc`, for a process and its children. Everything listens on loopback and ends with the
//! value that holds it.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::failure::Failure;
use crate::process;

/// A program that ends with this value.
pub struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(Command::new("kill").arg(self.child.id().to_string()).status());
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{what}: {error}"), "read the output above")
}

/// This program, once more.
fn this() -> Result<Command, Failure> {
    Ok(Command::new(std::env::current_exe().map_err(|e| failed("this program is not found", &e))?))
}

/// A port that is free now.
pub fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| failed("no port is free", &e))?;
    Ok(listener.local_addr().map_err(|e| failed("no port is free", &e))?.port())
}

/// The loopback address of a port.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Waits until something listens.
pub fn wait_for(port: u16) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if std::net::TcpStream::connect(local(port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Failure::new(format!("nothing listens on port {port}"), "read the output above"))
}

impl Running {
    /// Starts a program.
    pub fn start(command: &mut Command) -> Result<Self, Failure> {
        let shown = process::show(command);
        let child =
            command.stdin(Stdio::null()).spawn().map_err(|e| failed(&format!("`{shown}` did not start"), &e))?;
        Ok(Self { child })
    }

    /// The mock engine, in a process of its own.
    pub fn mock(port: u16, narrow: bool) -> Result<Self, Failure> {
        let port_text = port.to_string();
        let narrow = if narrow { &["narrow"][..] } else { &[] };
        let running = Self::start(this()?.args(["bench", "gateway", "mock", &port_text]).args(narrow))?;
        wait_for(port)?;
        Ok(running)
    }

    /// One process's half of a crowd that comes to a node, once all of it is there.
    pub fn crowd(port: u16, process: u8, key: &str) -> Result<Self, Failure> {
        let (port, process) = (port.to_string(), process.to_string());
        let mut command = this()?;
        command.args(["bench", "gateway", "crowd", &port, &process, key]).stdout(Stdio::piped());
        let mut running = Self::start(&mut command)?;
        let output = running.child.stdout.take().ok_or_else(|| failed("no output", &"no pipe"))?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(|e| failed("the crowd said nothing", &e))?;
        eprint!("{line}");
        if line.starts_with("complete") { Ok(running) } else { Err(failed("the crowd did not get in", &line.trim())) }
    }

    /// nginx with a configuration.
    pub fn nginx(folder: &Path, name: &str, config: &str) -> Result<Self, Failure> {
        let path = folder.join(format!("{name}.conf"));
        std::fs::write(&path, config).map_err(|e| failed("the configuration cannot be written", &e))?;
        Self::start(Command::new("nginx").arg("-p").arg(folder).arg("-c").arg(&path).args(["-e", "stderr"]))
    }

    /// `polder up --upstream` on the mock; with its application key.
    pub fn polder(binary: &Path, folder: &Path, listen: u16, upstream: u16) -> Result<(Self, String), Failure> {
        let mut command = Command::new(binary);
        command.args(["up", "-o", "json", "--upstream", &format!("http://127.0.0.1:{upstream}/v1")]);
        command.args(["--listen", &local(listen).to_string(), "--state"]).arg(folder);
        let (running, told) = Self::ready(&mut command)?;
        Ok((running, told["key"].as_str().unwrap_or_default().to_owned()))
    }

    /// A node from a configuration file.
    pub fn node(binary: &Path, config: &Path) -> Result<Self, Failure> {
        Ok(Self::ready(Command::new(binary).args(["up", "-o", "json", "--config"]).arg(config))?.0)
    }

    /// Starts a node and waits for what it says once it is ready.
    fn ready(command: &mut Command) -> Result<(Self, Value), Failure> {
        let mut running = Self::start(command.env("POLDER_LOG", "warn").stdout(Stdio::piped()))?;
        let output = running.child.stdout.take().ok_or_else(|| failed("no output", &"no pipe"))?;
        let mut told = serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>();
        let told = told.next().ok_or_else(|| failed("the node said nothing", &"it ended"))?;
        Ok((running, told.map_err(|e| failed("the node is not understood", &e))?))
    }

    /// CPU time of the program and its children so far, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.family().iter().map(|pid| cpu_ns(*pid)).sum()
    }

    /// Memory that is resident for it and its children, in kB.
    pub fn memory_kb(&self) -> u64 {
        self.family().iter().map(|pid| memory_kb(*pid)).sum()
    }

    fn family(&self) -> Vec<u32> {
        let own = self.child.id();
        let path = format!("/proc/{own}/task/{own}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        std::iter::once(own).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }
}

/// The times that the scheduler counted for each thread: finer than the ticks of `/proc/PID/stat`.
fn cpu_ns(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |path: PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
    };
    tasks.map(|task| of(task.path())).sum()
}

fn memory_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().to_owned();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
}

/// nginx as a plain reverse proxy with keep-alive on both sides and no log; one worker, as one event loop is what is compared.
pub fn nginx_config(port: u16, upstream: u16) -> String {
    format!(
        "daemon off; master_process off; pid nginx-{port}.pid; worker_rlimit_nofile 20000;
events {{ worker_connections 10000; }}
http {{
  access_log off; error_log stderr crit; keepalive_requests 10000000; tcp_nodelay on;
  upstream engine {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"
    )
}

/// The two ends of a channel in which both show a certificate: one speaks plainly to its client, the other to the engine.
pub fn nginx_pair(folder: &Path, front: u16, middle: u16, upstream: u16) -> Result<[String; 2], Failure> {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "30",
    ]);
    openssl.args(["-subj", "/CN=bench", "-addext", "subjectAltName=DNS:bench", "-keyout"]).arg(&key);
    process::capture(openssl.arg("-out").arg(&certificate))?;
    let (key, certificate) = (key.display(), certificate.display());
    let plain = |port: u16, listen: &str, to: u16, scheme: &str, tls: &str| {
        nginx_config(port, to)
            .replace(&format!("listen 127.0.0.1:{port} backlog=4096;"), listen)
            .replace("http://engine;", &format!("{scheme}://engine; {tls}"))
    };
    let client = format!(
        "proxy_ssl_certificate {certificate}; proxy_ssl_certificate_key {key}; proxy_ssl_trusted_certificate {certificate};
         proxy_ssl_verify on; proxy_ssl_name bench; proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse on;"
    );
    let server = format!(
        "listen 127.0.0.1:{middle} ssl backlog=4096; ssl_certificate {certificate}; ssl_certificate_key {key};
         ssl_client_certificate {certificate}; ssl_verify_client on; ssl_protocols TLSv1.3;"
    );
    let listen = format!("listen 127.0.0.1:{front} backlog=4096;");
    Ok([plain(front, &listen, middle, "https", &client), plain(middle, &server, upstream, "http", "")])
}

/// A home and a factory of the demo's federation, the factory in front of the mock; with the home's port and an application key.
pub fn federation(binary: &Path, folder: &Path, upstream: u16) -> Result<(Running, Running, u16, String), Failure> {
    let dir = folder.join("demo");
    process::capture(Command::new(binary).args(["demo", "--once", "-o", "json", "--dir"]).arg(&dir))?;
    let read = |path: PathBuf| std::fs::read_to_string(path).map_err(|e| failed("the demo's files", &e));
    let record: Value = serde_json::from_str(&read(dir.join("demo.json"))?).map_err(|e| failed("demo.json", &e))?;
    let config = |node: &str| dir.join("nodes").join(node).join("node.toml");
    let mut factory: toml::Table =
        read(config(FACTORY))?.parse().map_err(|e| failed("the factory's configuration", &e))?;
    if let Some(table) = factory.get_mut("factory").and_then(toml::Value::as_table_mut) {
        table.remove("models");
        table.insert("places".to_owned(), 256.into());
        let url = format!("http://127.0.0.1:{upstream}/v1");
        table.insert("upstream".to_owned(), toml::Table::from_iter([("url".to_owned(), url.into())]).into());
    }
    std::fs::write(config(FACTORY), factory.to_string()).map_err(|e| failed("the factory's configuration", &e))?;
    let tenants = record["tenants"].as_array().cloned().unwrap_or_default();
    let tenant = tenants.iter().find(|tenant| tenant["tenant"] == TENANT);
    let tenant = tenant.ok_or_else(|| failed("demo.json", &"the tenant is not there"))?;
    let key = tenant["key"].as_str().unwrap_or_default().to_owned();
    let port = tenant["endpoint"].as_str().unwrap_or_default().trim_end_matches("/v1").rsplit(':').next();
    let port = port.unwrap_or_default().parse().map_err(|e| failed("the tenant's endpoint", &e))?;
    let factory = Running::node(binary, &config(FACTORY))?;
    let home = Running::node(binary, &config(HOME))?;
    Ok((home, factory, port, key))
}

const TENANT: &str = "start-up";
const HOME: &str = "start-up-home";
const FACTORY: &str = "paris";
