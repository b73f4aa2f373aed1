//! A server that is away or answers what it should not. The rows that are the same for every backend
//! are in the conformance kit.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use vaultref_contract::wire::FailureKind::{Denied, Unavailable};
use vaultref_scenarios::moto::Keys;
use vaultref_scenarios::ports;
use vaultref_scenarios::upstream::{Reply, Upstream};

use crate::vault::{Got, MARK, Setup};

fn at(url: &str) -> Setup {
    Setup::at(url).keys(&Keys {
        id: "AKIAAAAAAAAAAAAAAAAA".to_owned(),
        secret: "hunter2-of-the-key".to_owned(),
        token: Some("token-of-the-session".to_owned()),
    })
}

/// The SDK's own retries and timeouts would take longer than the vault's.
#[test]
fn a_dead_endpoint_answers_within_the_timeout_of_the_vault() -> Result<()> {
    let start = Instant::now();
    let got = at(&format!("http://{}", ports::free()?)).get("x")?;
    ensure!(
        got.fails(Unavailable)?.contains("cannot be reached"),
        "{got:?}"
    );

    // It takes connections and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let setup = at(&format!("http://{}", silent.local_addr()?)).field("timeout", 1);
    let got = setup.get("x")?;
    ensure!(got.fails(Unavailable)?.contains("within 1 s"), "{got:?}");
    let got = setup.vault()?.get_all(&["x", "y", "z"])?;
    got[2].fails(Unavailable)?;
    ensure!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}

#[test]
fn throttling_by_code_is_retried_and_heeded() -> Result<()> {
    let upstream = Upstream::answering(|_| {
        Reply::status(400)
            .header("retry-after", "60")
            .body(r#"{"__type":"ThrottlingException","message":"hunter2"}"#)
    })?;
    let got = at(&format!("http://{}", upstream.address())).get("x")?;
    got.fails(Unavailable)?;
    let Got::Failure(failure, _) = got else {
        anyhow::bail!("a value");
    };
    ensure!(failure.retry_after >= Some(50), "{failure:?}");
    ensure!(
        upstream.requests().len() == 1,
        "not asked again before that"
    );

    let upstream = Upstream::answering(|_| {
        Reply::status(400).body(r#"{"__type":"ThrottlingException","message":"hunter2"}"#)
    })?;
    at(&format!("http://{}", upstream.address()))
        .get("x")?
        .fails(Unavailable)?;
    ensure!(
        upstream.requests().len() == 3,
        "asked again by the resolver alone"
    );
    Ok(())
}

#[test]
fn an_answer_of_something_else_is_none() -> Result<()> {
    let secret = |arn: &str, name: &str| json!({ "ARN": arn, "Name": name, "SecretString": MARK });
    let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x-AbC123";
    for body in [
        json!({}).to_string(),
        json!({ "SecretString": MARK }).to_string(),
        secret(arn, "another").to_string(),
        secret("arn:aws:iam::123456789012:role/x", "x").to_string(),
        // Larger than twenty secrets.
        format!("{{\"SecretString\":\"{}\"}}", "x".repeat(9 << 20)),
    ] {
        let upstream = Upstream::answering(move |_| Reply::status(200).body(&body))?;
        at(&format!("http://{}", upstream.address()))
            .get("x")?
            .fails(Unavailable)?;
    }
    let upstream =
        Upstream::answering(move |_| Reply::status(200).body(secret(arn, "x").to_string()))?;
    at(&format!("http://{}", upstream.address()))
        .get("x")?
        .is(MARK)
}

#[test]
fn what_is_sent_is_signed_and_has_no_secret_of_ours() -> Result<()> {
    let upstream = Upstream::answering(|_| {
        Reply::status(403)
            .body("<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")
    })?;
    let setup = at(&format!("http://{}", upstream.address()));
    setup.get("x")?.fails(Denied)?;
    let sent = upstream.last()?;
    let signature = sent.header("authorization").unwrap_or_default();
    ensure!(signature.starts_with("AWS4-HMAC-SHA256 "), "{signature}");
    ensure!(
        signature.contains("x-amz-security-token"),
        "the token is not signed"
    );
    ensure!(!sent.dump().contains(MARK));
    ensure!(sent.body == br#"{"SecretId":"x"}"#);
    Ok(())
}
