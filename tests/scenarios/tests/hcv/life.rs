//! The life of tokens: renewed before they run out, got anew at their end and when they
//! are no longer taken, and left alone where nothing can be done.

use anyhow::Result;
use serde_json::{Value, json};
use vaultref_host::backend::ReadErrorKind;
use vaultref_scenarios::front::Front;
use vaultref_scenarios::openbao::OpenBao;
use vaultref_scenarios::wait;

use crate::approle::{fields, with_role};
use crate::vault::Vault;

const LOGIN: &str = "/v1/auth/approle/login";
const LOOK_UP: &str = "/v1/auth/token/lookup-self";
const RENEW: &str = "/v1/auth/token/renew-self";
const REVOKE: &str = "/v1/auth/token/revoke-self";

/// Nobody reads meanwhile: a token that cannot be got again must not be lost for that.
#[test]
fn tokens_are_renewed_before_they_run_out_and_got_anew_at_their_end() -> Result<()> {
    let bao = OpenBao::start()?;
    let role_id = with_role(&bao, &json!({"token_ttl": "6s", "token_max_ttl": "9s"}))?;
    let secret_id = bao.secret_id("approle", "role")?;
    let got = Front::of(bao.address())?;
    let vault_with_login = Vault::at(got.address(), &fields(&role_id, &secret_id))?;
    assert_eq!(vault_with_login.value("app"), Ok("v".to_owned()));

    let token = token(&bao, &json!({"policies": ["app"], "period": "6s"}))?;
    let given = Front::of(bao.address())?;
    let vault_with_token = Vault::at(given.address(), &json!({ "token": token }))?;
    assert_eq!(vault_with_token.value("app"), Ok("v".to_owned()));
    assert_eq!(
        given.count(LOOK_UP),
        0,
        "a first read does not wait for that"
    );

    got.wait_for(RENEW, 1)?;
    assert_eq!(got.count(LOGIN), 1, "it was renewed while it was good");
    got.wait_for(LOGIN, 2)?;
    assert_eq!(vault_with_login.value("app"), Ok("v".to_owned()));
    assert_eq!(got.count(LOGIN), 2, "the read needed none of its own");

    // By the time of the second it would be no more.
    given.wait_for(RENEW, 2)?;
    assert_eq!(vault_with_token.value("app"), Ok("v".to_owned()));
    assert_eq!(given.count(LOOK_UP), 1);
    Ok(())
}

#[test]
fn a_given_token_is_used_as_it_is_if_no_more_is_known_of_it() -> Result<()> {
    let bao = OpenBao::start()?;
    with_role(&bao, &json!({}))?;
    let silent = json!({"policies": ["app"], "no_default_policy": true, "ttl": "1h"});
    let fixed = json!({"policies": ["app"], "renewable": false, "ttl": "1h"});
    let batch = json!({"policies": ["app"], "type": "batch", "ttl": "1h"});
    for wanted in [silent, fixed, batch] {
        let front = Front::of(bao.address())?;
        let token = token(&bao, &wanted)?;
        let vault = Vault::at(front.address(), &json!({ "token": token }))?;
        assert_eq!(vault.value("app"), Ok("v".to_owned()), "{wanted}");
        front.wait_for(LOOK_UP, 1)?;
        assert_eq!(vault.value("app"), Ok("v".to_owned()), "{wanted}");
        assert_eq!(vault.value("other"), Err(ReadErrorKind::Denied), "{wanted}");
        assert_eq!(
            (front.count(LOOK_UP), front.count(RENEW)),
            (1, 0),
            "{wanted}"
        );
    }
    let dead = Vault::at(bao.address(), &json!({"token": "nobody"}))?;
    let error = dead.read("app").expect_err("no such token");
    assert_eq!(error.kind, ReadErrorKind::Denied);
    Ok(())
}

#[test]
fn after_a_revocation_one_logs_in_anew_and_only_once() -> Result<()> {
    let bao = OpenBao::start()?;
    let role_id = with_role(&bao, &json!({}))?;
    let secret_id = bao.secret_id("approle", "role")?;
    let front = Front::of(bao.address())?;
    let vault = Vault::at(front.address(), &fields(&role_id, &secret_id))?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    bao.configure("sys/leases/revoke-prefix/auth/approle", &json!({}))?;
    assert_eq!(
        vault.value("app"),
        Err(ReadErrorKind::Denied),
        "the login is new"
    );
    wait::until_true("another login", wait::SOON, || {
        vault.value("app") == Ok("v".to_owned())
    })?;
    for read in vault.read_at_once("app", 20) {
        assert_eq!(read.expect("a secret")["k"], "v");
    }
    assert_eq!(front.count(LOGIN), 2);
    Ok(())
}

/// One object that is forbidden must not cost the others their token: neither if it can be
/// replaced, nor if it cannot.
#[test]
fn what_is_forbidden_does_not_spoil_the_rest() -> Result<()> {
    let bao = OpenBao::start()?;
    let role_id = with_role(&bao, &json!({"secret_id_num_uses": 2}))?;
    let secret_id = bao.secret_id("approle", "role")?;
    let front = Front::of(bao.address())?;
    let vault = Vault::at(front.address(), &fields(&role_id, &secret_id))?;
    let forbidden = || assert_eq!(vault.value("other"), Err(ReadErrorKind::Denied));
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    wait::until_true("a second login for what is forbidden", wait::SOON, || {
        forbidden();
        front.count(LOGIN) == 2
    })?;
    front.wait_for(REVOKE, 1)?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()), "with the new token");
    wait::until_true("a third login, which fails", wait::SOON, || {
        forbidden();
        front.count(LOGIN) == 3
    })?;
    assert_eq!(
        vault.value("app"),
        Ok("v".to_owned()),
        "with the token from before"
    );
    assert_eq!(front.count(REVOKE), 1);
    Ok(())
}

fn token(bao: &OpenBao, wanted: &Value) -> Result<String> {
    let answer = bao.configure("auth/token/create", wanted)?;
    Ok(answer["auth"]["client_token"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}
