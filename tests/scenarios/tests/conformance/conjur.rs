//! `conjur`: a stand-in that speaks the documented API, held to CyberArk's own client.

use anyhow::Result;
use serde_json::json;
use vaultref_scenarios::conjur::{ACCOUNT, Conjur, LOGIN};

use crate::kit::{Abilities, Config, Fixture, Server};
use crate::vault::{self, Vault};

mod client;
mod reads;

/// A vault of the stand-in.
pub struct Stand {
    conjur: Conjur,
}

/// With a server of its own.
pub fn fixture() -> Result<Stand> {
    Ok(Stand {
        conjur: Conjur::start()?,
    })
}

impl Fixture for Stand {
    fn backend(&self) -> &'static str {
        "conjur"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            bytes: true,
            slash: true,
            non_ascii: true,
            versions: true,
            most_bytes: None,
            tls_only: None,
        }
    }

    fn config(&self) -> Config {
        vault::fields(self.conjur.vault_config())
    }

    fn config_at(&self, server: &Server) -> Option<Config> {
        let scheme = if server.ca.is_some() { "https" } else { "http" };
        let mut fields = json!({
            "endpoint_url": format!("{scheme}://{}", server.address),
            "account": ACCOUNT,
            "login": LOGIN,
            "api_key": "key-of-the-fixture",
        });
        if let Some(ca) = &server.ca {
            fields["ca_cert"] = json!(ca);
        }
        Some(vault::fields(fields))
    }

    fn put(&mut self, name: &str, content: &[u8]) -> Result<Option<u64>> {
        Ok(Some(self.conjur.put(name, content)))
    }

    fn delete(&mut self, name: &str) -> Result<()> {
        self.conjur.delete(name);
        Ok(())
    }

    fn forbid(&mut self, name: &str) -> Result<bool> {
        self.conjur.put(name, b"not yours");
        self.conjur.forbid(name);
        Ok(true)
    }
}

#[test]
fn a_vault_reads_what_the_fixture_has_put() -> Result<()> {
    let mut fixture = fixture()?;
    assert_eq!(fixture.put("a/ключ x", b"\xff\0")?, Some(1));
    assert_eq!(fixture.put("a/ключ x", b"two")?, Some(2));
    fixture.forbid("b")?;
    let vault = Vault::new(fixture.backend(), fixture.config());
    assert_eq!(vault.get("a/ключ x/#1"), Ok(b"\xff\0".to_vec()));
    assert_eq!(vault.get("a%2Fключ x"), Ok(b"two".to_vec()));
    assert_eq!(
        vault.get("b"),
        Err(vaultref_contract::wire::FailureKind::Denied)
    );
    fixture.delete("a/ключ x")?;
    let vault = Vault::new(fixture.backend(), fixture.config());
    assert_eq!(
        vault.get("a%2Fключ x"),
        Err(vaultref_contract::wire::FailureKind::NotFound)
    );
    Ok(())
}
