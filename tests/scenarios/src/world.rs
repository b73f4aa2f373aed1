//! The stage on which a scenario is played: a gateway with the filter, the real daemon beside it,
//! and what the upstream gets. The same scenario runs in every [`Kind`] of gateway.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_harness::{NginxOptions, Profile};

use crate::client::{Address, Request};
use crate::daemon::Daemon;
use crate::envoy::{Envoy, WasmFilter};
use crate::upstream::Upstream;
use crate::{paths, ports, wait};

mod harness;
mod seen;

pub use harness::Harness;
pub use seen::Seen;

/// The variable that holds the filter's token.
const TOKEN: &str = "VAULTREF_TOKEN";

/// What a VM's filter logs once every reference has its first answer.
const HAS_ANSWERS: &str = "the resolver has answered for all";

/// The gateways that a scenario runs in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A real Envoy with `vaultref-envoy.wasm`.
    Envoy,
    /// A real Envoy with the file for every gateway, `vaultref.wasm`.
    EnvoyWithEveryGatewaysFile,
    /// The harness as Envoy, with `vaultref-envoy.wasm`.
    HarnessEnvoy,
    /// The harness as nginx under Kong, with `vaultref.wasm`.
    HarnessNginx,
}

impl Kind {
    /// Whether this is nginx, in which some things cannot be done.
    #[must_use]
    pub fn is_nginx(self) -> bool {
        self == Self::HarnessNginx
    }

    /// The file that runs in this gateway.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Envoy | Self::HarnessEnvoy => "vaultref-envoy.wasm",
            Self::EnvoyWithEveryGatewaysFile | Self::HarnessNginx => "vaultref.wasm",
        }
    }
}

/// What is to be on the stage.
#[derive(Debug)]
pub struct Plan {
    kind: Kind,
    filter: Value,
    vaults: Vec<Value>,
    files: Vec<(String, Vec<u8>)>,
    env: Vec<(String, String)>,
    has_daemon: bool,
    holds_answers: bool,
    nginx: NginxOptions,
    resolver: Option<Address>,
    shows_log: bool,
    tally: Option<String>,
    tokens: Option<Tokens>,
    workers: u32,
}

/// Loopback TCP in place of the Unix socket.
#[derive(Debug)]
struct Tokens {
    address: SocketAddr,
    of_daemon: String,
    of_filter: String,
}

impl Plan {
    /// A gateway whose filter has this configuration (`resolver` is filled in where it is not
    /// given), two workers, and a daemon with a vault `files` whose values are fresh for a second.
    #[must_use]
    pub fn new(kind: Kind, filter: Value) -> Self {
        Self {
            kind,
            filter,
            vaults: Vec::new(),
            files: Vec::new(),
            env: Vec::new(),
            has_daemon: true,
            holds_answers: false,
            nginx: NginxOptions::kong(),
            resolver: None,
            shows_log: true,
            tally: None,
            tokens: None,
            workers: 2,
        }
    }

    /// A file in the vault `files`.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.files
            .push((name.to_owned(), content.as_ref().to_vec()));
        self
    }

    /// One more vault of the daemon.
    #[must_use]
    pub fn vault(mut self, vault: Value) -> Self {
        self.vaults.push(vault);
        self
    }

    /// A variable in the daemon's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The daemon is not up when the gateway starts.
    #[must_use]
    pub fn without_daemon(mut self) -> Self {
        self.has_daemon = false;
        self
    }

    /// In the harness, answers to callouts wait until the scenario delivers them.
    #[must_use]
    pub fn holding_answers(mut self) -> Self {
        self.holds_answers = true;
        self
    }

    /// In the harness as nginx, another one than Kong 3.9.
    #[must_use]
    pub fn nginx(mut self, options: NginxOptions) -> Self {
        self.nginx = options;
        self
    }

    /// The gateway asks this server in the daemon's place.
    #[must_use]
    pub fn resolver(mut self, address: impl Into<Address>) -> Self {
        self.resolver = Some(address.into());
        self
    }

    /// In Envoy, the upstream only counts the values of this header, so that it bears load.
    #[must_use]
    pub fn tallying(mut self, header: &str) -> Self {
        self.tally = Some(header.to_owned());
        self
    }

    /// The daemon listens on loopback TCP alone and knows a client by `of_daemon`, who may read the
    /// vault `files`; the filter shows `of_filter`.
    ///
    /// # Errors
    ///
    /// When no port is free.
    pub fn over_tcp(mut self, of_daemon: &str, of_filter: &str) -> Result<Self> {
        self.tokens = Some(Tokens {
            address: ports::free()?,
            of_daemon: of_daemon.to_owned(),
            of_filter: of_filter.to_owned(),
        });
        Ok(self)
    }

    /// Does not print what gateway and daemon logged, which a test runner shows for a test that
    /// failed.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.shows_log = false;
        self
    }

    /// How many workers the gateway has.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Starts the daemon and the gateway.
    ///
    /// # Errors
    ///
    /// With the log of what does not come up.
    pub fn start(self) -> Result<World> {
        let mut daemon = self.daemon()?;
        for (name, content) in &self.files {
            write_secret(&daemon, name, content)?;
        }
        if self.has_daemon {
            daemon.start()?;
        }
        let gateway = match self.kind {
            Kind::Envoy | Kind::EnvoyWithEveryGatewaysFile => self.envoy(&daemon)?,
            Kind::HarnessEnvoy | Kind::HarnessNginx => {
                let filter = self.filter_configuration(&daemon).to_string();
                let mut harness = Harness::setup(self.kind, self.workers as usize)?
                    .plugin(Harness::plugin(&filter))
                    .upstream("vaultref", self.resolver_address(&daemon).into());
                if self.kind.is_nginx() {
                    harness = harness.profile(Profile::Nginx(self.nginx.clone()));
                }
                if self.holds_answers {
                    harness = harness.hold_answers();
                }
                if let Some(tokens) = &self.tokens {
                    harness = harness.env(TOKEN, &tokens.of_filter);
                }
                Gateway::Harness(Box::new(Harness::start(harness, self.workers as usize)?))
            }
        };
        Ok(World {
            kind: self.kind,
            workers: self.workers,
            shows_log: self.shows_log,
            daemon,
            gateway,
        })
    }

    fn daemon(&self) -> Result<Daemon> {
        let mut daemon = Daemon::configured(|socket| {
            let folder = socket.with_file_name("secrets");
            let mut vaults = vec![
                json!({ "name": "fs", "prefix": "files", "config": { "prefix": folder, "ttl": 1 } }),
            ];
            vaults.extend(self.vaults.iter().cloned());
            match &self.tokens {
                None => json!({ "vaults": vaults, "listen": [{ "unix": socket }] }),
                Some(tokens) => json!({
                    "vaults": vaults,
                    "listen": [format!("tcp://{}", tokens.address)],
                    "clients": [{ "name": "edge", "tokens": [tokens.of_daemon], "allow": ["files/*"] }],
                }),
            }
        })?;
        for (name, value) in &self.env {
            daemon = daemon.env(name, value);
        }
        fs::create_dir(secrets(&daemon)).context("the folder of the vault `files`")?;
        Ok(daemon)
    }

    fn filter_configuration(&self, daemon: &Daemon) -> Value {
        let mut filter = self.filter.clone();
        let upstream = match self.kind {
            Kind::HarnessNginx => self.resolver_address(daemon).to_string(),
            _ => "vaultref".to_owned(),
        };
        filter["resolver"]["upstream"] = json!(upstream);
        if self.tokens.is_some() {
            filter["resolver"]["token_env"] = json!(TOKEN);
        }
        filter
    }

    fn resolver_address(&self, daemon: &Daemon) -> Address {
        match (&self.resolver, &self.tokens) {
            (Some(other), _) => other.clone(),
            (None, Some(tokens)) => tokens.address.into(),
            (None, None) => daemon.socket().as_path().into(),
        }
    }

    fn envoy(&self, daemon: &Daemon) -> Result<Gateway> {
        let upstream = match &self.tally {
            Some(header) => Upstream::tallying(header)?,
            None => Upstream::start()?,
        };
        let mut filter = WasmFilter::new(paths::module(self.kind.module())?)
            .json(&self.filter_configuration(daemon))
            .failure_policy("FAIL_RELOAD");
        if let Some(tokens) = &self.tokens {
            filter = filter.env(TOKEN, &tokens.of_filter);
        }
        let envoy = Envoy::setup()
            .concurrency(self.workers)
            .filter(filter)
            .resolver(self.resolver_address(daemon))
            .upstream(upstream.address())
            .start()?;
        Ok(Gateway::Envoy {
            envoy: Box::new(envoy),
            upstream,
        })
    }
}

/// A gateway and the daemon beside it. A scenario that fails shows their log.
#[derive(Debug)]
pub struct World {
    kind: Kind,
    workers: u32,
    shows_log: bool,
    daemon: Daemon,
    gateway: Gateway,
}

#[derive(Debug)]
enum Gateway {
    Envoy {
        envoy: Box<Envoy>,
        upstream: Upstream,
    },
    Harness(Box<Harness>),
}

impl World {
    /// Sends a request to the next worker and waits for what becomes of it.
    ///
    /// # Errors
    ///
    /// When nothing becomes of it.
    pub fn send(&mut self, request: &Request) -> Result<Seen> {
        match &mut self.gateway {
            Gateway::Harness(harness) => harness.send(request),
            Gateway::Envoy { envoy, upstream } => {
                upstream.clear();
                let response = envoy.send(request)?;
                Ok(match upstream.requests().pop() {
                    Some(received) => Seen::Upstream(received),
                    None => Seen::Local(response),
                })
            }
        }
    }

    /// Sends the request again and again, while time goes on, until what becomes of it is
    /// `expected`.
    ///
    /// # Errors
    ///
    /// With what became of it last, when that takes too long.
    pub fn eventually(
        &mut self,
        what: &str,
        request: &Request,
        expected: impl Fn(&Seen) -> bool,
    ) -> Result<Seen> {
        let mut last = None;
        wait::until(what, wait::SOON, || {
            self.pass_time();
            let seen = self.send(request)?;
            if expected(&seen) {
                return Ok(Some(seen));
            }
            last = Some(seen);
            Ok(None)
        })
        .with_context(|| format!("last was {last:?}\n{}", self.log()))
    }

    /// In the harness, whose clock the test has in its hand, lets a tick come and its callouts
    /// end; in Envoy time passes by itself.
    pub fn pass_time(&mut self) {
        if let Gateway::Harness(harness) = &mut self.gateway {
            harness.tick();
        }
    }

    /// Lets time pass until every VM of the gateway has its answers in memory: a worker that was not
    /// asked anything yet knows nothing before its first tick.
    ///
    /// # Errors
    ///
    /// With the log, when that takes too long.
    pub fn until_every_vm_has_answers(&mut self) -> Result<()> {
        // Envoy has one more, on its main thread.
        let vms = match &self.gateway {
            Gateway::Envoy { .. } => self.workers + 1,
            Gateway::Harness(_) => self.workers,
        };
        wait::until("answers in every VM", wait::SOON, || {
            self.pass_time();
            let lines = self.log().matches(HAS_ANSWERS).count();
            Ok((lines >= vms as usize).then_some(()))
        })
        .with_context(|| self.log())
    }

    /// Changes a file of the vault `files`, by rename as Kubernetes and editors do.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_secret(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        write_secret(&self.daemon, name, content.as_ref())
    }

    /// Removes a file of the vault `files`.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn remove_secret(&self, name: &str) -> Result<()> {
        fs::remove_file(secrets(&self.daemon).join(name)).context("a secret's file")
    }

    /// The gateway.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The daemon, to be started, stopped or killed.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// The real Envoy and the upstream behind it, where this is one.
    #[must_use]
    pub fn envoy(&self) -> Option<(&Envoy, &Upstream)> {
        match &self.gateway {
            Gateway::Envoy { envoy, upstream } => Some((envoy, upstream)),
            Gateway::Harness(_) => None,
        }
    }

    /// The harness, where this is one.
    pub fn harness(&mut self) -> Option<&mut Harness> {
        match &mut self.gateway {
            Gateway::Harness(harness) => Some(harness),
            Gateway::Envoy { .. } => None,
        }
    }

    /// All that gateway and daemon have logged.
    #[must_use]
    pub fn log(&self) -> String {
        let daemon = self
            .daemon
            .process()
            .map(crate::process::Process::log)
            .unwrap_or_default();
        let gateway = match &self.gateway {
            Gateway::Envoy { envoy, .. } => envoy.log(),
            Gateway::Harness(harness) => harness.log(),
        };
        format!("{gateway}\n{daemon}")
    }
}

impl Drop for World {
    #[expect(
        clippy::print_stderr,
        reason = "the test runner shows it for a test that failed"
    )]
    fn drop(&mut self) {
        if !self.shows_log {
            return;
        }
        // Envoy says a lot about itself at start.
        let log = self.log();
        let lines = log.lines().filter(|line| !line.contains("source/server/"));
        lines.for_each(|line| eprintln!("{line}"));
    }
}

fn secrets(daemon: &Daemon) -> PathBuf {
    daemon.dir().join("secrets")
}

fn write_secret(daemon: &Daemon, name: &str, content: &[u8]) -> Result<()> {
    let path = secrets(daemon).join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).context("a secret's folder")?;
    }
    let new = daemon.dir().join("secret.new");
    fs::write(&new, content).context("a secret's file")?;
    fs::rename(&new, &path).context("a secret's file")
}
