//! Vaults whose credentials come from other vaults, with a real daemon and a real OpenBao.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_scenarios::daemon::Daemon;
use vaultref_scenarios::openbao::{OpenBao, ROOT_TOKEN};
use vaultref_scenarios::wait;

/// What the daemon says to one reference: its text, or the kind of failure.
fn outcome(daemon: &Daemon, reference: &str) -> Result<String> {
    let answer: Value = serde_json::from_str(&daemon.resolve(&[reference])?.text())?;
    let result = &answer["results"][0];
    let text = result["secret"]["value"]["text"].as_str();
    let kind = result["failure"]["kind"].as_str();
    Ok(text.or(kind).context("no outcome")?.to_owned())
}

/// The token of one vault stands in another, whose values are fresh for an hour.
#[test]
fn a_token_that_is_revoked_and_replaced_in_its_own_vault_is_taken_up_before_its_ttl() -> Result<()>
{
    let bao = OpenBao::start()?;
    bao.mount_kv("payments", 2)?;
    bao.put("payments", "stripe", &json!({ "token": "sk_first" }))?;
    let (first, second) = (
        bao.create_reader("reader", &["payments"])?,
        bao.create_reader("reader", &["payments"])?,
    );
    bao.mount_kv("boot", 2)?;
    bao.put("boot", "login", &json!({ "token": first }))?;
    let mut source = bao.vault_config("boot", "v2", ROOT_TOKEN);
    source["ttl"] = json!(3600);
    let mut config = bao.vault_config("payments", "v2", "{vault://boot/login/token}");
    config["ttl"] = json!(1);
    config["neg_ttl"] = json!(1);
    let mut daemon = Daemon::with_vaults(&json!([
        { "name": "hcv", "prefix": "boot", "config": source },
        { "name": "hcv", "prefix": "payments", "config": config },
    ]))?
    .started()?;
    let reference = "{vault://payments/stripe/token}";
    assert_eq!(outcome(&daemon, reference)?, "sk_first");
    bao.revoke_token(&first)?;
    wait::until_true("the refusal", wait::SOON, || {
        outcome(&daemon, reference).is_ok_and(|outcome| outcome == "denied")
    })?;
    bao.put("payments", "stripe", &json!({ "token": "sk_second" }))?;
    bao.put("boot", "login", &json!({ "token": second }))?;
    wait::until_true("the value read with the new token", wait::SOON, || {
        outcome(&daemon, reference).is_ok_and(|outcome| outcome == "sk_second")
    })?;
    let log = daemon.process()?.log();
    for secret in [&*first, &*second, "sk_first", "sk_second"] {
        assert!(!log.contains(secret));
    }
    daemon.stop()
}
