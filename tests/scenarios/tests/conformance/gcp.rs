//! `gcp`: drongo, a server by others that stands for Google's; a server of our own where that falls
//! short (checksums, refusals, logins).

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use vaultref_scenarios::drongo::{Drongo, PROJECT};
use vaultref_scenarios::service_account::ServiceAccount;
use vaultref_scenarios::upstream::Reply;

use crate::kit::{Abilities, Config, Fixture, Server, Shared};

mod answers;
mod logins;
mod states;

static SERVER: Shared<Drongo> = Shared::new();

/// A vault of drongo's, which is started when it is first needed.
#[derive(Default)]
struct Stand {
    drongo: OnceLock<Arc<Drongo>>,
}

fn fixture() -> Stand {
    Stand::default()
}

impl Stand {
    fn drongo(&self) -> Result<&Drongo> {
        if let Some(drongo) = self.drongo.get() {
            return Ok(drongo);
        }
        let drongo = SERVER.get(Drongo::start)?;
        Ok(self.drongo.get_or_init(|| drongo))
    }
}

/// A key is some work to make, and whose it is does not matter to most.
fn account() -> &'static ServiceAccount {
    static ACCOUNT: OnceLock<ServiceAccount> = OnceLock::new();
    ACCOUNT.get_or_init(|| ServiceAccount::new().expect("a key"))
}

/// Known by a key, for which nobody is asked.
fn known(fields: serde_json::Value) -> Config {
    let key = account().json().expect("a key that can be written down");
    Config {
        fields,
        environment: vec![("GCP_SERVICE_ACCOUNT".to_owned(), key.to_string())],
    }
}

impl Fixture for Stand {
    fn backend(&self) -> &'static str {
        "gcp"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            bytes: true,
            slash: false,
            non_ascii: false,
            versions: true,
            most_bytes: None,
            tls_only: None,
        }
    }

    fn config(&self) -> Config {
        known(self.drongo().expect("drongo runs").vault_config())
    }

    fn config_at(&self, server: &Server) -> Option<Config> {
        let scheme = if server.ca.is_some() { "https" } else { "http" };
        let mut fields = json!({
            "project_id": PROJECT,
            "endpoint_url": format!("{scheme}://{}", server.address),
        });
        if let Some(ca) = &server.ca {
            fields["ca_cert"] = json!(ca);
        }
        Some(known(fields))
    }

    fn put(&mut self, name: &str, content: &[u8]) -> Result<Option<u64>> {
        self.drongo()?.put(name, content).map(Some)
    }

    fn delete(&mut self, name: &str) -> Result<()> {
        self.drongo()?.delete(name)
    }

    /// drongo takes everybody for everybody.
    fn forbid(&mut self, _name: &str) -> Result<bool> {
        Ok(false)
    }

    fn good_answer(&self, name: &str, content: &[u8]) -> Option<Reply> {
        let body = json!({
            "name": format!("projects/1234567890/secrets/{name}/versions/1"),
            "payload": { "data": STANDARD.encode(content) },
        });
        let reply = Reply::status(200).header("content-type", "application/json");
        Some(reply.body(body.to_string()))
    }
}

/// A configuration that asks this server.
fn at(address: std::net::SocketAddr) -> Config {
    known(json!({ "project_id": PROJECT, "endpoint_url": format!("http://{address}") }))
}

every_row!(drongo: Ok(fixture()));
