//! The daemon under test, `vaultref serve`, as its users start it: a configuration
//! file, a socket.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Address, Request, Response};
use crate::process::{Process, Program};
use crate::{paths, wait};

/// The daemon's file and folder, and the daemon while it runs. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    process: Option<Process>,
    /// What earlier processes have logged.
    earlier: String,
    env: Vec<(String, String)>,
    limits: Vec<String>,
    config_file: Option<PathBuf>,
    listeners: Vec<Address>,
    dir: TempDir,
}

impl Daemon {
    /// A daemon that listens on a Unix socket in a folder of its own, with these
    /// `vaults`, serving our own uid; not started yet.
    ///
    /// # Errors
    ///
    /// When its folder cannot be written.
    pub fn with_vaults(vaults: &Value) -> Result<Self> {
        Self::configured(|socket| json!({ "vaults": vaults, "listen": [{ "unix": socket }] }))
    }

    /// A daemon with the configuration that `config` makes from the path of its Unix
    /// socket; not started yet. What it listens on is read from `listen`.
    ///
    /// # Errors
    ///
    /// When its folder cannot be written, or `listen` names no address.
    pub fn configured(config: impl FnOnce(&Path) -> Value) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("vaultref-daemon-")
            .tempdir()
            .context("a folder for the daemon")?;
        let mut daemon = Self {
            process: None,
            earlier: String::new(),
            env: Vec::new(),
            limits: Vec::new(),
            config_file: None,
            listeners: Vec::new(),
            dir,
        };
        let config = config(&daemon.socket());
        daemon.listeners = listeners(&config)?;
        daemon.write_config(&config)?;
        Ok(daemon)
    }

    /// Sets a variable in its environment, for the next start.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has it read this file in the place of its own.
    #[must_use]
    pub fn with_config_file(mut self, file: PathBuf) -> Self {
        self.config_file = Some(file);
        self
    }

    /// Limits what it may take of the machine, as `prlimit` is told it: `nofile=64`, `data=500000000`.
    #[must_use]
    pub fn limit(mut self, limit: &str) -> Self {
        self.limits.push(limit.to_owned());
        self
    }

    /// The same, started; waits until it listens on every address.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn started(mut self) -> Result<Self> {
        self.start()?;
        Ok(self)
    }

    /// Starts it, and waits until it listens on every address.
    ///
    /// # Errors
    ///
    /// With the end of its log, when it does not come up; when it runs already.
    pub fn start(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("the daemon runs already");
        }
        let mut program = Program::new("vaultref", paths::vaultref()?)
            .arg("serve")
            .arg("--config")
            .arg(self.config_file());
        for (name, value) in &self.env {
            program = program.env(name, value);
        }
        for limit in &self.limits {
            program = program.limit(limit);
        }
        let process = program.spawn()?;
        for address in &self.listeners {
            process.wait_until(&format!("accepting on {address}"), wait::START, || {
                Ok(address.accepts().then_some(()))
            })?;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Kills it, as a crash would; its folder and its file stay.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
            self.earlier.push_str(&process.log());
        }
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    ///
    /// When it does not end, or with another code than 0.
    pub fn stop(&mut self) -> Result<()> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        let status = process.stop()?;
        self.earlier.push_str(&process.log());
        if !status.success() {
            bail!("the daemon ended with {status}:\n{}", process.log());
        }
        Ok(())
    }

    /// Kills it and starts it again.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.start()
    }

    /// All that it has logged, before it was killed or stopped as well.
    #[must_use]
    pub fn log(&self) -> String {
        let now = self.process.as_ref().map(Process::log);
        format!("{}{}", self.earlier, now.unwrap_or_default())
    }

    /// The running process.
    ///
    /// # Errors
    ///
    /// When it is not started.
    pub fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("the daemon is not started")
    }

    /// The path of its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("vaultref.sock")
    }

    /// Its folder, for files of its vaults and tokens.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        let own = || self.dir.path().join("vaultref.yaml");
        self.config_file.clone().unwrap_or_else(own)
    }

    /// Writes its configuration file (JSON, which is YAML), by rename as editors and
    /// Kubernetes do.
    ///
    /// # Errors
    ///
    /// When its folder cannot be written.
    pub fn write_config(&self, config: &Value) -> Result<()> {
        let new = self.dir.path().join("vaultref.yaml.new");
        fs::write(&new, format!("{config:#}")).context("the daemon's configuration")?;
        fs::rename(&new, self.config_file()).context("the daemon's configuration")
    }

    /// Sends a request to its Unix socket.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub fn send(&self, request: &Request) -> Result<Response> {
        request.send(self.socket().as_path())
    }

    /// Asks its Unix socket for these references, for the first time.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub fn resolve(&self, references: &[&str]) -> Result<Response> {
        let known = vec![Value::Null; references.len()];
        let body = json!({ "references": references, "known": known, "wait_ms": 2000 });
        self.send(
            &Request::post("/v1/resolve", body.to_string())
                .header("content-type", "application/json"),
        )
    }
}

fn listeners(config: &Value) -> Result<Vec<Address>> {
    let listen = config["listen"]
        .as_array()
        .context("the daemon's configuration has no `listen`")?;
    listen.iter().map(listener).collect()
}

fn listener(entry: &Value) -> Result<Address> {
    if let Some(path) = entry["unix"].as_str() {
        return Ok(Address::Unix(PathBuf::from(path)));
    }
    let tcp = entry
        .as_str()
        .and_then(|text| text.strip_prefix("tcp://"))
        .and_then(|text| text.parse::<SocketAddr>().ok());
    Ok(Address::Tcp(tcp.with_context(|| {
        format!("no address to listen on: {entry}")
    })?))
}
