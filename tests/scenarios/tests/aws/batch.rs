//! Many secrets at once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vaultref_contract::wire::FailureKind::{Denied, NotFound, Unavailable};
use vaultref_scenarios::upstream::Reply;

use crate::front::Front;
use crate::vault::{MARK, Setup, moto, reader, user};

#[test]
fn a_hundred_secrets_take_five_calls() -> Result<()> {
    let moto = moto()?;
    let front = Front::start()?;
    let names: Vec<_> = (0..100).map(|number| format!("hundred/{number}")).collect();
    for name in &names {
        moto.put(name, &format!("value of {name}"))?;
    }
    let vault = Setup::at(&front.url()).keys(&reader("hundred")?).vault()?;
    let rests: Vec<_> = names.iter().map(|name| format!("{name}/")).collect();
    for (name, got) in names.iter().zip(vault.get_all(&rests)?) {
        got.is(format!("value of {name}"))
            .with_context(|| name.clone())?;
    }
    front.was_asked(&[("BatchGetSecretValue", 5)])
}

#[test]
fn each_of_a_batch_has_its_own_result() -> Result<()> {
    let moto = moto()?;
    let front = Front::start()?;
    let arn = moto.put("mixed/a", "A")?;
    moto.put("mixed/old", "old")?;
    moto.put("mixed/old", "new")?;
    moto.put_bytes("mixed/bytes", b"\xff")?;
    moto.put("mixed/pending", MARK)?;
    moto.schedule_deletion("mixed/pending")?;
    let vault = Setup::at(&front.url()).keys(&reader("mixed")?).vault()?;
    let rests = [
        "mixed/a/",
        "mixed/old/#2",
        "mixed/old/",
        "mixed/bytes/",
        "mixed/pending/",
        "mixed/none/",
        &format!("{arn}/"),
    ];
    let check = |rests: &[&str]| {
        let got = vault.get_all(rests)?;
        got[0].is("A")?;
        got[1].is("old")?;
        got[2].is("new")?;
        got[3].is(b"\xff")?;
        got[4].fails(NotFound)?;
        got[5].fails(NotFound)?;
        got[6].is("A")?;
        anyhow::Ok(())
    };
    check(&rests)?;
    // What the call cannot read is read by itself: another stage, and an ARN while the account is not
    // known.
    front.was_asked(&[("BatchGetSecretValue", 1), ("GetSecretValue", 2)])?;

    // For moto the whole call fails when one secret has no value.
    moto.put_nothing("mixed/empty")?;
    let vault = Setup::at(&front.url()).keys(&reader("mixed2")?).vault()?;
    let got = vault.get_all(&["mixed/a/", "mixed/empty/"])?;
    got[0].is("A")?;
    got[1].fails(NotFound)?;
    front.was_asked(&[("BatchGetSecretValue", 1), ("GetSecretValue", 2)])
}

#[test]
fn who_may_not_read_many_at_once_reads_one_by_one_for_a_while() -> Result<()> {
    let moto = moto()?;
    let front = Front::start()?;
    for name in ["single/a", "single/b", "single/c", "single/d"] {
        moto.put(name, name)?;
    }
    let keys = user("single", &["secretsmanager:GetSecretValue"])?;
    let vault = Setup::at(&front.url()).keys(&keys).vault()?;
    let read = |names: [&str; 2]| {
        let got = vault.get_all(&names.map(|name| format!("{name}/")))?;
        got[0].is(names[0])?;
        got[1].is(names[1])
    };
    read(["single/a", "single/b"])?;
    front.was_asked(&[("BatchGetSecretValue", 1), ("GetSecretValue", 2)])?;
    read(["single/c", "single/d"])?;
    front.was_asked(&[("GetSecretValue", 2)])?;
    // The policy may have changed.
    moto.set_policy("single", &crate::vault::allow(&crate::vault::READ))?;
    vault.pass(Duration::from_secs(15 * 60));
    read(["single/a", "single/b"])?;
    front.was_asked(&[("BatchGetSecretValue", 1)])
}

/// As the reference of the API has it: errors a secret, and further parts by a token.
#[test]
fn errors_a_secret_and_answers_in_parts_are_taken_as_documented() -> Result<()> {
    let answer = |body: Value| {
        Reply::status(200)
            .header("content-type", "application/x-amz-json-1.1")
            .body(body.to_string())
    };
    let front = Front::answering(move |_, request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if request.header("x-amz-target")? != "secretsmanager.BatchGetSecretValue" {
            return Some(Reply::status(400).body(r#"{"__type":"AccessDeniedException"}"#));
        }
        if asked["SecretIdList"].as_array()?.len() != 5 {
            return Some(Reply::status(500));
        }
        let secret = |name: &str, field: &str, value: &str| {
            json!({
                "ARN": format!("arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}-AbC123"),
                "Name": name,
                "VersionId": "a1b2c3d4-5678-90ab-cdef-EXAMPLE11111",
                field: value,
                "VersionStages": ["AWSCURRENT"],
                "CreatedDate": 1_700_591_229.801,
            })
        };
        let failed = |name: &str, code: &str| json!({ "SecretId": name, "ErrorCode": code, "Message": format!("{MARK} {name}") });
        Some(answer(match asked["NextToken"].as_str() {
            None => json!({
                "SecretValues": [secret("parts/a", "SecretString", "A")],
                "Errors": [failed("parts/secret", "AccessDeniedException")],
                "NextToken": "more",
            }),
            Some("more") => json!({
                "SecretValues": [secret("parts/b", "SecretBinary", "/w==")],
                "Errors": [
                    failed("parts/none", "ResourceNotFoundException"),
                    failed("parts/kms", "DecryptionFailure"),
                ],
            }),
            Some(_) => return None,
        }))
    })?;
    let vault = Setup::at(&front.url()).keys(&reader("parts")?).vault()?;
    let got = vault.get_all(&[
        "parts/a/",
        "parts/b/",
        "parts/secret/",
        "parts/none/",
        "parts/kms/",
    ])?;
    got[0].is("A")?;
    got[1].is(b"\xff")?;
    got[2].fails(Denied)?;
    got[3].fails(NotFound)?;
    got[4].fails(Denied)?;
    front.was_asked(&[("BatchGetSecretValue", 2)])
}

#[test]
fn an_outage_is_not_asked_for_each() -> Result<()> {
    let front = Front::answering(|_, _| Some(Reply::status(503).body(MARK)))?;
    let vault = Setup::at(&front.url()).keys(&reader("outage")?).vault()?;
    for got in vault.get_all(&["outage/a/", "outage/b/", "outage/c/"])? {
        got.fails(Unavailable)?;
    }
    let counts = front.counts();
    ensure!(counts.get("BatchGetSecretValue") == Some(&3), "{counts:?}");
    ensure!(counts.len() == 1, "{counts:?}");
    Ok(())
}
