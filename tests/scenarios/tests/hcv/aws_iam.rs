//! AWS IAM: the signed call is made at moto, as the server makes it at AWS
//! (<https://developer.hashicorp.com/vault/docs/auth/aws#iam-auth-method>), and moto checks the
//! signature. The vault is a fake: OpenBao has no such login.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vaultref_host::backend::ReadErrorKind;
use vaultref_scenarios::client::{Request, Response};
use vaultref_scenarios::moto::{ACCOUNT, Keys, Moto};
use vaultref_scenarios::upstream::{Received, Reply, Upstream};

use crate::vault::Vault;

/// A vault that lets in whom moto knows, and notes who that was.
fn vault(moto: SocketAddr, callers: Arc<Mutex<Vec<String>>>) -> Result<Upstream> {
    Upstream::answering(move |request| match request.path.as_str() {
        "/v1/auth/aws/login" => {
            let caller = caller(request, moto).expect("a login as documented");
            let Some(caller) = caller else {
                return Reply::status(400).body(r#"{"errors":["no"]}"#);
            };
            callers.lock().expect("no panic").push(caller);
            let auth =
                json!({"client_token": "a-token", "lease_duration": 3600, "renewable": false});
            Reply::status(200).body(json!({ "auth": auth }).to_string())
        }
        _ if request.header("x-vault-token").as_deref() == Some("a-token") => {
            Reply::status(200).body(r#"{"data":{"data":{"k":"v"}}}"#)
        }
        _ => Reply::status(403),
    })
}

/// Who signed the call, as moto says; none if it refuses it.
fn caller(login: &Received, moto: SocketAddr) -> Result<Option<String>> {
    let shown: HashMap<String, String> = serde_json::from_slice(&login.body)?;
    let decoded = |name: &str| {
        STANDARD
            .decode(shown.get(name).context("a field")?)
            .context("base64")
    };
    anyhow::ensure!(decoded("iam_request_url")? == format!("http://{moto}/").into_bytes());
    let headers: HashMap<String, Vec<String>> =
        serde_json::from_slice(&decoded("iam_request_headers")?)?;
    let method = shown.get("iam_http_request_method").context("a method")?;
    let mut request = Request::new(method, "/")
        .header("host", moto.to_string())
        .body(decoded("iam_request_body")?);
    for (name, values) in &headers {
        for value in values {
            request = request.header(name, value);
        }
    }
    let answer = request.send(moto)?;
    Ok((answer.status == 200).then(|| arn(&answer)))
}

fn arn(answer: &Response) -> String {
    let text = answer.text();
    let arn = text
        .split_once("<Arn>")
        .and_then(|(_, rest)| rest.split_once("</Arn>"));
    arn.map_or_else(String::new, |(arn, _)| arn.to_owned())
}

fn fields(moto: &Moto, keys: &Keys) -> Value {
    json!({
        "auth_method": "aws_iam",
        "aws_auth_role": "gateway",
        "aws_auth_region": vaultref_scenarios::moto::REGION,
        "aws_sts_endpoint_url": moto.url(),
        "aws_access_key_id": keys.id,
        "aws_secret_access_key": keys.secret,
    })
}

#[test]
fn amazon_knows_who_signed() -> Result<()> {
    let moto = Moto::start()?;
    let may = json!([{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]);
    let keys = moto.create_user("edge", &may)?;
    let user = format!("arn:aws:iam::{ACCOUNT}:user/edge");
    let role = moto.create_role("gateway", &[&user], &may)?;
    let callers = Arc::new(Mutex::new(Vec::new()));
    let server = vault(moto.address(), Arc::clone(&callers))?;

    let mut as_user = fields(&moto, &keys);
    assert_eq!(
        Vault::at(server.address(), &as_user)?.value("app"),
        Ok("v".to_owned())
    );
    let mut as_role = as_user.clone();
    as_role["aws_assume_role_arn"] = json!(role);
    assert_eq!(
        Vault::at(server.address(), &as_role)?.value("app"),
        Ok("v".to_owned())
    );
    as_role["aws_role_session_name"] = json!("mine");
    assert_eq!(
        Vault::at(server.address(), &as_role)?.value("app"),
        Ok("v".to_owned())
    );
    let assumed = format!("arn:aws:sts::{ACCOUNT}:assumed-role/gateway");
    let expected = [
        user,
        format!("{assumed}/KongVault"),
        format!("{assumed}/mine"),
    ];
    assert_eq!(*callers.lock().expect("no panic"), expected);

    as_role["aws_secret_access_key"] = json!("guess");
    as_user["aws_secret_access_key"] = json!("guess");
    for wrong in [as_user, as_role] {
        let error = Vault::at(server.address(), &wrong)?
            .read("app")
            .expect_err("refused");
        assert_eq!(error.kind, ReadErrorKind::Denied, "{}", error.cause);
        assert!(!error.cause.contains(&*keys.secret), "{}", error.cause);
    }
    assert_eq!(callers.lock().expect("no panic").len(), 3);
    Ok(())
}
