//! What is to be on the stage, and how it is put there.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_harness::{NginxOptions, Profile};

use super::values::Values;
use super::{Answer, Gateway, Harness, Kind, World, secrets, write_secret};
use crate::client::Address;
use crate::daemon::Daemon;
use crate::envoy::{Envoy, WasmFilter};
use crate::upstream::Upstream;
use crate::{paths, ports};

/// The variable that holds the filter's token.
const TOKEN: &str = "VAULTREF_TOKEN";

/// What is to be on the stage.
#[derive(Debug)]
pub struct Plan {
    kind: Kind,
    filter: Value,
    vaults: Vec<Value>,
    files: Vec<(String, Vec<u8>)>,
    terms: Value,
    env: Vec<(String, String)>,
    has_daemon: bool,
    holds_answers: bool,
    nginx: NginxOptions,
    resolver: Option<Address>,
    shows_log: bool,
    tally: Vec<String>,
    stops_iteration: bool,
    tokens: Option<Tokens>,
    workers: u32,
    adjust_listener: Option<fn(&mut Value)>,
    limits: Vec<String>,
    gateway_env: Vec<(String, String)>,
    answer: Option<Answer>,
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
            terms: json!({ "ttl": 1 }),
            env: Vec::new(),
            has_daemon: true,
            holds_answers: false,
            nginx: NginxOptions::kong(),
            resolver: None,
            shows_log: true,
            tally: Vec::new(),
            limits: Vec::new(),
            gateway_env: Vec::new(),
            stops_iteration: false,
            tokens: None,
            workers: 2,
            adjust_listener: None,
            answer: None,
        }
    }

    /// A file in the vault `files`.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.files
            .push((name.to_owned(), content.as_ref().to_vec()));
        self
    }

    /// For how long values of the vault `files` hold, instead of a ttl of a second: `ttl`,
    /// `resurrect_ttl` and their like.
    #[must_use]
    pub fn terms(mut self, terms: Value) -> Self {
        self.terms = terms;
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

    /// A variable in Envoy's environment.
    #[must_use]
    pub fn gateway_env(mut self, name: &str, value: &str) -> Self {
        self.gateway_env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A limit of the daemon's process, as [`Daemon::limit`] has it.
    #[must_use]
    pub fn limit(mut self, limit: &str) -> Self {
        self.limits.push(limit.to_owned());
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

    /// In Envoy, the upstream only counts the values of this header, and of others that are named
    /// likewise, so that it bears load.
    #[must_use]
    pub fn tallying(mut self, header: &str) -> Self {
        self.tally.push(header.to_owned());
        self
    }

    /// In Envoy, real or not: a filter that holds a request's headers gets its body all the same
    /// (`allow_on_headers_stop_iteration`).
    #[must_use]
    pub fn stopping_iteration(mut self) -> Self {
        self.stops_iteration = true;
        self
    }

    /// The daemon listens on loopback TCP alone and knows a client by `of_daemon`, a token or a
    /// reference to one, who may read the vault `files`; the filter shows `of_filter`.
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

    /// The upstream answers this, instead of 200 with a short body.
    #[must_use]
    pub fn answering(mut self, answer: Answer) -> Self {
        self.answer = Some(answer);
        self
    }

    /// In Envoy, a last change to the listener: its routes, say.
    #[must_use]
    pub fn adjust_listener(mut self, adjust: fn(&mut Value)) -> Self {
        self.adjust_listener = Some(adjust);
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
            Kind::HarnessEnvoy | Kind::HarnessEnvoyWithEveryGatewaysFile | Kind::HarnessNginx => {
                let filter = self.filter_configuration(&daemon).to_string();
                let mut harness = Harness::setup(self.kind, self.workers as usize)?
                    .plugin(Harness::plugin(&filter))
                    .upstream("vaultref", self.resolver_address(&daemon).into());
                if self.kind.is_nginx() {
                    harness = harness.profile(Profile::Nginx(self.nginx.clone()));
                }
                if self.answer.is_some() {
                    harness = harness.respond_by_hand();
                }
                if self.stops_iteration {
                    harness = harness.allow_on_headers_stop_iteration();
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
            values: self.values(),
            answer: self.answer,
            daemon,
            gateway,
        })
    }

    /// What nobody may show.
    fn values(&self) -> Values {
        let values = Values::default();
        let own_tokens = self.vaults.iter().map(|vault| &vault["config"]["token"]);
        for token in own_tokens.filter_map(Value::as_str) {
            values.keep(token.as_bytes());
        }
        let files = self.files.iter().map(|(_, content)| content.as_slice());
        let env = self.env.iter().map(|(_, value)| value.as_bytes());
        let tokens = self.tokens.iter();
        let tokens = tokens.flat_map(|tokens| [&tokens.of_daemon, &tokens.of_filter]);
        // A token that is a reference is no secret.
        let tokens = tokens.filter(|token| !token.starts_with("{vault://"));
        files
            .chain(env)
            .chain(tokens.map(String::as_bytes))
            .for_each(|value| values.keep(value));
        values
    }

    fn daemon(&self) -> Result<Daemon> {
        let mut daemon = Daemon::configured(|socket| {
            let mut files = self.terms.clone();
            files["prefix"] = json!(socket.with_file_name("secrets"));
            let mut vaults = vec![json!({ "name": "fs", "prefix": "files", "config": files })];
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
        // All that it could ever say, since none of it may be a value.
        daemon = daemon.env("RUST_LOG", "trace");
        for (name, value) in &self.env {
            daemon = daemon.env(name, value);
        }
        for limit in &self.limits {
            daemon = daemon.limit(limit);
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
        let tallied: Vec<&str> = self.tally.iter().map(String::as_str).collect();
        let upstream = match (&*tallied, self.answer) {
            ([], Some(answer)) => Upstream::answering(answer)?,
            ([], None) => Upstream::start()?,
            (headers, _) => Upstream::tallying(headers)?,
        };
        let mut filter = WasmFilter::new(paths::module(self.kind.module())?)
            .json(&self.filter_configuration(daemon))
            .failure_policy("FAIL_RELOAD");
        if self.stops_iteration {
            filter = filter.stopping_iteration();
        }
        let mut setup = Envoy::setup();
        for (name, value) in &self.gateway_env {
            setup = setup.env(name, value);
        }
        if let Some(tokens) = &self.tokens {
            filter = filter.host_env(TOKEN);
            setup = setup.env(TOKEN, &tokens.of_filter);
        }
        if let Some(adjust) = self.adjust_listener {
            setup = setup.adjust_listener(adjust);
        }
        let envoy = setup
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
