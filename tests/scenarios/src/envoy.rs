//! A real Envoy in front of an upstream, with the filters that a scenario names.
//!
//! It chooses its ports itself (listener and admin), so that nothing can take them in
//! between. Only loopback addresses are bound.

mod files;
mod setup;
mod wasm_filter;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::files::Files;
pub use self::setup::Setup;
pub use self::wasm_filter::WasmFilter;
use crate::client::{Address, Request, Response};
use crate::process::{Process, Program};
use crate::{paths, wait};

/// The name of the cluster that leads to the daemon.
pub const RESOLVER: &str = "vaultref";

/// A running Envoy. Dropping it kills it.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    address: SocketAddr,
    files: Files,
    setup: Setup,
}

impl Envoy {
    /// What it is to be started with.
    #[must_use]
    pub fn setup() -> Setup {
        Setup::new()
    }

    /// Has Envoy look at somebody's own configuration file without starting.
    ///
    /// # Errors
    ///
    /// With its log, when it refuses the configuration.
    pub fn validate_file(config: &Path) -> Result<()> {
        validate_with(
            Program::new("Envoy", paths::envoy()?)
                .arg("--config-path")
                .arg(config),
        )
    }

    /// Where it takes requests.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request through it.
    ///
    /// # Errors
    ///
    /// When no answer comes.
    pub fn send(&self, request: &Request) -> Result<Response> {
        request.send(self.address)
    }

    /// Its process, to be killed or to have its CPU time read.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// All that it has logged so far, with the filter's lines.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Asks its admin interface.
    ///
    /// # Errors
    ///
    /// When it does not answer by 200.
    pub fn admin(&self, method: &str, path: &str) -> Result<String> {
        let response = Request::new(method, path).send(self.admin)?;
        match response.status {
            200 => Ok(response.text()),
            status => bail!(
                "Envoy's admin interface: {method} {path}: {status} {}",
                response.text()
            ),
        }
    }

    /// Counters and gauges whose name contains `filter`, by name.
    ///
    /// # Errors
    ///
    /// When the admin interface does not answer.
    pub fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        let text = self.admin("GET", "/stats")?;
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        let numbers =
            pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        Ok(numbers.filter(|(name, _)| name.contains(filter)).collect())
    }

    /// One counter or gauge; 0 when Envoy does not have it (yet).
    ///
    /// # Errors
    ///
    /// When the admin interface does not answer.
    pub fn stat(&self, name: &str) -> Result<u64> {
        Ok(self.stats(name)?.get(name).copied().unwrap_or(0))
    }

    /// Replaces the listener's filters by LDS and waits until Envoy has taken or refused
    /// them. Needs [`Setup::over_lds`].
    ///
    /// # Errors
    ///
    /// When Envoy refuses them: the old ones then stay in force.
    pub fn replace_filters(&mut self, filters: Vec<Value>) -> Result<()> {
        if !self.setup.over_lds {
            bail!("the filters of a static listener cannot be replaced");
        }
        let taken = "listener_manager.lds.update_success";
        let refused = "listener_manager.lds.update_rejected";
        let before = (self.stat(taken)?, self.stat(refused)?);
        self.setup.filters = filters;
        self.files.write_lds(&self.setup)?;
        let was_taken = self
            .process
            .wait_until("the new listener", wait::START, || {
                if self.stat(refused)? > before.1 {
                    return Ok(Some(false));
                }
                let is_in_force = self.stat(taken)? > before.0
                    && self.stat("listener_manager.total_listeners_warming")? == 0;
                Ok(is_in_force.then_some(true))
            })?;
        if !was_taken {
            bail!("Envoy refused the new listener");
        }
        Ok(())
    }
}

fn validate_with(program: Program) -> Result<()> {
    let process = program.args(["--mode", "validate"]).spawn()?;
    let status = process.wait_for_end(wait::START)?;
    if !status.success() {
        bail!(
            "Envoy refuses the configuration ({status}):\n{}",
            process.log()
        );
    }
    Ok(())
}

fn listener_address(admin: SocketAddr) -> Result<Option<SocketAddr>> {
    let listeners = Request::get("/listeners?format=json").send(admin)?.json()?;
    let socket = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
    let (Some(ip), Some(port)) = (socket["address"].as_str(), socket["port_value"].as_u64()) else {
        return Ok(None);
    };
    let address: SocketAddr = format!("{ip}:{port}")
        .parse()
        .context("the listener's address")?;
    Ok((port != 0 && Address::Tcp(address).accepts()).then_some(address))
}
