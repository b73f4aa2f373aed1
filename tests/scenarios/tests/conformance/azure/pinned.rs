//! What the Key Vault of the tests is worth.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use vaultref_contract::wire::FailureKind;
use vaultref_scenarios::client::{Request, Response};
use vaultref_scenarios::keyvault::{CLIENT, FEDERATED_TOKEN, KeyVault, TENANT, VAULT_HOST};
use vaultref_scenarios::paths;

use super::{alone, certificates, members};
use crate::bench::{self, Bench, Verdict};
use crate::kit::Fixture as _;

/// What Microsoft's client for Python makes of this.
fn read_by_python(vault: &KeyVault, variables: &[(&str, &str)], asked: &Value) -> Result<Value> {
    let script = paths::root().join("tests/scenarios/files/keyvault/read.py");
    let mut child = Command::new(paths::azure_client()?)
        .arg(script)
        .env_clear()
        .envs(vault.variables(variables))
        .env("REQUESTS_CA_BUNDLE", vault.authority().file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("its standard input")?;
    input.write_all(asked.to_string().as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn microsofts_client_reads_the_same() -> Result<()> {
    bench::run("python", Ok(alone("azure")), |bench: &mut Bench<_>| {
        let vault = bench.fixture.vault();
        let first = vault.put("two-versions", "one")?;
        let second = vault.put("two-versions", "two ü\n")?;
        vault.put("disabled", "no")?;
        vault.disable("disabled")?;
        vault.put("forbidden", "no")?;
        vault.forbid("forbidden");
        certificates::put(vault, "tls", "as-key-vault.pfx")?;
        let asked = json!({
            "vault": format!("https://{VAULT_HOST}"),
            "login": "secret",
            "secrets": [
                ["two-versions", null], ["two-versions", first], ["TWO-versions", null],
                ["disabled", null], ["forbidden", null], ["never", null], ["two-versions", "0".repeat(32)],
            ],
            "certificates": ["tls", "two-versions"],
        });
        let variables = vault.client_secret();
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let read = read_by_python(vault, &variables, &asked)?;

        let not_found = json!({ "status": 404, "error": "ResourceNotFoundError" });
        let refused = json!({ "status": 403, "error": "HttpResponseError" });
        let newest = json!({ "value": "two ü\n", "version": second });
        ensure!(
            read["secrets"]
                == json!([
                    newest, { "value": "one", "version": first }, newest,
                    refused, refused, not_found, not_found,
                ]),
            "{}",
            read["secrets"]
        );
        ensure!(
            read["certificates"][1] == not_found,
            "{}",
            read["certificates"][1]
        );

        // And we the same.
        bench.get("two-versions")?.is("two ü\n")?;
        bench.get("forbidden")?.fails(FailureKind::Denied)?;
        let fields = json!({ "name": "azure-certs", "prefix": "kv", "config": bench.fixture.config().fields });
        let parts = certificates_of(bench, &fields)?;
        ensure!(read["certificates"][0]["certificate"] == parts["certificate"]);
        ensure!(read["certificates"][0]["key"] == parts["key"]);
        let mut chain = read["certificates"][0]["others"]
            .as_array()
            .context("others")?
            .clone();
        chain.reverse();
        let chain: String = chain.iter().filter_map(Value::as_str).collect();
        ensure!(parts["chain"] == chain, "{chain}");
        Ok(Verdict::Shown)
    })
}

/// The whole object of the certificate `tls`, as our own backend reads it.
fn certificates_of<F: crate::kit::Fixture>(bench: &Bench<F>, vault: &Value) -> Result<Value> {
    use std::sync::Arc;

    use vaultref_host::environment::Environment;
    use vaultref_host::policy::Access;
    use vaultref_host::resolver::{MAX_WAIT, Resolver};

    let environment = bench.fixture.config().environment.into_iter();
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    let environment = Arc::new(Environment::new(environment));
    let parsed =
        vaultref_host::config::parse(&json!({ "vaults": [vault] }).to_string(), &environment)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let resolver = Resolver::new(parsed.vaults, 1, runtime.handle().clone());
    let value = runtime.block_on(resolver.value(&Access::All, "{vault://kv/tls}", MAX_WAIT));
    let value = value.map_err(|error| anyhow::anyhow!("{}", error.cause))?;
    Ok(serde_json::from_slice(value.value.secret().expose())?)
}

#[test]
fn microsofts_client_logs_in_by_the_other_ways_too() -> Result<()> {
    let vault = KeyVault::start()?;
    vault.put("x", "one")?;
    let folder = TempDir::new()?;
    let file = folder.path().join("token");
    std::fs::write(&file, FEDERATED_TOKEN)?;
    let file = file.to_str().context("a path")?;
    let machine = vault.machine();
    let federated = [
        ("AZURE_FEDERATED_TOKEN_FILE", file),
        ("AZURE_CLIENT_ID", CLIENT),
        ("AZURE_TENANT_ID", TENANT),
    ];
    let imds = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", &*machine)];
    for (login, variables, way) in [
        ("federated", &federated[..], "federated token"),
        ("machine", &imds[..], "virtual machine"),
    ] {
        let asked = json!({
            "vault": format!("https://{VAULT_HOST}"),
            "login": login,
            "secrets": [["x", null]],
            "certificates": [],
        });
        let read = read_by_python(&vault, variables, &asked)?;
        ensure!(read["secrets"][0]["value"] == "one", "{login}: {read}");
        let logins = vault.logins();
        ensure!(logins.last().is_some_and(|last| last == way), "{logins:?}");
    }
    Ok(())
}

/// Microsoft's recordings of the real service, in its source package azure-keyvault-secrets 4.0.0:
/// `files/keyvault/shapes.py` made the table of them.
const SHAPES: &str = include_str!("../../../files/keyvault/shapes.json");

#[test]
fn answers_have_the_shape_of_the_real_ones() -> Result<()> {
    let shapes: Value = serde_json::from_str(SHAPES)?;
    let vault = KeyVault::start()?;
    vault.put("x", "one")?;
    let token = vault.token();
    for (shape, path, token) in [
        ("challenge", "/secrets/x/?api-version=7.0", ""),
        ("not-found", "/secrets/never/?api-version=7.0", &*token),
        ("secret", "/secrets/x/?api-version=7.0", &*token),
    ] {
        let answer = get(&vault, path, token)?;
        has_shape(&answer, &shapes[shape]).with_context(|| shape.to_owned())?;
    }
    Ok(())
}

/// These are not in that package. They are in the recordings of Azure/azure-sdk-for-js on GitHub,
/// beneath sdk/keyvault, of 2021: `recording_cant_get_a_disabled_secret.js`, and of the certificates'
/// client `recording_can_get_a_certificates_secret_in_pkcs12_format.js`.
#[test]
fn answers_about_certificates_and_what_is_disabled_have_it_too() -> Result<()> {
    let attributes = [
        "created",
        "enabled",
        "recoverableDays",
        "recoveryLevel",
        "updated",
    ];
    let attributes = attributes.map(|name| format!("/attributes/{name}"));
    let valid = ["/attributes/exp", "/attributes/nbf"].map(str::to_owned);
    let all = |more: &[&str]| -> Vec<String> {
        let more = more.iter().map(|name| (*name).to_owned());
        more.chain(attributes.clone())
            .chain(valid.clone())
            .chain(["/attributes".to_owned()])
            .collect()
    };
    let vault = KeyVault::start()?;
    certificates::put(&vault, "tls", "as-key-vault.pfx")?;
    vault.put("disabled", "one")?;
    vault.disable("disabled")?;
    let token = vault.token();
    let disabled = [
        "/error",
        "/error/code",
        "/error/message",
        "/error/innererror",
        "/error/innererror/code",
    ];
    for (path, status, members, some) in [
        (
            "/secrets/disabled/",
            403,
            disabled.map(str::to_owned).to_vec(),
            json!([]),
        ),
        (
            "/secrets/tls/",
            200,
            all(&["/contentType", "/id", "/kid", "/managed", "/value"]),
            json!([]),
        ),
        (
            "/certificates/tls/",
            200,
            all(&[
                "/cer",
                "/id",
                "/kid",
                "/pending",
                "/pending/id",
                "/policy",
                "/sid",
                "/x5t",
            ]),
            json!(POLICY),
        ),
    ] {
        let answer = get(&vault, &format!("{path}?api-version=7.1"), &token)?;
        let shape =
            json!({ "status": status, "headers": [], "members": members, "members_of_some": some });
        has_shape(&answer, &shape).context(path)?;
        if path.contains("disabled") {
            ensure!(answer.json()?["error"]["innererror"]["code"] == "SecretDisabled");
        }
    }
    Ok(())
}

const POLICY: [&str; 25] = [
    "/policy/attributes",
    "/policy/attributes/created",
    "/policy/attributes/enabled",
    "/policy/attributes/updated",
    "/policy/id",
    "/policy/issuer",
    "/policy/issuer/name",
    "/policy/key_props",
    "/policy/key_props/crv",
    "/policy/key_props/exportable",
    "/policy/key_props/key_size",
    "/policy/key_props/kty",
    "/policy/key_props/reuse_key",
    "/policy/lifetime_actions",
    "/policy/secret_props",
    "/policy/secret_props/contentType",
    "/policy/x509_props",
    "/policy/x509_props/basic_constraints",
    "/policy/x509_props/basic_constraints/ca",
    "/policy/x509_props/ekus",
    "/policy/x509_props/key_usage",
    "/policy/x509_props/sans",
    "/policy/x509_props/sans/dns_names",
    "/policy/x509_props/subject",
    "/policy/x509_props/validity_months",
];

fn get(vault: &KeyVault, path: &str, token: &str) -> Result<Response> {
    let mut request = Request::get(path).header("host", VAULT_HOST);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.send(vault.plain())
}

fn has_shape(answer: &Response, shape: &Value) -> Result<()> {
    let names = |of: &str| -> BTreeSet<String> {
        let names = shape[of].as_array().into_iter().flatten();
        names
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    };
    ensure!(shape["status"] == answer.status, "{}", answer.status);
    for header in names("headers") {
        ensure!(answer.header(&header).is_some(), "no {header}");
    }
    let mut found = Vec::new();
    members(&answer.json()?, "", &mut found);
    let found: BTreeSet<_> = found.into_iter().collect();
    let (always, sometimes) = (names("members"), names("members_of_some"));
    let missing: Vec<_> = always.difference(&found).collect();
    ensure!(missing.is_empty(), "without {missing:?}");
    let more: Vec<_> = found
        .iter()
        .filter(|name| !always.contains(*name) && !sometimes.contains(*name))
        .collect();
    // It was not there yet in that version of the service.
    let more: Vec<_> = more
        .into_iter()
        .filter(|name| *name != "/attributes/recoverableDays")
        .collect();
    ensure!(more.is_empty(), "with {more:?}");
    Ok(())
}
