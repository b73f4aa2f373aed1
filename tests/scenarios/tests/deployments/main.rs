//! The examples for gateways that others configure, or that cannot be had here: all that can be said of
//! them without a cluster, Kong or nginx. What a control plane makes of its objects is made here by
//! hand, as its sources do, and run in a real Envoy; for nginx and Kong the harness stands in.

mod envoy_gateway;
mod istio;
mod kong;
mod nginx;
mod objects;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize as _;
use serde_json::Value;
use tempfile::TempDir;
use vaultref_scenarios::client::{Address, Request};
use vaultref_scenarios::envoy::{Envoy, Setup};
use vaultref_scenarios::paths;
use vaultref_scenarios::process::{Process, Program};
use vaultref_scenarios::upstream::Upstream;
use vaultref_scenarios::wait;

/// The variable with the filter's token, and the token.
const VARIABLE: &str = "VAULTREF_TOKEN";
const TOKEN: &str = "token-of-the-gateway";
/// Where the examples have their socket and their secrets.
const SOCKETS: &str = "/run/vaultref";
const SECRETS: &str = "/run/secrets/payments";

/// An example, played in a folder of its own.
struct Example {
    folder: PathBuf,
    dir: TempDir,
}

impl Example {
    fn new(name: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("secrets"))?;
        Ok(Self {
            folder: paths::root().join("examples").join(name),
            dir,
        })
    }

    /// A file as it is.
    fn original(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.folder.join(file)).with_context(|| file.to_owned())
    }

    /// A file with the example's own folders in the place of the system's.
    fn text(&self, file: &str) -> Result<String> {
        let original = self.original(file)?;
        let secrets = self.dir.path().join("secrets");
        Ok(original
            .replace(SOCKETS, &self.dir.path().display().to_string())
            .replace(SECRETS, &secrets.display().to_string()))
    }

    /// The documents of a file.
    fn documents(&self, file: &str) -> Result<Vec<Value>> {
        let text = self.text(file)?;
        serde_yaml_ng::Deserializer::from_str(&text)
            .map(|document| Ok(Value::deserialize(document)?))
            .collect()
    }

    /// The document of this kind.
    fn object(&self, file: &str, kind: &str) -> Result<Value> {
        let documents = self.documents(file)?;
        let mut documents = documents.into_iter();
        let found = documents.find(|document| document["kind"] == kind);
        found.with_context(|| format!("{file} has no {kind}"))
    }

    fn secret(&self, name: &str, value: &str) -> Result<()> {
        Ok(fs::write(
            self.dir.path().join("secrets").join(name),
            value,
        )?)
    }

    /// The daemon with the example's configuration, in which we are the gateway's user and a value is
    /// fresh for a second.
    fn daemon(&self) -> Result<Process> {
        let mut config: Value = serde_yaml_ng::from_str(&self.text("vaultref.yaml")?)?;
        config["vaults"][0]["config"]["ttl"] = 1.into();
        if let Some(uid) = config.pointer_mut("/clients/0/peer/uid") {
            *uid = nix::unistd::getuid().as_raw().into();
        }
        let file = self.dir.path().join("vaultref.yaml");
        fs::write(&file, config.to_string())?;
        let daemon = Program::new("vaultref", paths::vaultref()?)
            .args(["serve", "--config"])
            .arg(&file)
            .env(VARIABLE, TOKEN)
            .spawn()?;
        daemon.wait_for_line("vaultref is ready", wait::START)?;
        Ok(daemon)
    }

    /// `vaultref check` as the README has it.
    fn check(&self, files: &[&str]) -> Result<()> {
        let readme = self.original("README.md")?;
        let command = format!("vaultref check --offline {}\n", files.join(" "));
        ensure!(readme.contains(&command), "the README has no: {command}");
        let checked = Command::new(paths::vaultref()?)
            .args(["check", "--offline"])
            .args(files)
            .current_dir(&self.folder)
            .output()?;
        let report = String::from_utf8_lossy(&checked.stdout);
        ensure!(checked.status.success(), "{report}");
        Ok(())
    }

    /// Runs the example in Envoy: the client's credential is replaced by the first token, then by the
    /// second, and then by none; what no rule is for goes on.
    fn plays_in_envoy(&self, setup: Setup) -> Result<()> {
        self.secret("stripe-token", "first-token")?;
        let _daemon = self.daemon()?;
        let upstream = Upstream::start()?;
        let envoy = setup
            .env(VARIABLE, TOKEN)
            .upstream(upstream.address())
            .start()?;
        let until = |what: &str, expected: &str| {
            wait::until(what, wait::SOON, || {
                let got = call(&envoy, &upstream, "/v1/charges")?;
                Ok((got.as_deref() == Ok(expected)).then_some(()))
            })
            .with_context(|| envoy.log())
        };
        until("the first token", "Bearer first-token")?;
        self.secret("stripe-token", "second-token")?;
        until("the second token", "Bearer second-token")?;
        assert_eq!(
            call(&envoy, &upstream, "/v2/x")?,
            Ok("Bearer mine".to_owned())
        );
        fs::remove_file(self.dir.path().join("secrets/stripe-token"))?;
        wait::until("a refusal", wait::SOON, || {
            let got = call(&envoy, &upstream, "/v1/charges")?;
            Ok((got == Err(503)).then_some(()))
        })?;
        Ok(())
    }
}

/// The credential that the upstream gets of a request, or the status with which it ends before.
fn call(envoy: &Envoy, upstream: &Upstream, path: &str) -> Result<Result<String, u16>> {
    upstream.clear();
    let response = Request::get(path)
        .header("host", "api.example.com")
        .header("authorization", "Bearer mine")
        .send(envoy.address())?;
    let Some(received) = upstream.requests().pop() else {
        return Ok(Err(response.status));
    };
    match &received.header_values("authorization")[..] {
        [value] => Ok(Ok(value.clone())),
        other => bail!("{other:?}"),
    }
}

/// `unix:///path` or `unix:/path`.
fn socket(text: &Value) -> Result<Address> {
    let text = text.as_str().unwrap_or_default();
    let path = text.strip_prefix("unix:").context("no socket")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    Ok(Address::Unix(PathBuf::from(path)))
}

/// The items of a list.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
