//! Certificates with their keys.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use vaultref_contract::wire::FailureKind;
use vaultref_scenarios::keyvault::KeyVault;
use vaultref_scenarios::paths;

use super::{Azure, alone, reads, ttl_passes};
use crate::bench::{self, Bench, Verdict, reference};

type Row = Bench<Azure>;

pub(super) const PFX: &str = "application/x-pkcs12";
pub(super) const PEM: &str = "application/x-pem-file";

fn run(row: &'static str, check: fn(&mut Row) -> Result<Verdict>) -> Result<()> {
    bench::run(row, Ok(alone("azure-certs")), check)
}

/// A file of `files/keyvault`; `make.py` there says what they are.
pub(super) fn file(name: &str) -> Result<Vec<u8>> {
    let path: PathBuf = paths::root()
        .join("tests/scenarios/files/keyvault")
        .join(name);
    std::fs::read(&path).with_context(|| path.display().to_string())
}

/// Puts the certificate of those files there, with this one as its secret.
pub(super) fn put(vault: &KeyVault, name: &str, secret: &str) -> Result<String> {
    let certificate = String::from_utf8(file("certificate.pem")?)?;
    let lines = certificate
        .lines()
        .filter(|line| !line.starts_with("-----"));
    let cer: String = lines.collect();
    if secret.ends_with(".pfx") {
        return vault.put_certificate(name, PFX, &STANDARD.encode(file(secret)?), &cer);
    }
    let key = String::from_utf8(file("key.pem")?)?;
    let chain = String::from_utf8(file("chain.pem")?)?;
    vault.put_certificate(name, PEM, &format!("{key}{certificate}{chain}"), &cer)
}

#[test]
fn a_certificate_gives_its_parts() -> Result<()> {
    run("parts", |bench| {
        let vault = bench.fixture.vault();
        put(vault, "pfx", "as-key-vault.pfx")?;
        put(vault, "pem", "pem")?;
        let asking = bench.resolver()?;
        for name in ["pfx", "pem"] {
            for (key, expected) in [
                ("certificate", "certificate.pem"),
                ("key", "key.pem"),
                ("chain", "chain.pem"),
            ] {
                let got = asking.get(&reference(&format!("{name}/{key}")))?;
                got.is(file(expected)?)
                    .with_context(|| format!("{name}/{key}"))?;
            }
            let got = asking.get(&reference(&format!("{name}/p12")))?;
            got.fails(FailureKind::KeyNotFound)?;
        }
        // All keys of one are from one read: the certificate, and the secret of the same version.
        let paths: Vec<_> = reads(bench.fixture.vault())
            .iter()
            .map(|request| request.path.clone())
            .collect();
        ensure!(paths.len() == 4, "{paths:?}");
        ensure!(paths[0].starts_with("/certificates/pfx/?"), "{paths:?}");
        ensure!(
            paths[1].starts_with("/secrets/pfx/") && !paths[1].contains("pfx/?"),
            "{paths:?}"
        );
        Ok(Verdict::Shown)
    })
}

#[test]
fn a_key_that_is_not_let_out_is_not_there() -> Result<()> {
    run("no-key", |bench| {
        put(bench.fixture.vault(), "x", "no-key.pfx")?;
        bench.get("x/certificate")?.is(file("certificate.pem")?)?;
        bench.get("x/key")?.fails(FailureKind::KeyNotFound)?;
        Ok(Verdict::Shown)
    })
}

#[test]
fn what_is_no_certificate_is_not_there() -> Result<()> {
    run("no-certificate", |bench| {
        let vault = bench.fixture.vault();
        vault.put("secret", "one")?;
        put(vault, "disabled", "as-key-vault.pfx")?;
        vault.disable("disabled")?;
        put(vault, "locked", "with-password.pfx")?;
        put(vault, "forbidden", "as-key-vault.pfx")?;
        vault.forbid("forbidden");
        for (name, kind) in [
            ("secret", FailureKind::NotFound),
            ("never", FailureKind::NotFound),
            ("disabled", FailureKind::NotFound),
            ("locked", FailureKind::WrongType),
            ("forbidden", FailureKind::Denied),
            ("..%2Fsecrets%2Fsecret", FailureKind::InvalidReference),
        ] {
            let got = bench.get(&format!("{name}/key"))?;
            got.fails(kind).with_context(|| name.to_owned())?;
        }
        // A secret that is none of a certificate is not even read.
        let paths: Vec<_> = reads(bench.fixture.vault())
            .into_iter()
            .map(|request| request.path)
            .collect();
        ensure!(
            !paths.iter().any(|path| path.starts_with("/secrets/secret")),
            "{paths:?}"
        );
        Ok(Verdict::Shown)
    })
}

#[test]
fn a_new_certificate_is_seen_and_the_old_one_can_be_named() -> Result<()> {
    run("renewed-certificate", |bench| {
        let first = put(bench.fixture.vault(), "x", "as-key-vault.pfx")?;
        let options = json!({ "allow_options": ["version"] });
        let asking = bench.resolver_of(crate::kit::Fixture::config(&bench.fixture), &options)?;
        asking.get(&reference("x/chain"))?.is(file("chain.pem")?)?;
        put(bench.fixture.vault(), "x", "no-key.pfx")?;
        ttl_passes(&asking);
        asking
            .get(&reference("x/key"))?
            .fails(FailureKind::KeyNotFound)?;
        let old = reference(&format!("x/key?version={first}"));
        asking.get(&old)?.is(file("key.pem")?)?;
        Ok(Verdict::Shown)
    })
}
