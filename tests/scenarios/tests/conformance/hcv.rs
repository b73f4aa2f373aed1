//! `hcv`: a real OpenBao, KV version 2, with a token that may read and nothing else.

use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::upstream::Reply;

use crate::kit::{Abilities, Config, Fixture, Server, Shared, SideTalk};

static SERVER: Shared<OpenBao> = Shared::new();

#[derive(Default)]
struct Kv2 {
    vault: OnceLock<Vault>,
    forbidden: Vec<String>,
}

struct Vault {
    bao: Arc<OpenBao>,
    token: String,
    policy: String,
}

fn fixture() -> Kv2 {
    Kv2::default()
}

impl Kv2 {
    fn vault(&self) -> Result<&Vault> {
        if let Some(vault) = self.vault.get() {
            return Ok(vault);
        }
        let bao = SERVER.get(OpenBao::start)?;
        let token = bao.create_token(&[])?;
        let policy = token.replace('.', "-").to_lowercase();
        let token = bao.create_token(&[&policy])?;
        let vault = Vault { bao, token, policy };
        vault.allow_all_but(&[])?;
        Ok(self.vault.get_or_init(|| vault))
    }
}

impl Vault {
    fn allow_all_but(&self, forbidden: &[String]) -> Result<()> {
        let mut rules = format!("path \"{KV2_MOUNT}/data/*\" {{ capabilities = [\"read\"] }}\n");
        for name in forbidden {
            rules += &format!("path \"{KV2_MOUNT}/data/{name}\" {{ capabilities = [\"deny\"] }}\n");
        }
        self.bao.put_policy(&self.policy, &rules)
    }
}

impl Fixture for Kv2 {
    fn backend(&self) -> &'static str {
        "hcv"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            bytes: false,
            slash: true,
            non_ascii: true,
            versions: true,
            most_bytes: None,
            tls_only: None,
        }
    }

    fn config(&self) -> Config {
        let vault = self.vault().expect("OpenBao runs");
        Config {
            fields: vault.bao.vault_config(KV2_MOUNT, "v2", &vault.token),
            environment: Vec::new(),
        }
    }

    fn config_at(&self, server: &Server) -> Option<Config> {
        let mut fields = json!({
            "host": "127.0.0.1",
            "port": server.address.port(),
            "kv": "v2",
            "token": "token-of-the-fixture",
        });
        if let Some(ca) = &server.ca {
            fields["protocol"] = json!("https");
            fields["ca_cert"] = json!(ca);
        }
        Some(Config {
            fields,
            environment: Vec::new(),
        })
    }

    fn put(&mut self, name: &str, content: &[u8]) -> Result<Option<u64>> {
        let data: Value = serde_json::from_slice(content).context("objects are JSON here")?;
        let vault = self.vault()?;
        vault.bao.put(KV2_MOUNT, &encoded(name), &data).map(Some)
    }

    fn delete(&mut self, name: &str) -> Result<()> {
        self.vault()?.bao.delete(KV2_MOUNT, &encoded(name))
    }

    fn forbid(&mut self, name: &str) -> Result<bool> {
        self.put(name, br#"{"value":"not yours"}"#)?;
        self.forbidden.push(name.to_owned());
        self.vault()?.allow_all_but(&self.forbidden)?;
        Ok(true)
    }

    fn side_talk(&self) -> SideTalk {
        Box::new(|request| match request.path.as_str() {
            // Whether the token lasts is asked first; this one may not know.
            "/v1/auth/token/lookup-self" => {
                Some(Reply::status(403).body(r#"{"errors":["permission denied"]}"#))
            }
            // How the server is, is asked after it failed.
            "/v1/sys/health" => {
                Some(Reply::status(200).body(
                    r#"{"initialized":true,"sealed":false,"standby":false,"version":"2.7.2"}"#,
                ))
            }
            _ => None,
        })
    }

    fn good_answer(&self, _name: &str, content: &[u8]) -> Option<Reply> {
        let data: Value = serde_json::from_slice(content).ok()?;
        let body = json!({
            "request_id": "6f0a",
            "lease_id": "",
            "renewable": false,
            "lease_duration": 0,
            "data": {
                "data": data,
                "metadata": { "version": 1, "created_time": "2026-01-01T00:00:00Z",
                    "deletion_time": "", "destroyed": false, "custom_metadata": null },
            },
            "wrap_info": null,
            "warnings": null,
            "auth": null,
        });
        let reply = Reply::status(200).header("content-type", "application/json");
        Some(reply.body(body.to_string()))
    }
}

fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let byte = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}

every_row!(kv2: Ok(fixture()));
