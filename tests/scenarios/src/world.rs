//! The stage on which a scenario is played: a gateway with the filter, the real daemon beside it,
//! and what the upstream gets. The same scenario runs in every [`Kind`] of gateway.

use std::fs;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};

use crate::client::{Request, Response};
use crate::daemon::Daemon;
use crate::envoy::Envoy;
use crate::upstream::{Received, Reply, Upstream};
use crate::wait;

mod harness;
mod plan;
mod seen;
mod values;

pub use harness::Harness;
pub use plan::Plan;
pub use seen::Seen;

use values::Values;

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
    /// The harness as Envoy, with the file for every gateway.
    HarnessEnvoyWithEveryGatewaysFile,
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
            Self::EnvoyWithEveryGatewaysFile
            | Self::HarnessEnvoyWithEveryGatewaysFile
            | Self::HarnessNginx => "vaultref.wasm",
        }
    }

    /// The same gateway with the file that has every callback.
    #[must_use]
    pub fn with_every_callback(self) -> Self {
        match self {
            Self::Envoy | Self::EnvoyWithEveryGatewaysFile => Self::EnvoyWithEveryGatewaysFile,
            Self::HarnessEnvoy | Self::HarnessEnvoyWithEveryGatewaysFile => {
                Self::HarnessEnvoyWithEveryGatewaysFile
            }
            Self::HarnessNginx => Self::HarnessNginx,
        }
    }

    /// Whether this is a real Envoy.
    #[must_use]
    pub fn is_real(self) -> bool {
        matches!(self, Self::Envoy | Self::EnvoyWithEveryGatewaysFile)
    }
}

/// A gateway and the daemon beside it.
#[derive(Debug)]
pub struct World {
    kind: Kind,
    workers: u32,
    shows_log: bool,
    values: Values,
    answer: Option<Answer>,
    daemon: Daemon,
    gateway: Gateway,
}

/// What an upstream makes of a request.
pub type Answer = fn(&Received) -> Reply;

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

    /// Sends a request, and gives what the upstream got and what its answer was when the client got
    /// it. Needs [`Plan::answering`].
    ///
    /// # Errors
    ///
    /// When no answer comes.
    pub fn exchange(&mut self, request: &Request) -> Result<(Seen, Response)> {
        match &mut self.gateway {
            Gateway::Harness(harness) => {
                let answer = self.answer.context("Plan::answering")?;
                harness.exchange(request, answer)
            }
            Gateway::Envoy { envoy, upstream } => {
                upstream.clear();
                let response = envoy.send(request)?;
                let seen = match upstream.requests().pop() {
                    Some(received) => Seen::Upstream(received),
                    None => Seen::Local(response.clone()),
                };
                Ok((seen, response))
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

    /// The same for what the client gets. Needs [`Plan::answering`].
    ///
    /// # Errors
    ///
    /// With what it got last, when that takes too long.
    pub fn eventually_exchange(
        &mut self,
        what: &str,
        request: &Request,
        expected: impl Fn(&Response) -> bool,
    ) -> Result<()> {
        let mut last = None;
        wait::until(what, wait::SOON, || {
            self.pass_time();
            let (_, response) = self.exchange(request)?;
            if expected(&response) {
                return Ok(Some(()));
            }
            last = Some(response);
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

    /// Remembers what another server than the daemon was given, as a value that nobody may show.
    pub fn keep(&self, value: impl AsRef<[u8]>) {
        self.values.keep(value.as_ref());
    }

    /// Changes a file of the vault `files`, by rename as Kubernetes and editors do.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_secret(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        self.values.keep(content.as_ref());
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

    /// How many workers the gateway has.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// The daemon, to be started, stopped or killed.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// The path of the daemon's Unix socket.
    #[must_use]
    pub fn daemon_socket(&self) -> PathBuf {
        self.daemon.socket()
    }

    /// The daemon's process, while it runs.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn daemon_process(&self) -> Result<&crate::process::Process> {
        self.daemon.process()
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

    /// All that gateway and daemon have logged, daemons that were killed among them.
    #[must_use]
    pub fn log(&self) -> String {
        let gateway = match &self.gateway {
            Gateway::Envoy { envoy, .. } => envoy.log(),
            Gateway::Harness(harness) => harness.log(),
        };
        format!("{gateway}\n{}", self.daemon.log())
    }

    /// Where a value stands that was given to the daemon or is a token: lines of a log, or of what
    /// Envoy's admin interface shows of its configuration.
    ///
    /// # Errors
    ///
    /// When Envoy runs and does not show it.
    pub fn leaks(&self) -> Result<Vec<String>> {
        let mut shown = self.log();
        if let Some((envoy, _)) = self.envoy()
            && envoy.process().ended()?.is_none()
        {
            shown.push_str(&envoy.admin("GET", "/config_dump")?);
        }
        Ok(self.values.found_in(&shown))
    }
}

/// A scenario that fails shows the log; one that does not fails here if a value was shown to anybody.
impl Drop for World {
    #[expect(
        clippy::print_stderr,
        reason = "the test runner shows it for a test that failed"
    )]
    fn drop(&mut self) {
        if self.shows_log {
            // Envoy says a lot about itself at start.
            let log = self.log();
            let lines = log.lines().filter(|line| !line.contains("source/server/"));
            lines.for_each(|line| eprintln!("{line}"));
        }
        if thread::panicking() {
            return;
        }
        match self.leaks() {
            Ok(leaks) => assert!(leaks.is_empty(), "a value is shown: {leaks:#?}"),
            Err(error) => panic!("what Envoy shows cannot be looked at: {error:#}"),
        }
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
