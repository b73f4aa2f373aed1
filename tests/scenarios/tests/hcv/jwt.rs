//! JWT: OpenBao's own method with a static public key, and a token endpoint that signs
//! (<https://www.rfc-editor.org/rfc/rfc6749#section-4.4>).

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vaultref_host::backend::ReadErrorKind;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao, Signer};
use vaultref_scenarios::upstream::{Received, Reply, Upstream};

use crate::vault::Vault;

const AUDIENCE: &str = "https://vault.example/a b";

/// Where a client shows its secret.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    Body,
    Header,
}

fn endpoint(signer: Signer, place: Place) -> Result<Upstream> {
    Upstream::answering(move |request| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        if !knows(request, &form, place) {
            return Reply::status(401).body(r#"{"error":"invalid_client"}"#);
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let asked_for = form.contains("audience=https%3A%2F%2Fvault.example%2Fa+b");
        let claims = json!({
            "iss": "https://idp.example",
            "sub": "edge",
            "aud": if asked_for { AUDIENCE } else { "somebody" },
            "iat": now.as_secs(),
            "exp": now.as_secs() + 300,
        });
        let token = signer.sign(&claims).expect("signed");
        let answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": 300});
        Reply::status(200).body(answer.to_string())
    })
}

fn knows(request: &Received, form: &str, place: Place) -> bool {
    let right = request.method == "POST"
        && request.path == "/oauth/token"
        && request.header("content-type").as_deref() == Some("application/x-www-form-urlencoded")
        && form.contains("grant_type=client_credentials");
    let in_body = form.contains("client_id=edge%3A1&client_secret=p%26w+%C3%A9");
    // Both parts are encoded before they are joined.
    let expected = format!("Basic {}", STANDARD.encode("edge%3A1:p%26w+%C3%A9"));
    let in_header = request.header("authorization") == Some(expected);
    right
        && match place {
            Place::Body => in_body && !in_header,
            Place::Header => in_header && !in_body,
        }
}

fn fields(endpoint: &Upstream) -> Value {
    json!({
        "auth_method": "jwt",
        "oauth2_role_name": "gateway",
        "oauth2_token_endpoint": format!("http://{}/oauth/token", endpoint.address()),
        "oauth2_client_id": "edge:1",
        "oauth2_client_secret": "p&w é",
        "oauth2_audiences": [AUDIENCE],
    })
}

#[test]
fn a_token_of_the_endpoint_opens_the_vault() -> Result<()> {
    let bao = OpenBao::start()?;
    let signer = with_method(&bao, AUDIENCE)?;
    for place in [Place::Header, Place::Body] {
        let endpoint = endpoint(signer.clone(), place)?;
        let vault = Vault::at(bao.address(), &fields(&endpoint))?;
        assert_eq!(vault.value("app"), Ok("v".to_owned()));
        assert_eq!(vault.value("app"), Ok("v".to_owned()));
        // Where the secret is wanted is found out once.
        let asked = if place == Place::Header { 2 } else { 3 };
        assert_eq!(endpoint.requests().len(), asked);
    }

    let endpoint = endpoint(signer, Place::Header)?;
    let mut wrong = fields(&endpoint);
    wrong["oauth2_client_secret"] = json!("guess");
    let error = Vault::at(bao.address(), &wrong)?
        .read("app")
        .expect_err("no such client");
    assert_eq!(error.kind, ReadErrorKind::Denied);
    assert!(
        error.cause.contains("the token endpoint answers 401"),
        "{}",
        error.cause
    );
    let mut wrong = fields(&endpoint);
    wrong["oauth2_audiences"] = json!("other, audiences");
    let error = Vault::at(bao.address(), &wrong)?
        .read("app")
        .expect_err("not for the vault");
    assert_eq!(error.kind, ReadErrorKind::Denied);
    assert!(
        error.cause.contains("the login with jwt"),
        "{}",
        error.cause
    );

    let gone = fields(&endpoint);
    drop(endpoint);
    let error = Vault::at(bao.address(), &gone)?
        .read("app")
        .expect_err("nobody there");
    assert_eq!(error.kind, ReadErrorKind::Unavailable);
    assert!(
        error.transient && error.cause.contains("the token endpoint"),
        "{}",
        error.cause
    );
    Ok(())
}

/// OpenBao has no method for Google's accounts; this one checks the same signature, audience and
/// time, and is told the same.
#[test]
fn what_a_google_service_account_signs_holds() -> Result<()> {
    let bao = OpenBao::start()?;
    let signer = with_method(&bao, "vault/gateway")?;
    let account = json!({
        "type": "service_account",
        "client_email": "edge@project.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": signer.private_key,
    });
    let mut fields = json!({
        "auth_method": "gcp_iam",
        "gcp_auth_role": "gateway",
        "gcp_login_path": "/v1/auth/jwt/login",
        "gcp_service_account": account.to_string(),
        "gcp_jwt_exp": 60,
    });
    assert_eq!(
        Vault::at(bao.address(), &fields)?.value("app"),
        Ok("v".to_owned())
    );
    fields["gcp_auth_role"] = json!("other");
    let error = Vault::at(bao.address(), &fields)?
        .read("app")
        .expect_err("another audience");
    assert_eq!(error.kind, ReadErrorKind::Denied);
    Ok(())
}

/// The method with a key, a role for this audience, and one for another; and the key.
fn with_method(bao: &OpenBao, audience: &str) -> Result<Signer> {
    bao.put(KV2_MOUNT, "app", &json!({"k": "v"}))?;
    let policy = format!("path \"{KV2_MOUNT}/data/*\" {{ capabilities = [\"read\"] }}");
    bao.put_policy("app", &policy)?;
    let signer = bao.signer()?;
    bao.enable_auth("jwt", "jwt")?;
    let keys = json!({"jwt_validation_pubkeys": [signer.public_key]});
    bao.configure("auth/jwt/config", &keys)?;
    for (role, audience) in [("gateway", audience), ("other", "somebody")] {
        let role_fields = json!({
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": [audience],
            "token_policies": ["app"],
            "token_num_uses": 1,
        });
        bao.configure(&format!("auth/jwt/role/{role}"), &role_fields)?;
    }
    Ok(signer)
}
