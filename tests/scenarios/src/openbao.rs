//! A real OpenBao (Vault's open fork) in development mode, and what a scenario does
//! to it as its operator: mounts, secrets, versions, namespaces, policies, tokens, seal.
//!
//! Development mode keeps everything in memory. With TLS it listens twice: the
//! resolver under test takes the TLS address, the operator here the plain one.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Request, Response};
use crate::process::{Process, Program};
use crate::{paths, ports, wait};

mod cluster;
mod lasting;
mod logins;

pub use cluster::Cluster;
pub use lasting::Lasting;
pub use logins::{ClientCertificate, Signer};

/// The token of the operator, who may do everything.
pub const ROOT_TOKEN: &str = "root";

/// The KV version 2 mount that is there from the start.
pub const KV2_MOUNT: &str = "secret";

/// A running OpenBao. Dropping it kills it.
#[derive(Debug)]
pub struct OpenBao {
    process: Process,
    plain: SocketAddr,
    tls: Option<SocketAddr>,
    unseal_key: String,
    namespace: Option<String>,
    dir: TempDir,
}

impl OpenBao {
    /// Starts it with plain HTTP, and waits until it is unsealed.
    ///
    /// # Errors
    ///
    /// When it is not installed or does not come up.
    pub fn start() -> Result<Self> {
        ports::retry_when_taken(|| Self::try_start(ports::free()?, None))
    }

    /// Starts it with HTTPS as well, with a certificate for 127.0.0.1 and localhost of
    /// a CA of its own (see [`Self::ca_file`]).
    ///
    /// # Errors
    ///
    /// When it is not installed or does not come up.
    pub fn start_tls() -> Result<Self> {
        ports::retry_when_taken(|| Self::try_start(ports::free()?, Some(ports::free()?)))
    }

    /// Starts one at an address that is known already: for a server that comes up
    /// after those who ask it.
    ///
    /// # Errors
    ///
    /// When it is not installed, does not come up, or the address was taken.
    pub fn start_at(address: SocketAddr) -> Result<Self> {
        Self::try_start(address, None)
    }

    /// Where it speaks HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.plain
    }

    /// Where it speaks HTTPS, when started by [`Self::start_tls`].
    ///
    /// # Errors
    ///
    /// When it was started without TLS.
    pub fn tls_address(&self) -> Result<SocketAddr> {
        self.tls.context("this OpenBao was started without TLS")
    }

    /// The PEM file of the CA that signed its certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("vault-ca.pem")
    }

    /// Its process, to be frozen, killed, or to have its log read.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The `config` of a `hcv` vault that reads the given mount with the given token
    /// over plain HTTP; `kv` is `v1` or `v2`.
    #[must_use]
    pub fn vault_config(&self, mount: &str, kv: &str, token: &str) -> Value {
        json!({
            "protocol": "http",
            "host": self.plain.ip().to_string(),
            "port": self.plain.port(),
            "mount": mount,
            "kv": kv,
            "auth_method": "token",
            "token": token,
        })
    }

    /// Has what follows happen in this namespace (nothing: the root namespace).
    pub fn use_namespace(&mut self, namespace: Option<&str>) {
        self.namespace = namespace.map(str::to_owned);
    }

    /// Makes a namespace.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn create_namespace(&self, name: &str) -> Result<()> {
        self.write(&format!("sys/namespaces/{name}"), &json!({}))
            .map(drop)
    }

    /// Mounts a KV engine, version 1 or 2, at `mount`, and waits until it takes writes.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn mount_kv(&self, mount: &str, version: u8) -> Result<()> {
        let options = json!({"type": "kv", "options": {"version": version.to_string()}});
        self.write(&format!("sys/mounts/{mount}"), &options)?;
        if version == 1 {
            return Ok(());
        }
        // A new KV2 mount refuses writes (400, "Upgrading from non-versioned") for a moment.
        wait::until(&format!("the KV2 mount {mount}"), wait::SOON, || {
            let response = self.call("GET", &format!("{mount}/config"), None)?;
            Ok((response.status == 200).then_some(()))
        })
    }

    /// Writes a secret into a KV version 2 mount; returns its new version.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn put(&self, mount: &str, path: &str, data: &Value) -> Result<u64> {
        let answer = self.write(&format!("{mount}/data/{path}"), &json!({ "data": data }))?;
        answer["data"]["version"]
            .as_u64()
            .with_context(|| format!("no version in {answer}"))
    }

    /// Reads a secret from a KV version 2 mount.
    ///
    /// # Errors
    ///
    /// When there is none or the server refuses.
    pub fn get(&self, mount: &str, path: &str) -> Result<Value> {
        let answer = self.read(&format!("{mount}/data/{path}"))?;
        Ok(answer["data"]["data"].clone())
    }

    /// Deletes the newest version in a KV version 2 mount: its metadata stay.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn delete(&self, mount: &str, path: &str) -> Result<()> {
        self.call_ok("DELETE", &format!("{mount}/data/{path}"), None)
            .map(drop)
    }

    /// Destroys one version in a KV version 2 mount for good.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn destroy(&self, mount: &str, path: &str, version: u64) -> Result<()> {
        self.write(
            &format!("{mount}/destroy/{path}"),
            &json!({ "versions": [version] }),
        )
        .map(drop)
    }

    /// Removes a secret with all its versions from a KV version 2 mount.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn purge(&self, mount: &str, path: &str) -> Result<()> {
        self.call_ok("DELETE", &format!("{mount}/metadata/{path}"), None)
            .map(drop)
    }

    /// Writes a secret into a KV version 1 mount.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn put_v1(&self, mount: &str, path: &str, data: &Value) -> Result<()> {
        self.write(&format!("{mount}/{path}"), data).map(drop)
    }

    /// Reads a secret from a KV version 1 mount.
    ///
    /// # Errors
    ///
    /// When there is none or the server refuses.
    pub fn get_v1(&self, mount: &str, path: &str) -> Result<Value> {
        Ok(self.read(&format!("{mount}/{path}"))?["data"].clone())
    }

    /// Deletes a secret from a KV version 1 mount.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn delete_v1(&self, mount: &str, path: &str) -> Result<()> {
        self.call_ok("DELETE", &format!("{mount}/{path}"), None)
            .map(drop)
    }

    /// Writes a policy, in OpenBao's own language.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn put_policy(&self, name: &str, policy: &str) -> Result<()> {
        self.write(
            &format!("sys/policies/acl/{name}"),
            &json!({ "policy": policy }),
        )
        .map(drop)
    }

    /// A new token with these policies and nothing else.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn create_token(&self, policies: &[&str]) -> Result<String> {
        let wanted = json!({ "policies": policies, "no_default_policy": true });
        let answer = self.write("auth/token/create", &wanted)?;
        let token = answer["auth"]["client_token"].as_str();
        Ok(token.context("no token in the answer")?.to_owned())
    }

    /// A new token that may read everything below these paths, such as
    /// `secret/data/team`, and nothing else.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn create_reader(&self, name: &str, folders: &[&str]) -> Result<String> {
        let rules = folders
            .iter()
            .map(|folder| format!("path \"{folder}/*\" {{ capabilities = [\"read\"] }}\n"));
        self.put_policy(name, &rules.collect::<String>())?;
        self.create_token(&[name])
    }

    /// Makes a token worthless.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn revoke_token(&self, token: &str) -> Result<()> {
        self.write("auth/token/revoke", &json!({ "token": token }))
            .map(drop)
    }

    /// Seals it: everything is answered by 503 until [`Self::unseal`].
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn seal(&self) -> Result<()> {
        self.write("sys/seal", &json!({})).map(drop)
    }

    /// Unseals it again, and waits until it serves.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn unseal(&self) -> Result<()> {
        self.write("sys/unseal", &json!({ "key": self.unseal_key }))?;
        self.wait_until_unsealed()
    }

    /// Any call of the API as the operator, below `/v1/`, whatever the answer.
    ///
    /// # Errors
    ///
    /// When no answer comes.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
        let mut request =
            Request::new(method, format!("/v1/{path}")).header("x-vault-token", ROOT_TOKEN);
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        request
            .send(self.plain)
            .with_context(|| format!("OpenBao: {method} {path}"))
    }

    fn try_start(plain: SocketAddr, tls: Option<SocketAddr>) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("vaultref-openbao-")
            .tempdir()
            .context("a folder for OpenBao")?;
        let process = program(plain, tls, dir.path())?.spawn()?;
        let mut bao = Self {
            process,
            plain,
            tls,
            unseal_key: String::new(),
            namespace: None,
            dir,
        };
        let line = bao.process.wait_for_line("Unseal Key: ", wait::START)?;
        bao.unseal_key = line.trim().trim_start_matches("Unseal Key: ").to_owned();
        bao.wait_until_unsealed()?;
        Ok(bao)
    }

    fn wait_until_unsealed(&self) -> Result<()> {
        self.process
            .wait_until("being unsealed and active", wait::START, || {
                let health = Request::get("/v1/sys/health").send(self.plain);
                Ok(health.ok().filter(|answer| answer.status == 200).map(drop))
            })?;
        // The KV2 mount of development mode is upgraded in the background; it refuses writes before.
        wait::until("the KV2 mount of development mode", wait::SOON, || {
            let mount =
                Request::get(format!("/v1/{KV2_MOUNT}/config")).header("x-vault-token", ROOT_TOKEN);
            Ok((mount.send(self.plain)?.status == 200).then_some(()))
        })
    }

    fn write(&self, path: &str, body: &Value) -> Result<Value> {
        self.call_ok("POST", path, Some(body))
    }

    fn read(&self, path: &str) -> Result<Value> {
        self.call_ok("GET", path, None)
    }

    fn call_ok(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let response = self.call(method, path, body)?;
        match response.status {
            200 => response.json(),
            204 => Ok(Value::Null),
            status => bail!("OpenBao: {method} {path}: {status} {}", response.text()),
        }
    }
}

fn program(plain: SocketAddr, tls: Option<SocketAddr>, dir: &Path) -> Result<Program> {
    let mut program = Program::new("OpenBao", paths::bao()?)
        .args(["server", "-dev", "-dev-no-store-token"])
        .arg(format!("-dev-root-token-id={ROOT_TOKEN}"))
        .env("HOME", dir);
    program = match tls {
        None => program.arg(format!("-dev-listen-address={plain}")),
        Some(tls) => {
            let config = dir.join("listener.hcl");
            let listener =
                format!("listener \"tcp\" {{\n  address = \"{plain}\"\n  tls_disable = true\n}}\n");
            fs::write(&config, listener).context("OpenBao's configuration")?;
            program
                .arg(format!("-dev-listen-address={tls}"))
                .arg("-dev-tls")
                .arg(format!("-dev-tls-cert-dir={}", dir.display()))
                .arg(format!("-config={}", config.display()))
        }
    };
    Ok(program)
}
