//! `conjur`: a stand-in that speaks the documented API, held to CyberArk's own client.

use anyhow::Result;
use serde_json::json;
use vaultref_scenarios::conjur::{ACCOUNT, Conjur, LOGIN};
use vaultref_scenarios::upstream::Reply;

use crate::kit::{Abilities, Config, Fixture, Server, SideTalk};
use crate::vault;

mod client;
mod reads;

/// A vault of the stand-in.
struct Stand {
    conjur: Conjur,
}

/// With a server of its own.
fn fixture() -> Result<Stand> {
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

    fn side_talk(&self) -> SideTalk {
        Box::new(|request| {
            let is_login = request.path.ends_with("/authenticate");
            is_login.then(|| Reply::status(200).body("dG9rZW4="))
        })
    }

    fn good_answer(&self, _name: &str, content: &[u8]) -> Option<Reply> {
        let reply = Reply::status(200).header("content-type", "application/octet-stream");
        Some(reply.body(content))
    }

    /// A variable is what it is.
    fn any_body_is_good(&self) -> bool {
        true
    }
}

every_row!(stand: fixture());
