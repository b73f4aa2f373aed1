//! <https://cloud.google.com/compute/docs/instances/verifying-instance-identity>,
//! <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signJwt> and
//! <https://developer.hashicorp.com/vault/docs/auth/gcp#generating-jwts>.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::fake::{Fake, NOW, read};
use crate::backend::ReadErrorKind;
use crate::environment::Environment;

const IDENTITY: &str = "/computeMetadata/v1/instance/service-accounts/default/identity";
const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const SIGN: &str = "/v1/projects/-/serviceAccounts/edge@p.iam.gserviceaccount.com:signJwt";
const LOGIN: &str = "/v1/auth/gcp/login";

const EMAIL: &str = "edge@p.iam.gserviceaccount.com";
const IAM: &str = "auth_method: gcp_iam, gcp_auth_role: gateway";

/// A service account's key file, and the key to check what it signs.
fn account(email: &str) -> (String, Vec<u8>) {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("its encoding");
    let key = STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
    let file = json!({
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "key-1",
        "private_key": pem,
        "client_email": email,
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    (file.to_string(), pair.public_key().as_ref().to_vec())
}

/// The claims of a token whose signature is right.
fn claims(token: &str, public_key: &[u8]) -> Value {
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key)
        .verify(signed.as_bytes(), &signature)
        .expect("the key's signature");
    let (header, claims) = signed.split_once('.').expect("claims");
    let part = |text: &str| -> Value {
        let bytes = URL_SAFE_NO_PAD.decode(text).expect("base64");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    assert_eq!(
        part(header),
        json!({"alg": "RS256", "typ": "JWT", "kid": "key-1"})
    );
    part(claims)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

#[tokio::test]
async fn a_machine_shows_its_identity_token() {
    let fake = Fake::start(&[(IDENTITY, 200, "the.identity.token\n")]).await;
    let config = "auth_method: gcp_gce, gcp_auth_role: gateway";
    fake.read(config).await.expect("a secret");
    let asked = fake.seen(IDENTITY).pop().expect("asked");
    assert_eq!(
        asked.path,
        format!("{IDENTITY}?audience=vault%2Fgateway&format=full")
    );
    assert_eq!(asked.header("metadata-flavor"), "Google");
    let shown = json!({"role": "gateway", "jwt": "the.identity.token"});
    assert_eq!(fake.shown(LOGIN), shown);

    let elsewhere = format!("{config}, gcp_login_path: /v1/auth/clouds/g/login");
    fake.read(&elsewhere).await.expect("a secret");
    assert_eq!(fake.shown("/v1/auth/clouds/g/login"), shown);
}

#[tokio::test]
async fn a_key_signs_here() {
    let (file, public_key) = account(EMAIL);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key.json");
    std::fs::write(&path, &file).expect("written");
    for (given, exp, seconds) in [
        (json!(file), "", 900),
        (json!(file), ", gcp_jwt_exp: 60", 60),
        (json!(file), ", gcp_jwt_exp: 0", 900),
        (json!(path), "", 900),
    ] {
        let fake = Fake::start(&[]).await;
        let config = format!("{IAM}, gcp_service_account: {given}{exp}");
        fake.read(&config).await.expect("a secret");
        let shown = fake.shown(LOGIN);
        assert_eq!(shown["role"], "gateway");
        let expected = json!({"aud": "vault/gateway", "sub": EMAIL, "exp": NOW + seconds});
        assert_eq!(claims(text(&shown["jwt"]), &public_key), expected);
    }
    // The environment's key, if it is that account's.
    let fake = Fake::start(&[]).await;
    let environment = Environment::from([("GCP_SERVICE_ACCOUNT", file.as_str())]);
    let config = format!("{IAM}, gcp_service_account: {EMAIL}");
    read(&fake.engine(&config, environment))
        .await
        .expect("a secret");
    assert_eq!(
        claims(text(&fake.shown(LOGIN)["jwt"]), &public_key)["sub"],
        EMAIL
    );
}

#[tokio::test]
async fn google_signs_for_an_account_whose_key_is_not_here() {
    let signed = r#"{"keyId":"k","signedJwt":"the.signed.jwt"}"#;
    let token = r#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#;
    let fake = Fake::start(&[(TOKEN, 200, token), (SIGN, 200, signed)]).await;
    let config = format!("{IAM}, gcp_service_account: {EMAIL}");
    fake.read(&config).await.expect("a secret");
    assert_eq!(
        fake.seen(TOKEN)
            .pop()
            .expect("asked")
            .header("metadata-flavor"),
        "Google"
    );
    let asked = fake.seen(SIGN).pop().expect("asked");
    assert_eq!(asked.header("authorization"), "Bearer ya29.x");
    let payload: Value = serde_json::from_str(text(&asked.json()["payload"])).expect("JSON");
    let expected = json!({"aud": "vault/gateway", "sub": EMAIL, "exp": NOW + 900});
    assert_eq!(payload, expected);
    assert_eq!(
        fake.shown(LOGIN),
        json!({"role": "gateway", "jwt": "the.signed.jwt"})
    );

    // Another account's key asks for it with its own signature.
    let (file, public_key) = account("other@p.iam.gserviceaccount.com");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key.json");
    std::fs::write(&path, &file).expect("written");
    let path = path.display().to_string();
    for (name, value) in [
        ("GCP_SERVICE_ACCOUNT", file.as_str()),
        ("GOOGLE_APPLICATION_CREDENTIALS", path.as_str()),
    ] {
        let fake = Fake::start(&[(SIGN, 200, signed)]).await;
        let engine = fake.engine(&config, Environment::from([(name, value)]));
        read(&engine).await.expect("a secret");
        let asked = fake.seen(SIGN).pop().expect("asked");
        let bearer = asked.header("authorization").strip_prefix("Bearer ");
        let expected = json!({
            "iss": "other@p.iam.gserviceaccount.com",
            "sub": "other@p.iam.gserviceaccount.com",
            "aud": "https://iamcredentials.googleapis.com/",
            "iat": NOW,
            "exp": NOW + 3600,
        });
        assert_eq!(claims(bearer.expect("a bearer"), &public_key), expected);
        assert_eq!(fake.shown(LOGIN)["jwt"], "the.signed.jwt");
    }
}

#[tokio::test]
async fn who_may_not_sign_is_denied() {
    let token = r#"{"access_token":"ya29.x"}"#;
    let config = format!("{IAM}, gcp_service_account: {EMAIL}");
    for (status, kind) in [
        (403, ReadErrorKind::Denied),
        (503, ReadErrorKind::Unavailable),
    ] {
        let refused = r#"{"error":{"message":"hunter2"}}"#;
        let fake = Fake::start(&[(TOKEN, 200, token), (SIGN, status, refused)]).await;
        let error = fake.read(&config).await.expect_err("not signed");
        assert_eq!(error.kind, kind);
        assert!(error.cause.contains("IAM Credentials"), "{}", error.cause);
        assert!(!error.cause.contains("hunter2"), "{}", error.cause);
    }
    let missing = format!("{IAM}, gcp_service_account: /nonexistent/key.json");
    let error = Fake::start(&[])
        .await
        .read(&missing)
        .await
        .expect_err("no file");
    assert_eq!(error.kind, ReadErrorKind::Unavailable);
}
