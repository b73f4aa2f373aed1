//! An OpenBao that keeps its data on disk (Raft, one node), as one in production does: it can be killed, and comes back
//! with all that it was told. It unseals itself with a key from a file.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{OpenBao, ROOT_TOKEN, cluster};
use crate::client::Request;
use crate::ports::{self, Reserved};
use crate::wait;

/// One node with a storage on disk. Dropping it kills it.
#[derive(Debug)]
pub struct Lasting {
    bao: OpenBao,
    home: PathBuf,
    config: String,
    /// Of the server and of its cluster: while it is down nobody else gets them.
    _ports: [Reserved; 2],
}

impl Lasting {
    /// Starts it with an empty storage, and waits until it serves.
    ///
    /// # Errors
    ///
    /// When OpenBao is not installed, or does not come up.
    pub fn start() -> Result<Self> {
        ports::retry_when_taken(|| Self::try_start([Reserved::new()?, Reserved::new()?]))
    }

    /// The server.
    #[must_use]
    pub fn bao(&self) -> &OpenBao {
        &self.bao
    }

    /// Kills it, as a crash would.
    pub fn kill(&self) {
        self.bao.process().kill();
    }

    /// Starts it again at the same address with what it has stored, and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        let file = self.home.join("bao.hcl");
        self.bao.process = cluster::serve(&file, &self.config, &self.home)?;
        self.until_it_serves()
    }

    fn try_start(ports: [Reserved; 2]) -> Result<Self> {
        let [address, peers] = ports.each_ref().map(Reserved::address);
        let dir = tempfile::Builder::new()
            .prefix("vaultref-openbao-")
            .tempdir()
            .context("a folder for OpenBao")?;
        let home = dir.path().to_owned();
        fs::write(home.join("key"), [7; 32]).context("the seal's key")?;
        fs::create_dir(home.join("data")).context("its storage")?;
        let first = cluster::first_requests();
        let config = format!(
            r#"storage "raft" {{
  path = "{home}/data"
  node_id = "only"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "{address}"
  cluster_address = "{peers}"
  tls_disable = true
}}
seal "static" {{
  current_key_id = "1"
  current_key = "file://{home}/key"
}}
api_addr = "http://{address}"
cluster_addr = "https://{peers}"
{first}"#,
            home = home.display(),
        );
        let process = cluster::serve(&home.join("bao.hcl"), &config, &home)?;
        let lasting = Self {
            bao: OpenBao {
                process,
                plain: address,
                tls: None,
                unseal_key: String::new(),
                namespace: None,
                dir,
            },
            home,
            config,
            _ports: ports,
        };
        lasting.until_it_serves()?;
        Ok(lasting)
    }

    fn until_it_serves(&self) -> Result<()> {
        let says_well = |path: &str| {
            let asked = Request::get(path).header("x-vault-token", ROOT_TOKEN);
            let answer = asked.send(self.bao.address());
            answer.is_ok_and(|answer| answer.status == 200)
        };
        let process = self.bao.process();
        process.wait_until("being active and knowing the operator", wait::START, || {
            // Not 200: it is sealed, or not the active node yet.
            let serves = says_well("/v1/sys/health") && says_well("/v1/secret/config");
            Ok(serves.then_some(()))
        })
    }
}
