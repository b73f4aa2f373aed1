//! What needs no server. What a server answers is in the conformance tests.

use std::sync::Arc;

use vaultref_contract::wire::FailureKind;

use crate::backend::kit::{path, vaults};
use crate::backend::{Asked, ReadErrorKind};
use crate::config::parse;
use crate::environment::Environment;

const WHO: &str = "account: myorg, login: host/gateway, api_key: hunter2";

fn scope(fields: &str) -> String {
    let yaml = format!("vaults: [{{name: conjur, config: {{{fields}}}}}]");
    let vaults = vaults(&yaml, Environment::default());
    let vault = vaults.find("conjur").expect("the vault");
    vault.backend().expect("made").scope().into_owned()
}

#[test]
fn one_account_of_one_server_is_one_scope() {
    let expected = "http://localhost:80/api/secrets/myorg/variable/";
    for address in [
        "http://localhost/api",
        "http://127.0.0.1:80/api/",
        "http://LOCALHOST/x/../api",
    ] {
        let fields = format!("endpoint_url: \"{address}\", {WHO}");
        assert_eq!(scope(&fields), expected);
        // Whoever asks.
        let other = fields.replace("host/gateway", "alice");
        assert_eq!(scope(&other), expected);
    }
    let other =
        scope(&format!("endpoint_url: \"http://localhost/api\", {WHO}").replace("myorg", "x"));
    assert_eq!(other, "http://localhost:80/api/secrets/x/variable/");
}

#[test]
fn fields_that_are_missing_or_mean_nothing_are_errors() {
    let url = "endpoint_url: \"http://x\"";
    for (fields, place) in [
        (WHO.to_owned(), ": the field 'endpoint_url' is missing"),
        (url.to_owned(), ": the field 'account' is missing"),
        (
            format!("{url}, account: a"),
            ": the field 'login' is missing",
        ),
        (
            format!("{url}, account: a, login: b"),
            ": the field 'api_key' is missing",
        ),
        (
            format!("{url}, account: \"a:b\", login: b, api_key: c"),
            ".account",
        ),
        (
            format!("{url}, account: \"a,b\", login: b, api_key: c"),
            ".account",
        ),
        (
            format!("{url}, account: \"..\", login: b, api_key: c"),
            ".account",
        ),
        (
            format!("{url}, account: \"\", login: b, api_key: c"),
            ".account",
        ),
        (
            format!("{url}, account: a, login: \"\", api_key: c"),
            ".login",
        ),
        (
            format!("{url}, account: a, login: \"..\", api_key: c"),
            ".login",
        ),
        (
            format!("{url}, account: a, login: \"b\\nc\", api_key: c"),
            ".login",
        ),
        (
            format!("{url}, account: a, login: b, api_key: \" \""),
            ".api_key",
        ),
        (
            format!("{url}, account: a, login: b, api_key: 7"),
            ".api_key",
        ),
        (format!("endpoint_url: \"x y\", {WHO}"), ".endpoint_url"),
        (
            format!("endpoint_url: \"http://u:hunter2@x\", {WHO}"),
            ".endpoint_url",
        ),
        (format!("{url}, {WHO}, auth_method: jwt"), ".auth_method"),
        (format!("{url}, {WHO}, ca_cert: /nonexistent"), ".ca_cert"),
        (
            format!("{url}, {WHO}, service_id: x"),
            ".service_id: unknown field",
        ),
    ] {
        let yaml = format!("vaults: [{{name: conjur, config: {{{fields}}}}}]");
        let error = parse(&yaml, &Arc::new(Environment::default())).expect_err(&fields);
        let error = error.to_string();
        let start = format!("vaults[0].config{place}");
        assert!(error.starts_with(&start), "{fields}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn an_id_means_one_variable_or_none() {
    let yaml = format!("vaults: [{{name: conjur, config: {{endpoint_url: \"http://x\", {WHO}}}}}]");
    let vaults = vaults(&yaml, Environment::default());
    let vault = vaults.find("conjur").expect("the vault");
    let backend = vault.backend().expect("made");
    for good in [
        "a",
        "prod/db/password",
        "a:b",
        "a b",
        "%2e%2e",
        "a?version=1",
        "ключ",
        "a,b",
    ] {
        assert_eq!(path(&*backend, good), Ok(good.to_owned()));
    }
    for bad in [
        "", "/a", "a/", "a//b", "..", "a/../b", ".", "./a", "a\nb", "a\0", "\u{7f}",
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
    for none in [0, 1 << 31, u64::MAX] {
        assert_eq!(
            version(none).map_err(|error| error.kind),
            Err(ReadErrorKind::NotFound)
        );
    }
}
