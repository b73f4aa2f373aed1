//! Servers that cannot: sealed, standing by, busy. What is said of it is
//! what they are.

use anyhow::Result;
use serde_json::json;
use vaultref_host::backend::{ReadError, ReadErrorKind};
use vaultref_scenarios::front::Front;
use vaultref_scenarios::openbao::{Cluster, KV2_MOUNT, OpenBao, ROOT_TOKEN};
use vaultref_scenarios::upstream::{Reply, Upstream};

use crate::approle::{fields, with_role};
use crate::vault::Vault;

fn is_unavailable(error: &ReadError, says: &str) {
    assert_eq!(error.kind, ReadErrorKind::Unavailable, "{}", error.cause);
    assert!(error.cause.contains(says), "{says}: {}", error.cause);
}

#[test]
fn a_sealed_one_says_so_to_reads_and_logins() -> Result<()> {
    let bao = OpenBao::start()?;
    let role_id = with_role(&bao, &json!({}))?;
    let secret_id = bao.secret_id("approle", "role")?;
    let reading = Vault::at(bao.address(), &json!({"token": ROOT_TOKEN}))?;
    let logging_in = Vault::at(bao.address(), &fields(&role_id, &secret_id))?;
    assert_eq!(reading.value("app"), Ok("v".to_owned()));
    bao.seal()?;
    for vault in [&reading, &logging_in] {
        let error = vault.read("app").expect_err("sealed");
        is_unavailable(&error, "503: it is sealed");
        assert!(!error.transient, "somebody has to unseal it");
    }
    bao.unseal()?;
    assert_eq!(reading.value("app"), Ok("v".to_owned()));
    vaultref_scenarios::wait::until_true("a login", vaultref_scenarios::wait::SOON, || {
        logging_in.value("app") == Ok("v".to_owned())
    })
}

#[test]
fn a_standby_serves_and_says_when_it_has_no_active_node() -> Result<()> {
    let cluster = Cluster::start()?;
    let role_id = with_role(cluster.active(), &json!({}))?;
    let secret_id = cluster.active().secret_id("approle", "role")?;
    let fields = fields(&role_id, &secret_id);
    let vault = Vault::at(cluster.standby(), &fields)?;
    vaultref_scenarios::wait::until_true(
        "the standby to know",
        vaultref_scenarios::wait::SOON,
        || vault.value("app") == Ok("v".to_owned()),
    )?;
    cluster.kill_active();
    let error = Vault::at(cluster.standby(), &fields)?
        .read("app")
        .expect_err("no active node");
    is_unavailable(&error, "it is a standby");
    assert!(
        error.cause.contains("redirect is not followed"),
        "{}",
        error.cause
    );
    Ok(())
}

/// Answers that this OpenBao does not give: of a cluster without an active node, of HashiCorp's
/// server in a secondary cluster, and of something between that knows nothing of vaults.
#[test]
fn states_that_are_hard_to_come_by() -> Result<()> {
    let cluster = r#"{"errors":["local node not active but active cluster node not found"]}"#;
    let secondary =
        r#"{"errors":["path disabled in replication DR secondary mode token-of-test"]}"#;
    for (status, body, says, transient) in [
        (500, cluster, "it is a standby", true),
        (
            503,
            r#"{"errors":["namespace is sealed"]}"#,
            "it is sealed",
            false,
        ),
        (400, secondary, "a secondary that waits", false),
        (
            500,
            r#"{"errors":["token-of-test"]}"#,
            "the vault answers 500",
            true,
        ),
        (
            502,
            "<html>token-of-test</html>",
            "the vault answers 502",
            true,
        ),
    ] {
        let server = Upstream::answering(move |_| Reply::status(status).body(body))?;
        let vault = Vault::at(server.address(), &json!({"token": "token-of-test"}))?;
        let error = vault.read("app").expect_err("no secret");
        is_unavailable(&error, says);
        assert_eq!(error.transient, transient, "{says}");
        assert!(!error.cause.contains("token-of-test"), "{}", error.cause);
        assert_eq!(server.requests().len(), 1, "it is asked nothing else");
    }
    Ok(())
}

#[test]
fn a_busy_one_says_when_to_come_back() -> Result<()> {
    let bao = OpenBao::start()?;
    bao.put(KV2_MOUNT, "app", &json!({"k": "v"}))?;
    let headers = json!({"enable_rate_limit_response_headers": true});
    bao.configure("sys/quotas/config", &headers)?;
    let quota = json!({"path": format!("{KV2_MOUNT}/"), "rate": 1, "interval": "1h"});
    bao.configure("sys/quotas/rate-limit/test", &quota)?;
    let vault = Vault::at(bao.address(), &json!({"token": ROOT_TOKEN}))?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    let error = vault.read("app").expect_err("one an hour");
    is_unavailable(&error, "429");
    assert!(error.transient);
    let wait = error.retry_after.expect("told when").as_secs();
    assert!((1..=3600).contains(&wait), "{wait}");
    Ok(())
}

#[test]
fn what_is_not_there_is_named() -> Result<()> {
    let bao = OpenBao::start()?;
    bao.put(KV2_MOUNT, "app", &json!({"k": "v"}))?;
    for (fields, path, says) in [
        (json!({}), "none", "no such secret or version"),
        (json!({"mount": "none"}), "app", "nothing is mounted there"),
        (json!({"namespace": "none"}), "app", "no such namespace"),
        (json!({"kv": "v1"}), "app", "needs `kv: v2`"),
    ] {
        let mut fields = fields;
        fields["token"] = json!(ROOT_TOKEN);
        let error = Vault::at(bao.address(), &fields)?
            .read(path)
            .expect_err(says);
        assert_eq!(error.kind, ReadErrorKind::NotFound, "{says}");
        assert!(error.cause.contains(says), "{says}: {}", error.cause);
    }
    Ok(())
}

/// A connection that ends within an answer is an outage that may be over at once.
#[test]
fn an_answer_that_breaks_off() -> Result<()> {
    let bao = OpenBao::start()?;
    let front = Front::interfering(bao.address(), |request| {
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"data\":";
        request.path.contains("/data/").then(|| Reply::raw(cut))
    })?;
    let vault = Vault::at(front.address(), &json!({"token": ROOT_TOKEN}))?;
    let error = vault.read("app").expect_err("cut short");
    is_unavailable(&error, "breaks off its answer");
    assert!(error.transient);
    Ok(())
}

#[test]
fn answers_that_are_none_of_a_vault() -> Result<()> {
    for body in [
        "",
        "null",
        "7",
        "[{}]",
        r#""text""#,
        "<html>",
        r#"{"data":[]}"#,
        r#"{"data":{"data":"text"},"auth":{"client_token":7,"lease_duration":1}}"#,
        r#"{"data":{"data":null},"auth":{"client_token":"t","lease_duration":-1}}"#,
    ] {
        let server = Upstream::answering(move |_| Reply::status(200).body(body))?;
        for fields in [json!({"token": "t"}), fields("role", "secret")] {
            let vault = Vault::at(server.address(), &fields)?;
            let error = vault.read("app").expect_err(body);
            is_unavailable(&error, "the answer is none of the vault");
        }
    }
    Ok(())
}

/// Of a read it says that the object is none to be used; of a login nothing about any object.
#[test]
fn answers_that_do_not_end() -> Result<()> {
    let endless = "x".repeat(17 << 20);
    let server = Upstream::answering(move |_| Reply::status(200).body(&endless))?;
    let vault = Vault::at(server.address(), &json!({"token": "t"}))?;
    let error = vault.read("app").expect_err("too long");
    assert_eq!(error.kind, ReadErrorKind::WrongType, "{}", error.cause);
    let vault = Vault::at(server.address(), &fields("role", "secret"))?;
    let error = vault.read("app").expect_err("too long");
    is_unavailable(&error, "too long");
    Ok(())
}
