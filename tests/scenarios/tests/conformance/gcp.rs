//! `gcp`: drongo, a server by others that stands for Google's; a server of our own where that falls
//! short (checksums, refusals, logins).

use std::sync::Arc;

use anyhow::Result;
use serde_json::json;
use vaultref_scenarios::drongo::{Drongo, PROJECT};
use vaultref_scenarios::service_account::ServiceAccount;

use crate::kit::{Abilities, Config, Fixture, Server};

mod answers;
mod logins;
mod states;

/// A vault of drongo's.
pub struct Stand {
    drongo: Arc<Drongo>,
    account: String,
}

/// With a server of its own.
pub fn fixture() -> Result<Stand> {
    on(Arc::new(Drongo::start()?))
}

/// With one that others use as well.
pub fn on(drongo: Arc<Drongo>) -> Result<Stand> {
    Ok(Stand {
        drongo,
        account: ServiceAccount::new()?.json()?.to_string(),
    })
}

impl Stand {
    fn known_as(&self, fields: serde_json::Value) -> Config {
        Config {
            fields,
            environment: vec![("GCP_SERVICE_ACCOUNT".to_owned(), self.account.clone())],
        }
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
        self.known_as(self.drongo.vault_config())
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
        Some(self.known_as(fields))
    }

    fn put(&mut self, name: &str, content: &[u8]) -> Result<Option<u64>> {
        self.drongo.put(name, content).map(Some)
    }

    fn delete(&mut self, name: &str) -> Result<()> {
        self.drongo.delete(name)
    }

    /// drongo takes everybody for everybody.
    fn forbid(&mut self, _name: &str) -> Result<bool> {
        Ok(false)
    }
}

/// A configuration that asks this server, for which no login is asked anywhere.
fn at(address: std::net::SocketAddr, account: &ServiceAccount) -> Result<Config> {
    Ok(Config {
        fields: json!({ "project_id": PROJECT, "endpoint_url": format!("http://{address}") }),
        environment: vec![(
            "GCP_SERVICE_ACCOUNT".to_owned(),
            account.json()?.to_string(),
        )],
    })
}
