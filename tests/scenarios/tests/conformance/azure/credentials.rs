//! The ways to log in, and what becomes of a token.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use vaultref_contract::wire::FailureKind;
use vaultref_scenarios::certificates::Authority;
use vaultref_scenarios::keyvault::{
    self, CLIENT, CLIENT_SECRET, FEDERATED_TOKEN, HOSTS, IDENTITY_HEADER, LOGIN_HOST, TENANT,
};
use vaultref_scenarios::paths;
use vaultref_scenarios::upstream::{Reply, Upstream};

use super::{Azure, alone, certificates, reads, ttl_passes, words};
use crate::bench::{self, Bench, Verdict, reference};
use crate::kit::{Fixture as _, Server};

type Row = Bench<Azure>;

fn run(row: &'static str, check: fn(&mut Row) -> Result<Verdict>) -> Result<()> {
    bench::run(row, Ok(alone("azure")), check)
}

/// Reads a secret with these variables, and says by which way.
fn way(bench: &mut Row, fields: &serde_json::Value, variables: &[(&str, &str)]) -> Result<String> {
    bench.fixture.put("x", b"one")?;
    let vault = bench.fixture.vault();
    let config = bench.fixture.config_with(vault.variables(variables));
    bench
        .resolver_of(config, fields)?
        .get(&reference("x"))?
        .is("one")?;
    let logins = bench.fixture.vault().logins();
    logins.last().cloned().context("nobody logged in")
}

#[test]
fn client_secret() -> Result<()> {
    run("client-secret", |bench| {
        let ids = json!({ "client_id": CLIENT, "tenant_id": TENANT });
        let secret = ("AZURE_CLIENT_SECRET", CLIENT_SECRET);
        let wrong = ("AZURE_CLIENT_ID", "not-this-one");
        ensure!(way(bench, &ids, &[secret, wrong])? == "client secret");
        // What an editor leaves behind a secret in a file is none of it.
        let line = format!("{CLIENT_SECRET}\n");
        ensure!(way(bench, &ids, &[("AZURE_CLIENT_SECRET", &line)])? == "client secret");
        let own = json!({ "credentials_prefix": "PAY" });
        let variables = [
            ("PAY_CLIENT_SECRET", CLIENT_SECRET),
            ("PAY_CLIENT_ID", CLIENT),
            ("PAY_TENANT_ID", TENANT),
            ("AZURE_CLIENT_SECRET", "of somebody else"),
        ];
        ensure!(way(bench, &own, &variables)? == "client secret");
        Ok(Verdict::Shown)
    })
}

#[test]
fn federated_token() -> Result<()> {
    run("federated-token", |bench| {
        let folder = TempDir::new()?;
        let file = folder.path().join("token");
        let path = file.to_str().context("a path")?;
        let variables = [
            ("AZURE_FEDERATED_TOKEN_FILE", path),
            ("AZURE_CLIENT_ID", CLIENT),
            ("AZURE_TENANT_ID", TENANT),
        ];
        // The file may come after the daemon, and is another one each hour.
        let vault = bench.fixture.vault();
        let config = bench.fixture.config_with(vault.variables(&variables));
        let asking = bench.resolver_of(config, &json!({}))?;
        let got = asking.get(&reference("x"))?;
        got.fails(FailureKind::Unavailable)?;
        ensure!(words(&got).contains("AZURE_FEDERATED_TOKEN_FILE"), "{got}");
        std::fs::write(&file, "eyJhbGciOiJub25lIn0.e30.another")?;
        asking.pass(Duration::from_secs(10));
        let got = asking.get(&reference("x"))?;
        got.fails(FailureKind::Denied)?;
        ensure!(
            words(&got).contains("federated token") && !words(&got).contains("eyJ"),
            "{got}"
        );
        std::fs::write(&file, format!("{FEDERATED_TOKEN}\n"))?;
        ensure!(way(bench, &json!({}), &variables)? == "federated token");
        Ok(Verdict::Shown)
    })
}

#[test]
fn managed_identity() -> Result<()> {
    run("managed-identity", |bench| {
        let machine = bench.fixture.vault().machine();
        let imds = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", &*machine);
        ensure!(way(bench, &json!({}), &[imds])? == "virtual machine");
        ensure!(way(bench, &json!({ "client_id": CLIENT }), &[imds])? == "virtual machine");
        let endpoint = format!("{machine}/msi/token");
        let service = [
            ("IDENTITY_ENDPOINT", &*endpoint),
            ("IDENTITY_HEADER", IDENTITY_HEADER),
        ];
        ensure!(way(bench, &json!({}), &service)? == "app service");

        let vault = bench.fixture.vault();
        for (variables, fields) in [
            (vec![imds], json!({ "client_id": "not-of-this-machine" })),
            (vec![service[0], ("IDENTITY_HEADER", "wrong")], json!({})),
        ] {
            let config = bench.fixture.config_with(vault.variables(&variables));
            let got = bench.resolver_of(config, &fields)?.get(&reference("x"))?;
            got.fails(FailureKind::Denied)
                .with_context(|| format!("{fields}"))?;
        }
        // No machine of Azure.
        let (address, _socket) = bench::refusing()?;
        let nowhere = format!("http://{address}");
        let variables = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", &*nowhere)];
        let config = bench.fixture.config_with(vault.variables(&variables));
        let got = bench
            .resolver_of(config, &json!({}))?
            .get(&reference("x"))?;
        got.fails(FailureKind::Unavailable)?;
        ensure!(words(&got).contains("no client secret"), "{got}");
        Ok(Verdict::Shown)
    })
}

#[test]
fn credentials_that_are_refused() -> Result<()> {
    run("refused-credentials", |bench| {
        let wrong = "hunter2-is-not-it";
        for (variable, value, cause) in [
            ("AZURE_CLIENT_SECRET", wrong, "the client secret is wrong"),
            (
                "AZURE_CLIENT_ID",
                "nobody",
                "the tenant knows no such client",
            ),
            (
                "AZURE_TENANT_ID",
                "nowhere.example",
                "there is no such tenant",
            ),
        ] {
            let mut variables = bench.fixture.vault().client_secret();
            variables.retain(|(name, _)| name != variable);
            variables.push((variable.to_owned(), value.to_owned()));
            let config = bench.fixture.config_with(variables);
            let got = bench
                .resolver_of(config, &json!({}))?
                .get(&reference("x"))?;
            got.fails(FailureKind::Denied)?;
            let words = words(&got);
            ensure!(words.contains(cause), "{words}");
            // Neither ours nor what the login wrote.
            ensure!(
                !words.contains(wrong) && !words.contains("AADSTS"),
                "{words}"
            );
        }
        Ok(Verdict::Shown)
    })
}

/// Whatever becomes of a login, it says nothing about whether the secret is there.
#[test]
fn a_login_that_fails_is_an_outage() -> Result<()> {
    run("failing-login", |bench| {
        for (what, reply) in [
            ("away", Reply::status(404)),
            (
                "moved",
                Reply::status(302).header("location", "http://127.0.0.1:9/"),
            ),
            ("busy", Reply::status(429).header("retry-after", "60")),
            ("broken", Reply::status(503).body("<html>AADSTS7000215")),
            (
                "no token",
                Reply::status(200).body("{\"token_type\":\"Bearer\""),
            ),
            (
                "cut short",
                Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),
            ),
        ] {
            let authority = Authority::new()?;
            let server = Upstream::answering_tls(&authority.issue(HOSTS)?, move |request| {
                match request.header("host").as_deref() {
                    Some(LOGIN_HOST) => reply.clone(),
                    _ => keyvault::side_talk(request).unwrap_or_else(|| Reply::status(404)),
                }
            })?;
            let config = bench.fixture.config_at(&Server {
                address: server.address(),
                ca: Some(authority.file()),
            });
            let asking = bench.resolver_of(config.context("it asks a server")?, &json!({}))?;
            let got = asking.get(&reference("x"))?;
            let failure = got.fails(FailureKind::Unavailable).context(what)?;
            ensure!(
                (what == "busy") == (failure.retry_after == Some(60)),
                "{what}: {got}"
            );
            ensure!(words(&got).contains("the login"), "{what}: {got}");
            ensure!(!words(&got).contains("AADSTS"), "{what}: {got}");
        }
        Ok(Verdict::Shown)
    })
}

#[test]
fn one_login_and_one_challenge_serve_all_reads() -> Result<()> {
    run("one-login", |bench| {
        let names: Vec<_> = (0..40).map(|n| format!("one-login-{n}")).collect();
        for name in &names {
            bench.fixture.put(name, name.as_bytes())?;
        }
        let references: Vec<_> = names.iter().map(|name| reference(name)).collect();
        let asking = bench.resolver()?;
        // The first read is alone, so that there is no more than one challenge.
        asking.get(&references[0])?.is(&names[0])?;
        for (got, name) in asking.get_all(&references)?.iter().zip(&names) {
            got.is(name)?;
        }
        let vault = bench.fixture.vault();
        ensure!(vault.logins().len() == 1, "{:?}", vault.logins());
        let others = vault.requests().len() - reads(vault).len();
        ensure!(others == 2, "{others} requests beside the reads");
        Ok(Verdict::Shown)
    })
}

#[test]
fn a_token_is_renewed_before_its_end() -> Result<()> {
    run("renewed", |bench| {
        bench.fixture.put("x", b"one")?;
        let asking = bench.resolver()?;
        asking.get(&reference("x"))?.is("one")?;
        // It lasts an hour; the ttl is a minute.
        asking.pass(Duration::from_secs(1800));
        asking.get(&reference("x"))?.is("one")?;
        ensure!(bench.fixture.vault().logins().len() == 1, "too early");
        asking.pass(Duration::from_secs(700));
        asking.get(&reference("x"))?.is("one")?;
        ensure!(bench.fixture.vault().logins().len() == 2, "not renewed");
        Ok(Verdict::Shown)
    })
}

#[test]
fn a_token_that_is_not_taken_any_more_leads_to_a_new_login() -> Result<()> {
    run("revoked", |bench| {
        bench.fixture.put("x", b"one")?;
        let vault = bench.fixture.vault();
        let asking = bench.resolver()?;
        asking.get(&reference("x"))?.is("one")?;
        vault.revoke_tokens();
        vault.put("x", "two")?;
        ttl_passes(&asking);
        asking.get(&reference("x"))?.is("two")?;
        ensure!(vault.logins().len() == 2, "{:?}", vault.logins());
        // Rights can be in a token too: it is asked with a new one before it is believed.
        vault.forbid("x");
        ttl_passes(&asking);
        asking.get(&reference("x"))?.fails(FailureKind::Denied)?;
        ensure!(vault.logins().len() == 3, "{:?}", vault.logins());
        Ok(Verdict::Shown)
    })
}

#[test]
fn many_reads_with_a_revoked_token_share_the_next_one() -> Result<()> {
    run("revoked-for-many", |bench| {
        let names: Vec<_> = (0..40).map(|n| format!("revoked-for-many-{n}")).collect();
        for name in &names {
            bench.fixture.put(name, name.as_bytes())?;
        }
        let references: Vec<_> = names.iter().map(|name| reference(name)).collect();
        let vault = bench.fixture.vault();
        let asking = bench.resolver()?;
        asking.get(&references[0])?.is(&names[0])?;
        vault.revoke_tokens();
        ttl_passes(&asking);
        for (got, name) in asking.get_all(&references[1..])?.iter().zip(&names[1..]) {
            got.is(name)?;
        }
        ensure!(vault.logins().len() == 2, "{:?}", vault.logins());
        Ok(Verdict::Shown)
    })
}

/// The variables that Microsoft's libraries look for in the process.
const POISON: [(&str, &str); 10] = [
    ("AZURE_AUTHORITY_HOST", "https://poison.invalid"),
    ("AZURE_CLIENT_ID", "poison"),
    ("AZURE_CLIENT_SECRET", "poison"),
    ("AZURE_FEDERATED_TOKEN_FILE", "/poison"),
    ("AZURE_TENANT_ID", "poison"),
    ("HTTPS_PROXY", "http://127.0.0.1:9"),
    ("IDENTITY_ENDPOINT", "http://127.0.0.1:9"),
    ("IDENTITY_HEADER", "poison"),
    ("MSI_ENDPOINT", "http://127.0.0.1:9"),
    ("SSL_CERT_FILE", "/poison"),
];

#[test]
fn the_process_environment_is_not_looked_at() -> Result<()> {
    let test = "azure::credentials::with_a_poisoned_environment";
    let child = Command::new(std::env::current_exe()?)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .envs(POISON)
        .output()?;
    let said = String::from_utf8_lossy(&child.stdout);
    ensure!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
    Ok(())
}

#[test]
#[ignore = "is started by the test above, with an environment of its own"]
fn with_a_poisoned_environment() -> Result<()> {
    run("poisoned", |bench| {
        let variables = bench.fixture.vault().client_secret();
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        ensure!(way(bench, &json!({}), &variables)? == "client secret");
        let machine = bench.fixture.vault().machine();
        let imds = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", &*machine);
        ensure!(way(bench, &json!({}), &[imds])? == "virtual machine");
        let folder = TempDir::new()?;
        let file = folder.path().join("token");
        std::fs::write(&file, FEDERATED_TOKEN)?;
        let variables = [
            (
                "AZURE_FEDERATED_TOKEN_FILE",
                file.to_str().context("a path")?,
            ),
            ("AZURE_CLIENT_ID", CLIENT),
            ("AZURE_TENANT_ID", TENANT),
        ];
        ensure!(way(bench, &json!({}), &variables)? == "federated token");
        Ok(Verdict::Shown)
    })
}

#[test]
fn on_the_command_line() -> Result<()> {
    run("command-line", |bench| {
        let vault = bench.fixture.vault();
        vault.put("x", r#"{"user":"ada"}"#)?;
        certificates::put(vault, "tls", "as-key-vault.pfx")?;
        let address = format!("https://{}", super::VAULT_HOST);
        for (reference, expected) in [
            ("azure/x/user", b"ada".to_vec()),
            ("azure-certs/tls/key", certificates::file("key.pem")?),
        ] {
            let output = Command::new(paths::vaultref()?)
                .args(["get", reference])
                .env_clear()
                .envs(vault.client_secret())
                .env("KONG_VAULT_AZURE_VAULT_URI", &address)
                .env("VAULTREF_AZURE_CA_CERT", vault.authority().file())
                .env("KONG_VAULT_AZURE_CERTS_VAULT_URI", &address)
                .env("KONG_VAULT_AZURE_CERTS_LOCATION", "westeurope")
                .env("VAULTREF_AZURE_CERTS_CA_CERT", vault.authority().pem())
                .env("VAULTREF_LOG", "trace")
                .output()?;
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.success() && output.stdout == expected,
                "{error}"
            );
            // However much is to be told, neither a credential nor a value is.
            for told in ["ada", CLIENT_SECRET, "token-", "PRIVATE KEY"] {
                ensure!(!error.contains(told), "the log shows {told}");
            }
        }
        Ok(Verdict::Shown)
    })
}
