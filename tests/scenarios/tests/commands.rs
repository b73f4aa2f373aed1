//! `vaultref exec` and `vaultref check` with a real OpenBao behind them, and a real certificate from
//! its PKI.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::paths;

const PASSWORD: &str = "pg-pässword $HOME \"'\\";

/// OpenBao with a secret, a certificate and its key, and a token that may read those only.
struct Vault {
    bao: OpenBao,
    token: String,
    certificate: String,
    key: String,
}

impl Vault {
    fn start() -> Result<Self> {
        let bao = OpenBao::start()?;
        let call = |path: &str, body: Value| -> Result<Value> {
            let answer = bao.call("POST", path, Some(&body))?;
            ensure!(answer.status < 300, "{path}: {}", answer.text());
            Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
        };
        call("sys/mounts/pki", json!({ "type": "pki" }))?;
        call(
            "pki/root/generate/internal",
            json!({ "common_name": "test", "ttl": "24h" }),
        )?;
        call(
            "pki/roles/web",
            json!({ "allow_any_name": true, "key_type": "ec", "key_bits": 256 }),
        )?;
        let issued = call(
            "pki/issue/web",
            json!({ "common_name": "gateway.test", "ttl": "1h" }),
        )?;
        let pem = |name: &str| -> Result<String> {
            let text = issued["data"][name]
                .as_str()
                .context("no PEM in the answer")?;
            ensure!(text.lines().count() > 3, "a PEM of several lines");
            Ok(format!("{text}\n"))
        };
        let (certificate, key) = (pem("certificate")?, pem("private_key")?);
        bao.put(
            KV2_MOUNT,
            "app/pg",
            &json!({ "password": PASSWORD, "port": 5432 }),
        )?;
        bao.put(
            KV2_MOUNT,
            "app/tls",
            &json!({ "certificate": certificate, "key": key }),
        )?;
        bao.put(KV2_MOUNT, "other/pg", &json!({ "password": PASSWORD }))?;
        let token = bao.create_reader("app", &[&format!("{KV2_MOUNT}/data/app")])?;
        Ok(Self {
            bao,
            token,
            certificate,
            key,
        })
    }

    /// The program in a folder without any configuration but that of variables.
    fn vaultref(&self, folder: &TempDir, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(paths::vaultref()?);
        command
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("VAULTREF_HCV_HOST", self.bao.address().ip().to_string())
            .env("VAULTREF_HCV_PORT", self.bao.address().port().to_string())
            .env("VAULTREF_HCV_KV", "v2")
            .env("VAULTREF_HCV_MOUNT", KV2_MOUNT)
            .env("VAULTREF_HCV_TOKEN", &self.token);
        Ok(command)
    }

    /// Nothing that was printed holds a secret, not even a line of one.
    fn hides_secrets(&self, output: &Output) -> Result<()> {
        let pems = [&self.certificate, &self.key];
        let lines = pems.iter().flat_map(|pem| pem.lines());
        let lines = lines.filter(|line| !line.starts_with("-----"));
        let printed = [&*output.stdout, &*output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        for secret in lines.chain([PASSWORD, &self.token]) {
            ensure!(!printed.contains(secret), "a secret in {printed}");
        }
        Ok(())
    }
}

#[test]
fn a_command_gets_what_openbao_has_byte_for_byte() -> Result<()> {
    let vault = Vault::start()?;
    let folder = TempDir::new()?;
    let mut command = vault.vaultref(&folder, &["exec", "--", "env", "-0"])?;
    command
        .env("KONG_PG_PASSWORD", "{vault://hcv/app/pg/password}")
        .env("KONG_SSL_CERT", "{vault://env/ssl-cert}")
        .env("KONG_SSL_CERT_KEY", "{vault://hcv/app/tls/key}")
        .env("SSL_CERT", &vault.certificate);
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let expected = [
        ("KONG_PG_PASSWORD", PASSWORD),
        ("KONG_SSL_CERT", &vault.certificate),
        ("KONG_SSL_CERT_KEY", &vault.key),
        ("SSL_CERT", &vault.certificate),
    ];
    let found: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
    for (name, value) in expected {
        let pair = format!("{name}={value}");
        ensure!(
            found.contains(&pair.as_bytes()),
            "{name} is not what it should be"
        );
    }
    Ok(())
}

#[test]
fn for_kong_and_in_files_no_setting_holds_a_secret() -> Result<()> {
    let vault = Vault::start()?;
    let folder = TempDir::new()?;
    let script = "cat \"$KONG_SSL_CERT_KEY\" >key; env | grep ^KONG_ | sort";
    let options = ["exec", "--for", "kong", "--file", "KONG_SSL_CERT_KEY", "--"];
    let mut command = vault.vaultref(&folder, &[&options[..], &["sh", "-c", script]].concat())?;
    command
        .env("KONG_PG_PASSWORD", "{vault://hcv/app/pg/password}")
        .env("KONG_SSL_CERT", "{vault://hcv/app/tls/certificate}")
        .env("KONG_SSL_CERT_KEY", "{vault://hcv/app/tls/key}");
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    vault.hides_secrets(&output)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "KONG_PG_PASSWORD={vault://env/vaultref-kong-pg-password}",
            "KONG_SSL_CERT={vault://env/vaultref-kong-ssl-cert}",
        ]
    );
    ensure!(
        lines[2].starts_with("KONG_SSL_CERT_KEY=/proc/self/fd/"),
        "{printed}"
    );
    assert_eq!(fs::read(folder.path().join("key"))?, vault.key.as_bytes());
    Ok(())
}

#[test]
fn what_openbao_refuses_stops_the_start_and_is_named_by_check() -> Result<()> {
    let vault = Vault::start()?;
    let folder = TempDir::new()?;
    let table = [
        ("DENIED", "{vault://hcv/other/pg/password}", "denied"),
        ("KEY", "{vault://hcv/app/pg/none}", "key-not-found"),
        ("NONE", "{vault://hcv/app/none/x}", "not-found"),
        ("TYPE", "{vault://hcv/app/pg/port}", "wrong-type"),
    ];
    let mut command = vault.vaultref(&folder, &["exec", "--", "touch", "started"])?;
    command.envs(table.map(|(name, reference, _)| (name, reference)));
    let output = command
        .env("FINE", "{vault://hcv/app/pg/password}")
        .output()?;
    assert_eq!(output.status.code(), Some(4));
    ensure!(!folder.path().join("started").exists(), "it was started");
    vault.hides_secrets(&output)?;
    let report = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = report.lines().collect();
    assert_eq!(lines.len(), table.len() + 1, "{report}");
    for (line, (name, reference, kind)) in lines.iter().skip(1).zip(table) {
        ensure!(
            line.starts_with(&format!("  {name}: {reference}: {kind}: ")),
            "{line}"
        );
    }

    let lines = table.map(|(name, reference, _)| format!("{name}={reference}\n"));
    let file = folder.path().join("a.env");
    fs::write(
        &file,
        lines.concat() + "FINE={vault://hcv/app/pg/password}\n",
    )?;
    let output = vault
        .vaultref(&folder, &["check", "--json", "a.env"])?
        .output()?;
    assert_eq!(output.status.code(), Some(4));
    vault.hides_secrets(&output)?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    for (index, (name, reference, kind)) in table.into_iter().enumerate() {
        let found = &report["findings"][index];
        assert_eq!(found["pointer"], format!("/{name}"));
        assert_eq!(found["line"], index + 1);
        assert_eq!(
            (&found["reference"], &found["kind"]),
            (&json!(reference), &json!(kind))
        );
    }
    assert_eq!(report["findings"][4]["verdict"], "ok");

    vault.bao.seal()?;
    let output = vault.vaultref(&folder, &["check", "a.env"])?.output()?;
    assert_eq!(output.status.code(), Some(5));
    vault.hides_secrets(&output)
}
