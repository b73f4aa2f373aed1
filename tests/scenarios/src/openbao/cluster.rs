//! OpenBao as it runs in production: two nodes of one cluster, of which one is active
//! and the other stands by.
//!
//! The nodes unseal themselves with a key from a file, and the first sets itself up.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

use super::{KV2_MOUNT, OpenBao, ROOT_TOKEN};
use crate::client::Request;
use crate::process::{Process, Program};
use crate::{paths, ports, wait};

/// What the first node does with its empty storage.
const FIRST_REQUESTS: &str = r#"
initialize "first" {
  request "operator" {
    operation = "update"
    path = "auth/token/create"
    data = { id = "TOKEN", policies = ["root"], no_parent = true }
  }
  request "secrets" {
    operation = "update"
    path = "sys/mounts/MOUNT"
    data = { type = "kv", options = { version = "2" } }
  }
}
"#;

/// Two nodes. Dropping it kills both.
#[derive(Debug)]
pub struct Cluster {
    active: OpenBao,
    standby: Node,
}

#[derive(Debug)]
struct Node {
    address: SocketAddr,
    process: Process,
}

impl Cluster {
    /// Starts both nodes, and waits until one is active and the other stands by and
    /// knows what the first one does.
    ///
    /// # Errors
    ///
    /// When OpenBao is not installed, or does not come up.
    pub fn start() -> Result<Self> {
        ports::retry_when_taken(Self::try_start)
    }

    /// The active node.
    #[must_use]
    pub fn active(&self) -> &OpenBao {
        &self.active
    }

    /// Where the standby listens.
    #[must_use]
    pub fn standby(&self) -> SocketAddr {
        self.standby.address
    }

    /// Kills the active node. The standby cannot take over, since two of two are needed
    /// for that: it stays a standby without an active node.
    pub fn kill_active(&self) {
        self.active.process().kill();
    }

    fn try_start() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("vaultref-openbao-")
            .tempdir()
            .context("a folder for OpenBao")?;
        // Any 32 bytes will do for a server that lives for a test.
        fs::write(dir.path().join("key"), [7; 32]).context("the seal's key")?;
        let active = Node::start(dir.path(), "active", "", &first_requests())?;
        active.wait_for("being active", 200)?;
        let join = format!(
            "retry_join {{ leader_api_addr = \"http://{}\" }}",
            active.address
        );
        let standby = Node::start(dir.path(), "standby", &join, "")?;
        standby.wait_for("standing by", 429)?;
        let cluster = Self {
            active: OpenBao {
                process: active.process,
                plain: active.address,
                tls: None,
                unseal_key: String::new(),
                namespace: None,
                dir,
            },
            standby,
        };
        wait::until("the standby to know the operator", wait::START, || {
            let asked =
                Request::get("/v1/auth/token/lookup-self").header("x-vault-token", ROOT_TOKEN);
            let answer = asked.send(cluster.standby())?;
            Ok((answer.status == 200).then_some(()))
        })?;
        Ok(cluster)
    }
}

impl Node {
    fn start(dir: &Path, name: &str, join: &str, first: &str) -> Result<Self> {
        let (address, peers) = (ports::free()?, ports::free()?);
        let home = dir.join(name);
        fs::create_dir(&home).context("a folder for a node")?;
        let config = format!(
            r#"storage "raft" {{
  path = "{home}"
  node_id = "{name}"
  performance_multiplier = 1
  {join}
}}
listener "tcp" {{
  address = "{address}"
  cluster_address = "{peers}"
  tls_disable = true
}}
seal "static" {{
  current_key_id = "1"
  current_key = "file://{key}"
}}
api_addr = "http://{address}"
cluster_addr = "https://{peers}"
{first}"#,
            home = home.display(),
            key = dir.join("key").display(),
        );
        let process = serve(&dir.join(format!("{name}.hcl")), &config, &home)?;
        Ok(Self { address, process })
    }

    fn wait_for(&self, what: &str, health: u16) -> Result<()> {
        self.process.wait_until(what, wait::START, || {
            let answer = Request::get("/v1/sys/health").send(self.address).ok();
            Ok(answer.filter(|answer| answer.status == health).map(drop))
        })
    }
}

pub(super) fn first_requests() -> String {
    FIRST_REQUESTS
        .replace("TOKEN", ROOT_TOKEN)
        .replace("MOUNT", KV2_MOUNT)
}

pub(super) fn serve(file: &Path, config: &str, home: &Path) -> Result<Process> {
    fs::write(file, config).context("OpenBao's configuration")?;
    Program::new("OpenBao", paths::bao()?)
        .args(["server", "-config"])
        .arg(file)
        .env("HOME", home)
        .spawn()
}
