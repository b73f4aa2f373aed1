//! Every place that credentials come from, with signatures and policies checked by moto.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use vaultref_contract::wire::FailureKind::{Denied, Unavailable};
use vaultref_scenarios::moto::{ACCOUNT, Keys};
use vaultref_scenarios::ports;
use vaultref_scenarios::upstream::{Reply, Upstream};

use crate::front::{Front, action, form_field};
use crate::metadata::{CONTAINER_PATH, CONTAINER_TOKEN, container, instance};
use crate::vault::{MARK, READ, Setup, Vault, allow, moto, reader, reading_role, user};

const SECRET: &str = "of-everybody";

fn put_secret() -> Result<()> {
    moto()?.put(SECRET, MARK).map(drop)
}

#[test]
fn keys_of_the_environment_and_what_their_policy_says() -> Result<()> {
    put_secret()?;
    let setup = Setup::on_moto()?;
    for keys in [reader("env-reader")?, reading_role("env-role")?] {
        setup.clone().keys(&keys).get(SECRET)?.is(MARK)?;
    }

    let nobody = user("env-nobody", &["secretsmanager:ListSecrets"])?;
    let cause = "denies access";
    let got = setup.clone().keys(&nobody).get(SECRET)?;
    ensure!(got.fails(Denied)?.contains(cause), "{got:?}");

    // One secret and no other.
    let arn = moto()?.put("of-one", MARK)?;
    let one = json!([{ "Effect": "Allow", "Action": READ, "Resource": arn }]);
    let one = setup
        .clone()
        .keys(&moto()?.create_user("env-one", &one)?)
        .vault()?;
    one.get("of-one")?.is(MARK)?;
    one.get(SECRET)?.fails(Denied)?;
    one.get("of-one#2")?
        .fails(vaultref_contract::wire::FailureKind::NotFound)?;

    let known = reader("env-known")?;
    let refused = "refuses the credentials";
    for keys in [
        Keys {
            secret: "hunter2-and-no-key".to_owned(),
            ..known
        },
        Keys {
            id: "AKIAAAAAAAAAAAAAAAAA".to_owned(),
            secret: MARK.to_owned(),
            token: None,
        },
    ] {
        let got = setup.clone().keys(&keys).get(SECRET)?;
        ensure!(got.fails(Denied)?.contains(refused), "{got:?}");
    }
    Ok(())
}

#[test]
fn without_any_credentials_it_is_denied_and_nobody_is_asked() -> Result<()> {
    let front = Front::start()?;
    let got = Setup::at(&front.url()).get(SECRET)?;
    ensure!(got.fails(Denied)?.contains("no AWS credentials"), "{got:?}");
    front.was_asked(&[])
}

#[test]
fn profiles_and_their_roles() -> Result<()> {
    put_secret()?;
    let keys = user("profiles", &["sts:AssumeRole"])?;
    let who = format!("arn:aws:iam::{ACCOUNT}:user/profiles");
    let role = moto()?.create_role("of-profile", &[&who], &allow(&READ))?;
    let other = reader("profile-reader")?;
    let home = TempDir::new()?;
    let folder = home.path().join(".aws");
    fs::create_dir(&folder)?;
    fs::write(
        folder.join("credentials"),
        format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n\
             [reader]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            keys.id, keys.secret, other.id, other.secret
        ),
    )?;
    let process = home.path().join("process.json");
    let document = json!({
        "Version": 1, "AccessKeyId": other.id, "SecretAccessKey": other.secret,
    });
    fs::write(&process, document.to_string())?;
    let config = home.path().join("config");
    fs::write(
        &config,
        format!(
            "[profile taken]\nrole_arn = {role}\nsource_profile = default\n\
             [profile process]\ncredential_process = cat {}\n\
             [profile broken]\nrole_arn = {role}\ncredential_source = {MARK}\n",
            process.display()
        ),
    )?;
    let front = Front::start()?;
    let setup = Setup::on_moto()?
        .field("sts_endpoint_url", front.url())
        .variable("HOME", home.path().to_string_lossy());
    let with = |profile: &str| setup.clone().variable("AWS_PROFILE", profile);
    setup.get(SECRET)?.fails(Denied)?;
    with("reader").get(SECRET)?.is(MARK)?;
    // The files may lie elsewhere.
    let elsewhere =
        |profile: &str| with(profile).variable("AWS_CONFIG_FILE", config.to_string_lossy());
    elsewhere("process").get(SECRET)?.is(MARK)?;
    front.was_asked(&[])?;
    elsewhere("taken").get(SECRET)?.is(MARK)?;
    front.was_asked(&[("AssumeRole", 1)])?;
    let got = elsewhere("broken").get(SECRET)?;
    ensure!(got.fails(Unavailable)?.contains("profile"), "{got:?}");
    Ok(())
}

#[test]
fn a_role_is_taken_on_at_the_given_token_service() -> Result<()> {
    put_secret()?;
    let keys = user("taker", &["sts:AssumeRole"])?;
    let who = format!("arn:aws:iam::{ACCOUNT}:user/taker");
    let theirs = moto()?.create_role("taken-on", &[&who], &allow(&READ))?;
    let others = moto()?.create_role("of-others", &["arn:aws:iam::1:user/x"], &allow(&READ))?;
    let front = Front::start()?;
    let setup = Setup::on_moto()?
        .keys(&keys)
        .field("sts_endpoint_url", front.url())
        // What would lead elsewhere does not count against the field.
        .variable("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
        .variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    // By their own policy they may not read.
    setup.get(SECRET)?.fails(Denied)?;
    let role = setup.clone().field("assume_role_arn", &*theirs);
    role.get(SECRET)?.is(MARK)?;
    role.clone()
        .field("role_session_name", "of-the-test")
        .get(SECRET)?
        .is(MARK)?;
    let names: Vec<_> = front
        .requests()
        .iter()
        .filter_map(|request| form_field(request, "RoleSessionName"))
        .collect();
    ensure!(names == ["KongVault", "of-the-test"], "{names:?}");

    // One login for all that is read, however many want it at once.
    front.counts();
    let vault = role.vault()?;
    let rests: Vec<_> = (0..50).map(|number| format!("{SECRET}{number}/")).collect();
    vault.get_all(&rests)?;
    vault.get(SECRET)?.is(MARK)?;
    front.was_asked(&[("AssumeRole", 1)])?;
    // After two thirds of the hour for which it holds there is another.
    vault.pass(Duration::from_secs(39 * 60));
    vault.get(SECRET)?.is(MARK)?;
    front.was_asked(&[])?;
    vault.pass(Duration::from_secs(2 * 60));
    vault.pass(Duration::from_secs(300));
    vault.get(SECRET)?.is(MARK)?;
    front.was_asked(&[("AssumeRole", 1)])?;

    let got = setup.field("assume_role_arn", others).get(SECRET)?;
    ensure!(got.fails(Denied)?.contains("denies access"), "{got:?}");
    let nowhere = ports::free()?;
    let got = role
        .field("sts_endpoint_url", format!("http://{nowhere}"))
        .get(SECRET)?;
    ensure!(
        got.fails(Unavailable)?.contains("cannot be reached"),
        "{got:?}"
    );
    Ok(())
}

#[test]
fn a_web_identity_is_exchanged_for_keys() -> Result<()> {
    put_secret()?;
    let role = moto()?.create_role("of-the-pod", &[], &allow(&READ))?;
    let folder = TempDir::new()?;
    let file = folder.path().join("token");
    fs::write(&file, "hunter2.good.token")?;
    // moto believes any token; this one does not.
    let front = Front::answering(|action, request| {
        let token = form_field(request, "WebIdentityToken");
        let refused =
            action == "AssumeRoleWithWebIdentity" && token.as_deref() != Some("hunter2.good.token");
        refused.then(|| {
            Reply::status(400).body(
                "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code>\
                 <Message>hunter2</Message></Error></ErrorResponse>",
            )
        })
    })?;
    let setup = Setup::on_moto()?
        .field("sts_endpoint_url", front.url())
        .variable("AWS_ROLE_ARN", &*role)
        .variable("AWS_ROLE_SESSION_NAME", "the-pod")
        .variable("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_string_lossy());
    setup.get(SECRET)?.is(MARK)?;
    let requests = front.requests();
    let [request] = requests.as_slice() else {
        anyhow::bail!("{} requests", requests.len());
    };
    ensure!(action(request) == "AssumeRoleWithWebIdentity");
    ensure!(form_field(request, "RoleSessionName").as_deref() == Some("the-pod"));
    ensure!(
        request.header("authorization").is_none(),
        "nothing to sign with"
    );

    // The file is looked at anew for each login.
    fs::write(&file, "hunter2.bad.token")?;
    let vault = setup.vault()?;
    let got = vault.get(SECRET)?;
    ensure!(
        got.fails(Denied)?.contains("gives no credentials"),
        "{got:?}"
    );
    fs::write(&file, "hunter2.good.token")?;
    vault.pass(Duration::from_secs(5));
    vault.get(SECRET)?.is(MARK)?;

    fs::remove_file(&file)?;
    let got = setup.get(SECRET)?;
    ensure!(got.fails(Unavailable)?.contains("not found"), "{got:?}");
    Ok(())
}

#[test]
fn a_container_has_its_credentials_from_an_endpoint() -> Result<()> {
    put_secret()?;
    let endpoint = container(&reading_role("container")?, &Arc::default())?;
    let setup = of_container(&endpoint)?;
    let vault = setup.vault()?;
    vault.get(SECRET)?.is(MARK)?;
    expect_renewal(&vault, &endpoint, 1)?;

    // EKS pod identity: the token in a file.
    let folder = TempDir::new()?;
    let file = folder.path().join("token");
    fs::write(&file, CONTAINER_TOKEN)?;
    let by_file = setup
        .clone()
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong")
        .variable(
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            file.to_string_lossy(),
        );
    by_file.get(SECRET)?.is(MARK)?;

    let got = setup
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong")
        .get(SECRET)?;
    ensure!(got.fails(Denied)?.contains("denies access"), "{got:?}");
    let got = of_container_at(ports::free()?)?.get(SECRET)?;
    ensure!(
        got.fails(Unavailable)?.contains("cannot be reached"),
        "{got:?}"
    );
    Ok(())
}

#[test]
fn a_source_that_hangs_is_not_waited_for_while_there_are_keys() -> Result<()> {
    put_secret()?;
    let hangs = Arc::new(AtomicBool::new(false));
    let endpoint = container(&reading_role("hanging")?, &hangs)?;
    let vault = of_container(&endpoint)?.field("timeout", 2).vault()?;
    vault.get(SECRET)?.is(MARK)?;
    hangs.store(true, Ordering::SeqCst);
    vault.pass(Duration::from_secs(50 * 60));
    vault.get(SECRET)?.is(MARK)?;
    let asked = endpoint.requests().len();
    ensure!(asked == 2, "asked {asked} times");
    // When the hour is over they are needed. (What was read is too old to bridge that.)
    vault.pass(Duration::from_secs(2 * 86_400));
    let got = vault.get(SECRET)?;
    ensure!(got.fails(Unavailable)?.contains("within 2 s"), "{got:?}");
    Ok(())
}

#[test]
fn an_instance_has_its_credentials_from_its_metadata() -> Result<()> {
    put_secret()?;
    let endpoint = instance(&reading_role("instance")?)?;
    let setup = of_instance_at(endpoint.address())?;
    let vault = setup.vault()?;
    vault.get(SECRET)?.is(MARK)?;
    let asked: Vec<_> = endpoint
        .requests()
        .iter()
        .map(|request| request.method.clone())
        .collect();
    ensure!(asked == ["PUT", "GET", "GET"], "{asked:?}");
    expect_renewal(&vault, &endpoint, 3)?;

    // It counts before it only because of the order of the chain.
    let nobody = user("instance-nobody", &["secretsmanager:ListSecrets"])?;
    setup.keys(&nobody).get(SECRET)?.fails(Denied)?;

    let no_role = Upstream::answering(|request| {
        Reply::status(if request.method == "PUT" { 200 } else { 404 })
            .header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
            .body("hunter2")
    })?;
    of_instance_at(no_role.address())?
        .get(SECRET)?
        .fails(Denied)?;
    let down = Upstream::answering(|_| Reply::status(503).body(MARK))?;
    of_instance_at(down.address())?
        .field("timeout", 1)
        .get(SECRET)?
        .fails(Unavailable)?;
    let got = of_instance_at(ports::free()?)?.get(SECRET)?;
    ensure!(
        got.fails(Unavailable)?.contains("cannot be reached"),
        "{got:?}"
    );
    Ok(())
}

fn of_container(endpoint: &Upstream) -> Result<Setup> {
    of_container_at(endpoint.address())
}

fn of_container_at(address: SocketAddr) -> Result<Setup> {
    let uri = format!("http://{address}{CONTAINER_PATH}");
    Ok(Setup::on_moto()?
        .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN))
}

fn of_instance_at(address: SocketAddr) -> Result<Setup> {
    Ok(Setup::on_moto()?
        .variable("AWS_EC2_METADATA_DISABLED", "false")
        .variable(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            format!("http://{address}"),
        ))
}

/// Credentials that hold for an hour are used for two thirds of it.
fn expect_renewal(vault: &Vault, endpoint: &Upstream, requests: usize) -> Result<()> {
    endpoint.clear();
    vault.pass(Duration::from_secs(39 * 60));
    vault.get(SECRET)?.is(MARK)?;
    ensure!(endpoint.requests().is_empty(), "not yet");
    vault.pass(Duration::from_secs(7 * 60));
    vault.get(SECRET)?.is(MARK)?;
    ensure!(endpoint.requests().len() == requests, "renewed once");
    Ok(())
}

#[test]
fn keys_that_are_no_longer_taken_are_loaded_anew() -> Result<()> {
    put_secret()?;
    let old = reader("rotated")?;
    let folder = TempDir::new()?;
    let file = folder.path().join("credentials");
    let write = |keys: &Keys| {
        fs::write(
            &file,
            format!(
                "[default]\naws_access_key_id={}\naws_secret_access_key={}\n",
                keys.id, keys.secret
            ),
        )
        .context("the credentials file")
    };
    write(&old)?;
    let vault = Setup::on_moto()?
        .variable("AWS_SHARED_CREDENTIALS_FILE", file.to_string_lossy())
        .vault()?;
    vault.get(SECRET)?.is(MARK)?;
    let new = moto()?.create_keys("rotated")?;
    moto()?.delete_keys("rotated", &old)?;
    write(&new)?;
    vault.pass(Duration::from_secs(300));
    vault.get(SECRET)?.is(MARK)?;

    // Without new ones the refusal stands, and a stale value is not given out.
    moto()?.delete_keys("rotated", &new)?;
    vault.pass(Duration::from_secs(300));
    vault.get(SECRET)?.fails(Denied)?;
    Ok(())
}
