//! drongo, a server written by others that stands for Google's Secret Manager, and what
//! a scenario does to it as its operator.
//!
//! It has versions, their states and Google's errors. It has no checksums, takes any
//! token or none, and knows no locations.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::Request;
use crate::process::{Process, Program};
use crate::{paths, ports, wait};

/// The project that scenarios put their secrets into.
pub const PROJECT: &str = "test-project";

/// A running drongo. Dropping it kills it.
#[derive(Debug)]
pub struct Drongo {
    process: Process,
    address: SocketAddr,
}

impl Drongo {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it is not installed or does not come up.
    pub fn start() -> Result<Self> {
        ports::retry_when_taken(|| Self::try_start(ports::free()?))
    }

    /// Where it speaks HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `config` of a `gcp` vault that reads from it.
    #[must_use]
    pub fn vault_config(&self) -> Value {
        json!({
            "project_id": PROJECT,
            "endpoint_url": format!("http://{}", self.address),
        })
    }

    /// Makes a secret, or a new version of it; returns the version's number.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<u64> {
        let made = json!({ "replication": { "automatic": {} } });
        match self.call("POST", &format!("?secretId={name}"), Some(&made))? {
            (200 | 409, _) => {}
            (status, answer) => bail!("drongo: making {name}: {status} {answer}"),
        }
        let payload = json!({ "payload": { "data": STANDARD.encode(content) } });
        let answer = self.call_ok("POST", &format!("/{name}:addVersion"), Some(&payload))?;
        let version = answer["name"].as_str().and_then(|name| {
            let (_, version) = name.rsplit_once('/')?;
            version.parse().ok()
        });
        version.with_context(|| format!("no version in {answer}"))
    }

    /// Takes a secret away with all its versions.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.call_ok("DELETE", &format!("/{name}"), None).map(drop)
    }

    /// Takes a version out of use, until it is enabled again.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn disable(&self, name: &str, version: u64) -> Result<()> {
        self.set(name, version, "disable")
    }

    /// Puts a version into use again.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn enable(&self, name: &str, version: u64) -> Result<()> {
        self.set(name, version, "enable")
    }

    /// Destroys a version for good.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn destroy(&self, name: &str, version: u64) -> Result<()> {
        self.set(name, version, "destroy")
    }

    fn set(&self, name: &str, version: u64, what: &str) -> Result<()> {
        let path = format!("/{name}/versions/{version}:{what}");
        self.call_ok("POST", &path, Some(&json!({}))).map(drop)
    }

    fn call_ok(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        match self.call(method, path, body)? {
            (200, answer) => Ok(answer),
            (status, answer) => bail!("drongo: {method} {path}: {status} {answer}"),
        }
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let path = format!("/v1/projects/{PROJECT}/secrets{path}");
        let mut request = Request::new(method, &path);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = request
            .send(self.address)
            .with_context(|| format!("drongo: {method} {path}"))?;
        Ok((answer.status, answer.json()?))
    }

    fn try_start(address: SocketAddr) -> Result<Self> {
        let process = Program::new("drongo", paths::drongo()?)
            .args(["server", "--host", "127.0.0.1", "--port"])
            .arg(address.port().to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .spawn()?;
        process.wait_until("answering", wait::START, || {
            let health = Request::get("/drongo/health").send(address);
            Ok(health.ok().filter(|answer| answer.status == 200).map(drop))
        })?;
        Ok(Self { process, address })
    }

    /// Its process, to be frozen or killed.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}
