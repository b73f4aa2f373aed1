//! AppRole: the secret id itself, from a file, and wrapped.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use vaultref_host::backend::ReadErrorKind;
use vaultref_scenarios::front::Front;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};

use crate::vault::Vault;

const LOGIN: &str = "/v1/auth/approle/login";
const UNWRAP: &str = "/v1/sys/wrapping/unwrap";

/// A role that may read `app` and nothing else; its role id.
pub(crate) fn with_role(bao: &OpenBao, fields: &Value) -> Result<String> {
    bao.put(KV2_MOUNT, "app", &json!({"k": "v"}))?;
    bao.put(KV2_MOUNT, "other", &json!({"k": "not yours"}))?;
    let policy = format!("path \"{KV2_MOUNT}/data/app\" {{ capabilities = [\"read\"] }}");
    bao.put_policy("app", &policy)?;
    bao.enable_auth("approle", "approle")?;
    let mut all = json!({"token_policies": ["app"]});
    let members = fields.as_object().expect("fields").clone();
    all.as_object_mut().expect("fields").extend(members);
    bao.app_role("approle", "role", &all)
}

pub(crate) fn fields(role_id: &str, secret_id: &str) -> Value {
    json!({"auth_method": "approle", "approle_role_id": role_id, "approle_secret_id": secret_id})
}

#[test]
fn a_secret_id_and_one_login_for_all_who_ask() -> Result<()> {
    let bao = OpenBao::start()?;
    let role_id = with_role(&bao, &json!({}))?;
    let secret_id = bao.secret_id("approle", "role")?;
    let front = Front::of(bao.address())?;
    let vault = Vault::at(front.address(), &fields(&role_id, &secret_id))?;
    for read in vault.read_at_once("app", 50) {
        assert_eq!(read.expect("a secret")["k"], "v");
    }
    assert_eq!(front.count(LOGIN), 1);
    assert_eq!(vault.value("other"), Err(ReadErrorKind::Denied));

    let wrong = Vault::at(bao.address(), &fields(&role_id, "nobody"))?;
    let error = wrong.read("app").expect_err("no such secret id");
    assert_eq!(error.kind, ReadErrorKind::Denied);
    assert!(
        error.cause.contains("the login with approle"),
        "{}",
        error.cause
    );
    assert!(!error.transient);
    Ok(())
}

#[test]
fn a_method_at_another_path() -> Result<()> {
    let bao = OpenBao::start()?;
    with_role(&bao, &json!({}))?;
    bao.enable_auth("approle", "teams/a")?;
    let role_id = bao.app_role("teams/a", "role", &json!({"token_policies": ["app"]}))?;
    let secret_id = bao.secret_id("teams/a", "role")?;
    let mut fields = fields(&role_id, &secret_id);
    let error = Vault::at(bao.address(), &fields)?.read("app");
    assert_eq!(error.expect_err("not there").kind, ReadErrorKind::Denied);
    fields["approle_auth_path"] = json!("/teams/a/");
    assert_eq!(
        Vault::at(bao.address(), &fields)?.value("app"),
        Ok("v".to_owned())
    );
    fields["approle_auth_path"] = json!("nothing/here");
    let error = Vault::at(bao.address(), &fields)?
        .read("app")
        .expect_err("nothing");
    assert_eq!(error.kind, ReadErrorKind::Denied);
    assert!(
        error.cause.contains("no login at this path"),
        "{}",
        error.cause
    );
    Ok(())
}

/// The token is used up after two reads, so that the third logs in anew.
#[test]
fn a_file_is_read_at_each_login() -> Result<()> {
    let bao = OpenBao::start()?;
    let role = json!({"token_num_uses": 2, "secret_id_num_uses": 1});
    let role_id = with_role(&bao, &role)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("secret-id");
    let fields = json!({
        "auth_method": "approle",
        "approle_role_id": role_id,
        "approle_secret_id_file": file,
    });
    let front = Front::of(bao.address())?;
    let vault = Vault::at(front.address(), &fields)?;
    let missing = vault.read("app").expect_err("no file");
    assert_eq!(missing.kind, ReadErrorKind::Unavailable);
    assert!(missing.cause.contains("secret-id"), "{}", missing.cause);
    assert_eq!(front.count(LOGIN), 0);

    fs::write(&file, format!("{}\n", bao.secret_id("approle", "role")?))?;
    let vault = Vault::at(front.address(), &fields)?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    fs::write(&file, bao.secret_id("approle", "role")?)?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    assert_eq!(front.count(LOGIN), 2);
    Ok(())
}

#[test]
fn a_wrapped_secret_id_is_unwrapped_once_and_kept() -> Result<()> {
    let bao = OpenBao::start()?;
    let role_id = with_role(&bao, &json!({"token_num_uses": 1}))?;
    let mut fields = fields(&role_id, &bao.wrapped_secret_id("approle", "role")?);
    fields["approle_response_wrapping"] = json!(true);
    let front = Front::of(bao.address())?;
    let vault = Vault::at(front.address(), &fields)?;
    for logins in 1..=3 {
        assert_eq!(vault.value("app"), Ok("v".to_owned()));
        assert_eq!(front.count(LOGIN), logins);
    }
    assert_eq!(front.count(UNWRAP), 1);

    let late = Vault::at(bao.address(), &fields)?;
    let error = late.read("app").expect_err("it has been unwrapped");
    assert_eq!(error.kind, ReadErrorKind::Denied);
    assert!(error.cause.contains("unwrapped already"), "{}", error.cause);
    Ok(())
}

#[test]
fn another_wrapping_token_in_the_file_is_unwrapped_as_well() -> Result<()> {
    let bao = OpenBao::start()?;
    let role = json!({"token_num_uses": 1, "secret_id_num_uses": 2});
    let role_id = with_role(&bao, &role)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("wrapped");
    fs::write(&file, bao.wrapped_secret_id("approle", "role")?)?;
    let fields = json!({
        "auth_method": "approle",
        "approle_role_id": role_id,
        "approle_secret_id_file": file,
        "approle_response_wrapping": true,
    });
    let front = Front::of(bao.address())?;
    let vault = Vault::at(front.address(), &fields)?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    assert_eq!(front.count(UNWRAP), 1);
    fs::write(&file, bao.wrapped_secret_id("approle", "role")?)?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    assert_eq!(front.count(UNWRAP), 2);
    Ok(())
}

/// What a wrapping token gives must not get lost when nobody waits for it any more.
#[test]
fn a_login_goes_on_when_the_reader_gives_up() -> Result<()> {
    let bao = OpenBao::start()?;
    let role_id = with_role(&bao, &json!({"secret_id_num_uses": 1}))?;
    let mut fields = fields(&role_id, &bao.wrapped_secret_id("approle", "role")?);
    fields["approle_response_wrapping"] = json!(true);
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (arrived, arrival) = std::sync::mpsc::channel();
    let arrived = std::sync::Mutex::new(arrived);
    let target = bao.address();
    let front = Front::interfering(target, move |request| {
        if request.path != UNWRAP {
            return None;
        }
        let reply = vaultref_scenarios::front::pass_on(request, target);
        let _ = arrived.lock().expect("no panic").send(());
        // The answer is held back until the reader is gone.
        let _ = gate.lock().expect("no panic").recv();
        Some(reply)
    })?;
    let vault = Vault::at(front.address(), &fields)?;
    vault.read_and_give_up("app", || arrival.try_recv().is_ok());
    open.send(())?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    assert_eq!((front.count(UNWRAP), front.count(LOGIN)), (1, 1));
    Ok(())
}

#[test]
fn in_a_namespace() -> Result<()> {
    let mut bao = OpenBao::start()?;
    bao.create_namespace("tenant")?;
    bao.use_namespace(Some("tenant"));
    bao.mount_kv(KV2_MOUNT, 2)?;
    let role_id = with_role(&bao, &json!({}))?;
    let mut fields = fields(&role_id, &bao.wrapped_secret_id("approle", "role")?);
    fields["approle_response_wrapping"] = json!(true);
    let outside = Vault::at(bao.address(), &fields)?;
    assert_eq!(outside.value("app"), Err(ReadErrorKind::Denied));

    fields["approle_secret_id"] = json!(bao.wrapped_secret_id("approle", "role")?);
    fields["namespace"] = json!("tenant/");
    assert_eq!(
        Vault::at(bao.address(), &fields)?.value("app"),
        Ok("v".to_owned())
    );

    fields["namespace"] = json!("nobody");
    fields["approle_response_wrapping"] = json!(false);
    let error = Vault::at(bao.address(), &fields)?
        .read("app")
        .expect_err("nobody");
    assert_eq!(error.kind, ReadErrorKind::Denied);
    assert!(error.cause.contains("no such namespace"), "{}", error.cause);
    Ok(())
}
