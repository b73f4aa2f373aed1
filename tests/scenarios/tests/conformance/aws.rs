//! `aws`: moto, with a user who may read all secrets but those that are forbidden.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use anyhow::Result;
use serde_json::{Value, json};
use vaultref_scenarios::moto::{Keys, Moto, REGION};
use vaultref_scenarios::upstream::Reply;

use crate::kit::{Abilities, Config, Fixture, Server};

/// The vault of a fixture, of which several may share the server.
pub fn fixture() -> SecretsManager {
    SecretsManager::default()
}

#[derive(Default)]
pub struct SecretsManager {
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
        let moto = server()?;
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
            "ARN": format!("arn:aws:secretsmanager:{REGION}:123456789012:secret:{name}-AbCdEf"),
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

/// The server that fixtures share while there are any.
fn server() -> Result<Arc<Moto>> {
    static RUNNING: Mutex<Weak<Moto>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(moto) = running.upgrade() {
        return Ok(moto);
    }
    let moto = Arc::new(Moto::start()?);
    *running = Arc::downgrade(&moto);
    Ok(moto)
}

/// Until there are rows for all backends, what they stand on.
#[test]
fn the_fixture_does_what_it_is_told() -> Result<()> {
    use vaultref_contract::wire::FailureKind::{Denied, NotFound, Unavailable};

    let mut vault = fixture();
    vault.put("a/b", b"one")?;
    assert_eq!(get(&vault.config(), "a/b/"), Ok(b"one".to_vec()));
    vault.put("a/b", b"\xff")?;
    assert_eq!(get(&vault.config(), "a/b/"), Ok(b"\xff".to_vec()));
    assert_eq!(get(&vault.config(), "a/b/#2"), Ok(b"one".to_vec()));
    vault.delete("a/b")?;
    assert_eq!(get(&vault.config(), "a/b/"), Err(NotFound));
    assert!(vault.forbid("theirs")?);
    vault.put("ours", b"two")?;
    assert_eq!(get(&vault.config(), "theirs"), Err(Denied));
    assert_eq!(get(&vault.config(), "ours"), Ok(b"two".to_vec()));
    let nobody = Server {
        address: vaultref_scenarios::ports::free()?,
        ca: None,
    };
    let nobody = vault.config_at(&nobody).expect("it asks a server");
    assert_eq!(get(&nobody, "ours"), Err(Unavailable));
    Ok(())
}

fn get(config: &Config, rest: &str) -> Result<Vec<u8>, vaultref_contract::wire::FailureKind> {
    use vaultref_host::resolver::{MAX_WAIT, Resolver};
    use vaultref_host::{config::parse, environment::Environment, policy::Access};

    let variables = config.environment.iter();
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let document = json!({ "vaults": [{ "name": "aws", "config": config.fields }] });
    let parsed = parse(
        &document.to_string(),
        &Arc::new(Environment::new(variables)),
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let vaults = parsed.expect("a configuration").vaults;
    let resolver = Resolver::new(vaults, 1, runtime.handle().clone());
    let reference = format!("{{vault://aws/{rest}}}");
    match runtime.block_on(resolver.value(&Access::All, &reference, MAX_WAIT)) {
        Ok(value) => Ok(value.value.secret().expose().to_vec()),
        Err(unresolved) => Err(unresolved.failure.kind),
    }
}

every_row!(secrets_manager: Ok(fixture()));
