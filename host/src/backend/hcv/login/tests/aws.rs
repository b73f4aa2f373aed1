//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>,
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/verify-pkcs7.html> and
//! <https://developer.hashicorp.com/vault/api-docs/auth/aws#login>.

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fake::{Fake, read};
use crate::backend::ReadErrorKind;
use crate::environment::Environment;

const SESSION: &str = "/latest/api/token";
const DOCUMENT: &str = "/latest/dynamic/instance-identity/pkcs7";
const LOGIN: &str = "/v1/auth/aws/login";

#[tokio::test]
async fn ec2_shows_the_instances_document_and_the_nonce() {
    let fake = Fake::start(&[
        (SESSION, 200, "session"),
        (DOCUMENT, 200, "MIAG\nCSqG\nAAAA"),
    ])
    .await;
    let config = "auth_method: aws_ec2, aws_auth_role: gateway, aws_auth_nonce: mine";
    fake.read(config).await.expect("a secret");
    let session = fake.seen(SESSION).pop().expect("asked");
    assert_eq!(session.method, Method::PUT);
    assert_eq!(session.header("x-aws-ec2-metadata-token-ttl-seconds"), "60");
    let document = fake.seen(DOCUMENT).pop().expect("asked");
    assert_eq!(document.header("x-aws-ec2-metadata-token"), "session");
    assert_eq!(
        fake.shown(LOGIN),
        json!({"role": "gateway", "pkcs7": "MIAGCSqGAAAA", "nonce": "mine"})
    );
}

#[tokio::test]
async fn ec2_keeps_the_nonce_that_the_server_makes_up() {
    let fake = Fake::start(&[(SESSION, 200, "session"), (DOCUMENT, 200, "MIAG")]).await;
    let config = "auth_method: aws_ec2, aws_auth_role: gateway";
    let engine = fake.engine(config, Environment::default());
    read(&engine).await.expect("a secret");
    assert_eq!(
        fake.shown(LOGIN),
        json!({"role": "gateway", "pkcs7": "MIAG"})
    );
    read(&engine).await.expect("a secret");
    assert_eq!(fake.seen(LOGIN).len(), 2, "the first token is used up");
    assert_eq!(fake.shown(LOGIN)["nonce"], "of-the-server");
}

#[tokio::test]
async fn ec2_without_its_metadata_has_nothing_to_show() {
    let config = "auth_method: aws_ec2, aws_auth_role: gateway";
    let fake = Fake::start(&[(SESSION, 403, "")]).await;
    let error = fake.read(config).await.expect_err("no session");
    assert_eq!(error.kind, ReadErrorKind::Denied);
    let fake = Fake::start(&[(SESSION, 200, "session"), (DOCUMENT, 503, "")]).await;
    let error = fake.read(config).await.expect_err("no document");
    assert_eq!(error.kind, ReadErrorKind::Unavailable);
    assert!(error.transient);
}

const IAM: &str = "auth_method: aws_iam, aws_auth_role: gateway";
const KEYS: &str = "aws_access_key_id: AKIDEXAMPLE, \
     aws_secret_access_key: wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The signatures are those of botocore 1.44.8 for the same call, keys and time.
#[tokio::test]
async fn iam_shows_a_call_signed_as_amazons_own_client_signs_it() {
    let session = [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        (
            "AWS_SECRET_ACCESS_KEY",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        ),
        ("AWS_SESSION_TOKEN", "the-session"),
        ("AWS_REGION", "eu-central-1"),
    ];
    for (config, environment, url, scope, signed, signature) in [
        (
            format!("{IAM}, {KEYS}"),
            Environment::default(),
            "https://sts.amazonaws.com/",
            "us-east-1",
            "content-type;host;x-amz-date",
            "85e25a910264905173d43a5df56f4c3fdec0765bbdc1833a3fcc0fc2d7d63fe5",
        ),
        (
            IAM.to_owned(),
            Environment::from(session),
            "https://sts.eu-central-1.amazonaws.com/",
            "eu-central-1",
            "content-type;host;x-amz-date;x-amz-security-token",
            "c8a517fda6ab90ffa9bf14d9ed29e9f330a086d5ed95c40e3e2248c864232e68",
        ),
    ] {
        let fake = Fake::start(&[]).await;
        read(&fake.engine(&config, environment))
            .await
            .expect("a secret");
        let shown = fake.shown(LOGIN);
        assert_eq!(shown["role"], "gateway");
        assert_eq!(shown["iam_http_request_method"], "POST");
        assert_eq!(decoded(&shown["iam_request_url"]), url);
        assert_eq!(
            decoded(&shown["iam_request_body"]),
            "Action=GetCallerIdentity&Version=2011-06-15"
        );
        let headers = decoded(&shown["iam_request_headers"]);
        let headers: Value = serde_json::from_str(&headers).expect("JSON");
        let header = |name: &str| headers[name][0].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            header("content-type"),
            "application/x-www-form-urlencoded; charset=utf-8"
        );
        assert_eq!(header("x-amz-date"), "20270115T080000Z");
        let has_session = signed.contains("security-token");
        assert_eq!(
            header("x-amz-security-token"),
            if has_session { "the-session" } else { "" }
        );
        assert_eq!(
            header("authorization"),
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20270115/{scope}/sts/aws4_request, \
                 SignedHeaders={signed}, Signature={signature}"
            )
        );
        assert!(!headers.to_string().contains("wJalr"), "the key stays here");
    }
}

#[tokio::test]
async fn iam_signs_for_the_endpoint_that_is_given_and_in_its_region() {
    for (fields, url, scope) in [
        (
            "aws_auth_region: cn-north-1",
            "https://sts.cn-north-1.amazonaws.com.cn/",
            "cn-north-1",
        ),
        (
            "aws_auth_region: us-east-1",
            "https://sts.amazonaws.com/",
            "us-east-1",
        ),
        (
            "aws_auth_region: eu-west-1, aws_sts_endpoint_url: \"https://vpce-1.sts.example\"",
            "https://vpce-1.sts.example/",
            "eu-west-1",
        ),
    ] {
        let fake = Fake::start(&[]).await;
        fake.read(&format!("{IAM}, {KEYS}, {fields}"))
            .await
            .expect("a secret");
        let shown = fake.shown(LOGIN);
        assert_eq!(decoded(&shown["iam_request_url"]), url);
        let headers = decoded(&shown["iam_request_headers"]);
        assert!(
            headers.contains(&format!("/{scope}/sts/aws4_request")),
            "{headers}"
        );
    }
}

fn decoded(value: &Value) -> String {
    let bytes = STANDARD
        .decode(value.as_str().expect("text"))
        .expect("base64");
    String::from_utf8(bytes).expect("text")
}
