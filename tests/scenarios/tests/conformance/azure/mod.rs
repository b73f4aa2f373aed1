//! `azure` and `azure-certs`: a Key Vault of our own, since no server of others can be had. What it
//! is worth is shown in [`pinned`]: it answers in the shape of the real service's recordings, and
//! Microsoft's client for Python reads from it what we do.

mod certificates;
mod credentials;
mod pinned;

use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vaultref_contract::wire::FailureKind;
use vaultref_scenarios::certificates::Authority;
use vaultref_scenarios::keyvault::{
    self, CLIENT, CLIENT_SECRET, KeyVault, LOGIN_HOST, TENANT, VAULT_HOST,
};
use vaultref_scenarios::upstream::{Received, Reply, Upstream};

use crate::bench::{self, Bench, Got, TTL, Verdict, reference};
use crate::kit::{Abilities, Config, Fixture, Server, Shared, SideTalk};

static SERVER: Shared<KeyVault> = Shared::new();

pub struct Azure {
    backend: &'static str,
    /// Started when it is first needed; half of the rows ask another server.
    vault: OnceLock<Arc<KeyVault>>,
    is_shared: bool,
}

/// For rows, whose names are their own.
pub fn secrets() -> Azure {
    Azure {
        backend: "azure",
        vault: OnceLock::new(),
        is_shared: true,
    }
}

/// For what counts logins and requests.
fn alone(backend: &'static str) -> Azure {
    Azure {
        backend,
        vault: OnceLock::new(),
        is_shared: false,
    }
}

impl Azure {
    fn vault(&self) -> &KeyVault {
        self.vault.get_or_init(|| {
            let started = match self.is_shared {
                true => SERVER.get(KeyVault::start),
                false => KeyVault::start().map(Arc::new),
            };
            started.expect("Key Vault runs")
        })
    }

    fn config_with(&self, environment: Vec<(String, String)>) -> Config {
        Config {
            fields: self.vault().config(),
            environment,
        }
    }
}

impl Fixture for Azure {
    fn backend(&self) -> &'static str {
        self.backend
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            // Values are text of any kind.
            bytes: false,
            slash: false,
            non_ascii: false,
            // Versions are 32 hexadecimal digits, which a reference's number cannot be.
            versions: false,
            most_bytes: Some(25_600),
            tls_only: Some(keyvault::HOSTS),
        }
    }

    fn config(&self) -> Config {
        self.config_with(self.vault().client_secret())
    }

    fn config_at(&self, server: &Server) -> Option<Config> {
        let environment = [
            ("HTTPS_PROXY", format!("http://{}", server.address)),
            ("AZURE_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        Some(Config {
            fields: json!({
                "vault_uri": format!("https://{VAULT_HOST}/"),
                "client_id": CLIENT,
                "tenant_id": TENANT,
                "ca_cert": server.ca,
            }),
            environment: environment.to_vec(),
        })
    }

    fn put(&mut self, name: &str, content: &[u8]) -> Result<Option<u64>> {
        self.vault().put(name, std::str::from_utf8(content)?)?;
        Ok(None)
    }

    fn delete(&mut self, name: &str) -> Result<()> {
        self.vault().delete(name);
        Ok(())
    }

    fn forbid(&mut self, name: &str) -> Result<bool> {
        self.put(name, br#"{"value":"not yours"}"#)?;
        self.vault().forbid(name);
        Ok(true)
    }

    fn side_talk(&self) -> SideTalk {
        Box::new(keyvault::side_talk)
    }

    fn good_answer(&self, name: &str, content: &[u8]) -> Option<Reply> {
        // Of certificates the read has two parts, so one answer is not enough.
        let content = std::str::from_utf8(content).ok()?;
        (self.backend == "azure").then(|| keyvault::secret_answer(name, content))
    }
}

every_row!(azure: Ok(secrets()));
every_row!(azure_certs: Ok(alone("azure-certs")), faults only);

/// What was asked of the vault itself, beneath `/secrets/` and the like.
fn reads(vault: &KeyVault) -> Vec<Received> {
    let requests = vault.requests().into_iter();
    let is_read = |request: &Received| {
        request.header("host").as_deref() == Some(VAULT_HOST)
            && request.header("authorization").is_some()
    };
    requests.filter(is_read).collect()
}

#[test]
fn any_text_is_a_value() -> Result<()> {
    bench::run("any-text", Ok(secrets()), |bench: &mut Bench<Azure>| {
        for (index, value) in ["plain", "", "[1]", " ends \n", "\u{0}ü\r\n", "{"]
            .iter()
            .enumerate()
        {
            let name = bench.name(&index.to_string());
            bench.fixture.put(&name, value.as_bytes())?;
            bench.get(&name)?.is(value)?;
            bench
                .get(&format!("{name}/key"))?
                .fails(FailureKind::WrongType)?;
        }
        Ok(Verdict::Shown)
    })
}

#[test]
fn a_disabled_secret_is_not_there() -> Result<()> {
    bench::run("disabled", Ok(secrets()), |bench: &mut Bench<Azure>| {
        let name = bench.name("x");
        bench.put_value(&name, "one")?;
        bench.fixture.vault().disable(&name)?;
        let got = bench.get(&name)?;
        got.fails(FailureKind::NotFound)?;
        ensure!(got.to_string().contains("disabled"), "{got}");
        Ok(Verdict::Shown)
    })
}

#[test]
fn capitals_are_nothing() -> Result<()> {
    bench::run(
        "capitals",
        Ok(alone("azure")),
        |bench: &mut Bench<Azure>| {
            bench.fixture.put("DB-Password", b"one")?;
            let asking = bench.resolver()?;
            for name in ["DB-Password", "db-password", "DB-PASSWORD"] {
                asking.get(&reference(name))?.is("one")?;
            }
            // One object, one entry, one read.
            let read = reads(bench.fixture.vault());
            ensure!(read.len() == 1, "{read:?}");
            ensure!(
                read[0]
                    .path
                    .starts_with("/secrets/db-password/?api-version="),
                "{}",
                read[0].path
            );
            Ok(Verdict::Shown)
        },
    )
}

#[test]
fn a_version_is_read_where_the_vault_allows_it() -> Result<()> {
    bench::run("by-version", Ok(secrets()), |bench: &mut Bench<Azure>| {
        let vault = bench.fixture.vault();
        let first = vault.put("by-version", "one")?;
        vault.put("by-version", "two")?;
        let asking = bench.resolver_of(
            bench.fixture.config(),
            &json!({"allow_options": ["version"]}),
        )?;
        let get = |rest: &str| asking.get(&reference(&format!("by-version{rest}")));
        get("")?.is("two")?;
        get(&format!("?version={first}"))?.is("one")?;
        get(&format!("?version={}", first.to_uppercase()))?.is("one")?;
        get(&format!("?version={}", "0".repeat(32)))?.fails(FailureKind::NotFound)?;
        get("?version=1")?.fails(FailureKind::InvalidReference)?;
        get("#1")?.fails(FailureKind::NotFound)?;
        // Else it is an option like any other.
        let got = bench.get(&format!("by-version?version={first}"))?;
        got.fails(FailureKind::InvalidReference)?;
        Ok(Verdict::Shown)
    })
}

#[test]
fn what_a_throttled_vault_asks_for_is_passed_on() -> Result<()> {
    bench::run(
        "throttled",
        Ok(alone("azure")),
        |bench: &mut Bench<Azure>| {
            bench.fixture.put("x", b"one")?;
            let throttled = Reply::status(429).header("retry-after", "60");
            bench.fixture.vault().prepare([throttled]);
            let asking = bench.resolver()?;
            let got = asking.get(&reference("x"))?;
            let failure = got.fails(FailureKind::Unavailable)?;
            ensure!(failure.retry_after == Some(60), "{got}");
            asking.pass(std::time::Duration::from_secs(60));
            asking.get(&reference("x"))?.is("one")?;
            Ok(Verdict::Shown)
        },
    )
}

#[test]
fn a_server_that_is_no_key_vault_gets_no_token() -> Result<()> {
    bench::run(
        "no-vault",
        Ok(alone("azure")),
        |bench: &mut Bench<Azure>| {
            let authority = Authority::new()?;
            let identity = authority.issue(&["vault.example.com", LOGIN_HOST])?;
            // It asks for a token of Key Vault, as Key Vault does.
            let server = Upstream::answering_tls(&identity, |request| {
                keyvault::side_talk(request).unwrap_or_else(|| Reply::status(404))
            })?;
            let at = Server {
                address: server.address(),
                ca: Some(authority.file()),
            };
            let mut config = bench.fixture.config_at(&at).context("it asks a server")?;
            config.fields["vault_uri"] = json!("https://vault.example.com");
            let asking = bench.resolver_of(config, &json!({}))?;
            asking
                .get(&reference("x"))?
                .fails(FailureKind::Unavailable)?;
            let requests = server.requests();
            ensure!(requests.len() == 1, "it asked {} times", requests.len());
            ensure!(requests[0].header("authorization").is_none());
            Ok(Verdict::Shown)
        },
    )
}

/// Which parts a JSON document has, by their paths.
fn members(value: &Value, at: &str, found: &mut Vec<String>) {
    for (name, below) in value.as_object().into_iter().flatten() {
        let path = format!("{at}/{name}");
        members(below, &path, found);
        found.push(path);
    }
}

/// Has a vault's ttl be over.
fn ttl_passes(asking: &bench::Asking<'_>) {
    asking.pass(TTL);
}

/// A failure's words, to look for what must not be in them.
fn words(got: &Got) -> String {
    format!("{got} {got:?}")
}
