//! What Envoy is started with: its bootstrap, made from what a scenario asks for.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::files::Files;
use super::{Envoy, RESOLVER, listener_address, validate_with};
use crate::client::{Address, Request};
use crate::process::Program;
use crate::{paths, wait};

const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/// What Envoy is to be started with. Answers by itself with 200 until it is given an
/// upstream.
#[derive(Clone, Debug)]
pub struct Setup {
    concurrency: u32,
    cpu: Option<usize>,
    pub(super) filters: Vec<Value>,
    clusters: Vec<Value>,
    env: Vec<(String, String)>,
    has_upstream: bool,
    pub(super) over_lds: bool,
    log_level: String,
    component_log_level: String,
    adjust: Option<fn(&mut Value)>,
}

impl Setup {
    pub(super) fn new() -> Self {
        Self {
            concurrency: 1,
            cpu: None,
            filters: Vec::new(),
            clusters: Vec::new(),
            env: Vec::new(),
            has_upstream: false,
            over_lds: false,
            log_level: "info".to_owned(),
            component_log_level: "wasm:info".to_owned(),
            adjust: None,
        }
    }

    /// How many workers.
    #[must_use]
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Keeps Envoy, with all its threads, on one core.
    #[must_use]
    pub fn cpu(mut self, cpu: Option<usize>) -> Self {
        self.cpu = cpu;
        self
    }

    /// Adds an HTTP filter, in the order of the calls: a [`WasmFilter`](super::WasmFilter), or the JSON
    /// of a native one.
    #[must_use]
    pub fn filter(mut self, filter: impl Into<Value>) -> Self {
        self.filters.push(filter.into());
        self
    }

    /// Where the daemon listens: the cluster `vaultref`.
    #[must_use]
    pub fn resolver(self, address: impl Into<Address>) -> Self {
        self.cluster(RESOLVER, address)
    }

    /// Sends every request on to this server: the cluster `upstream`.
    #[must_use]
    pub fn upstream(mut self, address: impl Into<Address>) -> Self {
        self.has_upstream = true;
        self.cluster("upstream", address)
    }

    /// Adds a static cluster with one endpoint.
    #[must_use]
    pub fn cluster(mut self, name: &str, address: impl Into<Address>) -> Self {
        let address = match address.into() {
            Address::Tcp(address) => socket_address(address),
            Address::Unix(path) => json!({ "pipe": { "path": path } }),
        };
        self.clusters.push(json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "2s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
            },
        }));
        self
    }

    /// A variable in Envoy's own environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Brings the listener by LDS from a file, so that [`Envoy::replace_filters`] can
    /// change it later.
    #[must_use]
    pub fn over_lds(mut self) -> Self {
        self.over_lds = true;
        self
    }

    /// Envoy's own log level and that of its Wasm part, which the filter's lines have.
    #[must_use]
    pub fn log_levels(mut self, envoy: &str, wasm: &str) -> Self {
        envoy.clone_into(&mut self.log_level);
        self.component_log_level = format!("wasm:{wasm}");
        self
    }

    /// A last change to the listener, for what no other method here does.
    #[must_use]
    pub fn adjust_listener(mut self, adjust: fn(&mut Value)) -> Self {
        self.adjust = Some(adjust);
        self
    }

    /// Starts it, and waits until it is live and listens.
    ///
    /// # Errors
    ///
    /// With the end of its log, when it is not installed or does not come up: an
    /// error of the configuration, say.
    pub fn start(self) -> Result<Envoy> {
        let files = Files::write(&self)?;
        let mut program = self
            .program(&files)?
            .args(["--concurrency", &self.concurrency.to_string()]);
        for (name, value) in &self.env {
            program = program.env(name, value);
        }
        let process = program.cpu(self.cpu).spawn()?;
        let admin =
            process.wait_until("the admin address", wait::START, || files.admin_address())?;
        process.wait_until("being live", wait::START, || {
            let ready = Request::get("/ready").send(admin);
            Ok(ready
                .ok()
                .filter(|answer| answer.status == 200 && answer.text().contains("LIVE"))
                .map(drop))
        })?;
        let address =
            process.wait_until("the listener", wait::START, || listener_address(admin))?;
        Ok(Envoy {
            process,
            admin,
            address,
            files,
            setup: self,
        })
    }

    /// Has Envoy look at the configuration without starting (`--mode validate`).
    ///
    /// # Errors
    ///
    /// With its log, when it refuses the configuration.
    pub fn validate(self) -> Result<()> {
        let files = Files::write(&self)?;
        validate_with(self.program(&files)?)
    }

    fn program(&self, files: &Files) -> Result<Program> {
        Ok(Program::new("Envoy", paths::envoy()?)
            .args(["--disable-hot-restart", "--log-level", &self.log_level])
            .args(["--component-log-level", &self.component_log_level])
            .arg("--config-path")
            .arg(files.bootstrap())
            .arg("--admin-address-path")
            .arg(files.admin()))
    }

    pub(super) fn bootstrap(&self, lds: &Path) -> Value {
        let mut bootstrap = json!({
            "node": { "id": "scenario", "cluster": "scenario" },
            "admin": { "address": socket_address(any_port()) },
            "static_resources": { "clusters": self.clusters },
        });
        if self.over_lds {
            let source =
                json!({ "path_config_source": { "path": lds }, "resource_api_version": "V3" });
            bootstrap["dynamic_resources"] = json!({ "lds_config": source });
        } else {
            bootstrap["static_resources"]["listeners"] = json!([self.listener()]);
        }
        bootstrap
    }

    pub(super) fn listener(&self) -> Value {
        let action = if self.has_upstream {
            ("route", json!({ "cluster": "upstream", "timeout": "30s" }))
        } else {
            (
                "direct_response",
                json!({ "status": 200, "body": { "inline_string": "envoy\n" } }),
            )
        };
        let mut filters = self.filters.clone();
        filters.push(
            json!({ "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER } }),
        );
        let manager = json!({
            "@type": HCM,
            "stat_prefix": "ingress",
            "http_filters": filters,
            "route_config": {
                "virtual_hosts": [{
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{ "match": { "prefix": "/" }, action.0: action.1 }],
                }],
            },
        });
        let mut listener = json!({
            "name": "ingress",
            "address": socket_address(any_port()),
            "filter_chains": [{
                "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }],
            }],
        });
        if let Some(adjust) = self.adjust {
            adjust(&mut listener);
        }
        listener
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
