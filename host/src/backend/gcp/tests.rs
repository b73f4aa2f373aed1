//! What needs no server. What servers answer is in the conformance tests.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vaultref_contract::wire::FailureKind;

use crate::backend::kit::{path, vaults};
use crate::backend::{Asked, ReadErrorKind};
use crate::config::parse;
use crate::environment::Environment;

/// The error of a vault's configuration.
fn error(fields: &str, environment: Environment) -> String {
    let yaml = format!("vaults: [{{name: gcp, config: {{{fields}}}}}]");
    let parsed = parse(&yaml, &Arc::new(environment));
    parsed.expect_err(fields).to_string()
}

/// One for all, since it takes a while to make.
fn key() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der: Pkcs8V1Der<'_> = key.as_der().expect("PKCS #8");
        let text = STANDARD.encode(der.as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    })
}

fn account() -> Value {
    json!({
        "type": "service_account", "project_id": "p", "private_key_id": "k",
        "private_key": key(), "client_email": "a@p.iam.gserviceaccount.com",
    })
}

fn scope(fields: &str) -> String {
    let yaml = format!("vaults: [{{name: gcp, config: {{project_id: p-1, {fields}}}}}]");
    let vaults = vaults(&yaml, Environment::default());
    let vault = vaults.find("gcp").expect("the vault");
    vault.backend().expect("made").scope().into_owned()
}

#[test]
fn policies_see_the_project_and_not_the_way_to_it() {
    for fields in [
        "",
        "endpoint_url: \"http://127.0.0.1:1\"",
        "endpoint_url: \"https://secretmanager-x.p.googleapis.com/\"",
    ] {
        assert_eq!(scope(fields), "projects/p-1/secrets/", "{fields}");
    }
    assert_eq!(
        scope("location: europe-west1"),
        "projects/p-1/locations/europe-west1/secrets/"
    );
}

#[test]
fn fields_that_mean_nothing_or_something_else_are_errors() {
    for (fields, place) in [
        ("ttl: 5", ": the field 'project_id' is missing"),
        ("project_id: \"\"", ".project_id"),
        ("project_id: 1234567890", ".project_id"),
        (
            "project_id: \"1234567890\"",
            ".project_id: must be the project's id",
        ),
        ("project_id: \"a/b\"", ".project_id"),
        ("project_id: \"a%2fb\"", ".project_id"),
        ("project_id: \"..\"", ".project_id"),
        ("project_id: A", ".project_id"),
        ("project_id: p, location: \"\"", ".location"),
        ("project_id: p, location: \"a.b\"", ".location"),
        ("project_id: p, location: \"a/b\"", ".location"),
        ("project_id: p, location: \"xn--\"", ".location"),
        ("project_id: p, location: \"-a\"", ".location"),
        ("project_id: p, endpoint_url: x", ".endpoint_url"),
        (
            "project_id: p, endpoint_url: \"https://u:p@x\"",
            ".endpoint_url",
        ),
        ("project_id: p, ca_cert: /nonexistent", ".ca_cert"),
        ("project_id: p, region: x", ".region: unknown field"),
        (
            "project_id: p, allow_options: [project_id]",
            ".allow_options[0]",
        ),
    ] {
        let error = error(fields, Environment::default());
        let start = format!("vaults[0].config{place}");
        assert!(error.starts_with(&start), "{fields}: {error}");
    }
}

#[test]
fn a_name_is_one_object_or_none() {
    let yaml = "vaults: [{name: gcp, config: {project_id: p}}]";
    let vaults = vaults(yaml, Environment::default());
    let vault = vaults.find("gcp").expect("the vault");
    let backend = vault.backend().expect("made");
    let longest = "a".repeat(255);
    for good in ["a", "A_b-9", "-", &longest] {
        assert_eq!(path(&*backend, good), Ok(good.to_owned()));
    }
    let too_long = "a".repeat(256);
    for bad in [
        "",
        "a/b",
        "..",
        "a.b",
        "a b",
        "a%2fb",
        "%2e%2e",
        "a:access",
        "ä",
        "a\n",
        "a?",
        "a#",
        "projects/p/secrets/a",
        &too_long,
    ] {
        let invalid = Err(FailureKind::InvalidReference);
        assert_eq!(path(&*backend, bad), invalid, "{bad:?}");
    }
    let version = |version| {
        let asked = Asked {
            version: Some(version),
            ..Asked::current("a")
        };
        backend.object(&asked).map(|object| object.version)
    };
    assert_eq!(version(1), Ok(Some(1)));
    assert_eq!(version(i64::MAX as u64), Ok(Some(i64::MAX as u64)));
    for none in [0, i64::MAX as u64 + 1, u64::MAX] {
        assert_eq!(
            version(none).map_err(|error| error.kind),
            Err(ReadErrorKind::NotFound)
        );
    }
}

#[test]
fn credentials_that_are_none_are_errors_that_show_nothing() {
    const MARK: &str = "hunter2";
    let without = |field: &str| {
        let mut account = account();
        account[field] = Value::Null;
        account.to_string()
    };
    let with = |field: &str, value: Value| {
        let mut account = account();
        account[field] = value;
        account.to_string()
    };
    let external = |source: &Value| {
        json!({ "type": "external_account", "audience": "a", "subject_token_type": "t",
            "token_url": "https://sts.example/token", "credential_source": source })
        .to_string()
    };
    let cut = MARK.to_owned() + "{";
    for (text, problem) in [
        (cut, "is not JSON"),
        (format!("\"{MARK}\""), "must be a JSON object"),
        (without("type"), "'type' is missing"),
        (
            with("type", json!(MARK)),
            "'type' is of a kind that is not supported",
        ),
        (with("type", json!(7)), "'type' must be text"),
        (without("client_email"), "'client_email' is missing"),
        (without("private_key_id"), "'private_key_id' is missing"),
        (without("private_key"), "'private_key' is missing"),
        (
            with("private_key", json!(MARK)),
            "'private_key' must be an RSA key",
        ),
        (
            with("private_key", json!(key().replace("MII", "hunter2"))),
            "'private_key' must be an RSA key",
        ),
        (
            with("quota_project_id", json!("a\nhunter2")),
            "'quota_project_id' is no project",
        ),
        (external(&Value::Null), "'credential_source' is missing"),
        (external(&json!({})), "credential_source: 'file' is missing"),
        (
            external(&json!({ "url": "ftp://hunter2" })),
            "credential_source: 'url' must be",
        ),
        (
            external(&json!({ "url": "http://u:hunter2@x/" })),
            "credential_source: 'url' must be",
        ),
        (
            external(&json!({ "url": "http://x", "headers": { "a": "hunter2\n" } })),
            "credential_source: 'headers' must be",
        ),
        (
            external(&json!({ "file": "f", "format": { "type": MARK } })),
            "format: 'type' must be",
        ),
        (
            json!({ "type": "authorized_user", "client_id": "a", "client_secret": MARK })
                .to_string(),
            "'refresh_token' is missing",
        ),
        (
            json!({ "type": "impersonated_service_account" }).to_string(),
            "'source_credentials' is missing",
        ),
    ] {
        let environment = Environment::from([("GCP_SERVICE_ACCOUNT", text.as_str())]);
        let error = error("project_id: p", environment);
        assert!(error.starts_with("GCP_SERVICE_ACCOUNT"), "{error}");
        assert!(error.contains(problem), "{problem}: {error}");
        assert!(!error.contains(MARK), "{error}");
    }
}

#[test]
fn a_file_of_credentials_is_named_in_its_errors() {
    let file = |file: &str| Environment::from([("GOOGLE_APPLICATION_CREDENTIALS", file)]);
    let told = error("project_id: p", file("/nonexistent/key.json"));
    let place = "GOOGLE_APPLICATION_CREDENTIALS: ";
    assert!(
        told.starts_with(&format!("{place}/nonexistent/key.json cannot be read")),
        "{told}"
    );
    let told = error("project_id: p", file("/etc/hostname"));
    assert_eq!(told, format!("{place}is not JSON"));
    let host = Environment::from([("GCE_METADATA_HOST", "http://x/")]);
    let told = error("project_id: p", host);
    assert!(told.starts_with("GCE_METADATA_HOST: "), "{told}");
}

#[test]
fn what_stands_in_no_variable_is_no_error_before_it_is_needed() {
    // Elsewhere than on Google's machines that is found out when a secret is read.
    let environment = Environment::from([("HOME", "/nonexistent"), ("GCP_SERVICE_ACCOUNT", "")]);
    let vaults = vaults(
        "vaults: [{name: gcp, config: {project_id: p}}]",
        environment,
    );
    assert!(vaults.find("gcp").expect("the vault").backend().is_ok());
}
