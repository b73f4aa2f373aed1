//! `aws`: moto, with a user who may read all secrets but those that are forbidden.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use serde_json::{Value, json};
use vaultref_scenarios::moto::{ACCOUNT, Keys, Moto, REGION};
use vaultref_scenarios::upstream::Reply;

use crate::kit::{Abilities, Config, Fixture, Server, Shared};

static SERVER: Shared<Moto> = Shared::new();

fn fixture() -> SecretsManager {
    SecretsManager::default()
}

#[derive(Default)]
struct SecretsManager {
    vault: OnceLock<Vault>,
    forbidden: Vec<String>,
}

struct Vault {
    moto: Arc<Moto>,
    user: String,
    keys: Keys,
}

impl SecretsManager {
    fn vault(&self) -> Result<&Vault> {
        if let Some(vault) = self.vault.get() {
            return Ok(vault);
        }
        let moto = SERVER.get(Moto::start)?;
        static USERS: AtomicUsize = AtomicUsize::new(0);
        let user = format!("user-{}", USERS.fetch_add(1, Ordering::Relaxed));
        let keys = moto.create_user(&user, &all_but(&[]))?;
        let vault = Vault { moto, user, keys };
        Ok(self.vault.get_or_init(|| vault))
    }
}

impl Fixture for SecretsManager {
    fn backend(&self) -> &'static str {
        "aws"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            bytes: true,
            slash: true,
            non_ascii: false,
            versions: true,
            most_bytes: None,
            tls_only: None,
        }
    }

    fn config(&self) -> Config {
        let vault = self.vault().expect("moto runs");
        config(&vault.moto.url(), &vault.keys)
    }

    fn config_at(&self, server: &Server) -> Option<Config> {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "secret-of-the-fixture".to_owned(),
            token: None,
        };
        let Some(ca) = &server.ca else {
            return Some(config(&format!("http://{}", server.address), &keys));
        };
        let mut config = config(&format!("https://{}", server.address), &keys);
        config.fields["ca_cert"] = json!(ca);
        Some(config)
    }

    fn good_answer(&self, name: &str, content: &[u8]) -> Option<Reply> {
        let text = String::from_utf8_lossy(content);
        let body = json!({
            "ARN": format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-AbCdEf"),
            "Name": name,
            "SecretString": text,
            "VersionId": "11111111-1111-1111-1111-111111111111",
            "VersionStages": ["AWSCURRENT"],
        });
        let reply = Reply::status(200).header("content-type", "application/x-amz-json-1.1");
        Some(reply.body(body.to_string()))
    }

    fn put(&mut self, name: &str, content: &[u8]) -> Result<Option<u64>> {
        let moto = &self.vault()?.moto;
        match std::str::from_utf8(content) {
            Ok(text) => moto.put(name, text)?,
            Err(_) => moto.put_bytes(name, content)?,
        };
        // There are stages.
        Ok(None)
    }

    fn delete(&mut self, name: &str) -> Result<()> {
        self.vault()?.moto.delete(name)
    }

    fn forbid(&mut self, name: &str) -> Result<bool> {
        let arn = self.vault()?.moto.put(name, "not yours")?;
        self.forbidden.push(arn);
        let vault = self.vault()?;
        vault
            .moto
            .set_policy(&vault.user, &all_but(&self.forbidden))?;
        Ok(true)
    }
}

fn config(url: &str, keys: &Keys) -> Config {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Config {
        fields: json!({ "region": REGION, "endpoint_url": url }),
        environment: vec![
            variable("AWS_ACCESS_KEY_ID", &keys.id),
            variable("AWS_SECRET_ACCESS_KEY", &keys.secret),
            variable("AWS_EC2_METADATA_DISABLED", "true"),
        ],
    }
}

fn all_but(forbidden: &[String]) -> Value {
    let action = [
        "secretsmanager:GetSecretValue",
        "secretsmanager:BatchGetSecretValue",
    ];
    let mut statements = vec![json!({ "Effect": "Allow", "Action": action, "Resource": "*" })];
    for arn in forbidden {
        statements.push(json!({ "Effect": "Deny", "Action": action, "Resource": arn }));
    }
    Value::Array(statements)
}

every_row!(moto: Ok(fixture()));
