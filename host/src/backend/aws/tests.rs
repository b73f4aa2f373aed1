//! What needs no server. What real ones answer is in `tests/scenarios/tests/aws`.

use std::sync::Arc;

use vaultref_contract::wire::FailureKind;

use super::*;
use crate::backend::kit::{path, vaults};
use crate::config::parse;

const ROLE: &str = "arn:aws:iam::111122223333:role/reader";

fn backend(config: &str, environment: Environment) -> Arc<dyn Backend> {
    let yaml = format!("vaults: [{{name: aws, config: {{{config}}}}}]");
    let vaults = vaults(&yaml, environment);
    let vault = vaults.find("aws").expect("the vault");
    vault.backend().expect("made")
}

fn scope(config: &str) -> String {
    backend(config, Environment::default()).scope().into_owned()
}

#[test]
fn two_ways_to_one_region_have_one_scope() {
    let own = "eu-west-1/";
    for config in [
        "region: eu-west-1",
        "region: eu-west-1, endpoint_url: \"https://secretsmanager.eu-west-1.amazonaws.com\"",
        "region: eu-west-1, endpoint_url: \"https://SecretsManager-FIPS.eu-west-1.amazonaws.com./\"",
        "region: eu-west-1, endpoint_url: \"https://vpce-1.secretsmanager.eu-west-1.vpce.amazonaws.com\"",
        "region: eu-west-1, endpoint_url: \"https://secretsmanager.eu-west-1.api.aws\"",
        &format!("region: eu-west-1, assume_role_arn: \"{ROLE}\""),
    ] {
        assert_eq!(scope(config), own, "{config}");
    }
    assert_eq!(scope("region: us-east-1"), "us-east-1/");
    let here = "eu-west-1 at http://localhost:4566/";
    for url in [
        "http://127.0.0.1:4566",
        "http://LOCALHOST:4566/",
        "http://[::1]:4566",
    ] {
        let config = format!("region: eu-west-1, endpoint_url: \"{url}\"");
        assert_eq!(scope(&config), here);
    }
    assert_eq!(
        scope("region: eu-west-1, endpoint_url: \"https://amazonaws.com.example/aws/\""),
        "eu-west-1 at https://amazonaws.com.example:443/aws/"
    );
}

#[test]
fn region_and_endpoint_come_from_the_environment_that_is_handed_in() {
    let scope = |variables: &[(&str, &str)], config: &str| {
        let variables = variables.iter();
        let environment =
            Environment::new(variables.map(|(name, value)| (name.into(), value.into())));
        backend(config, environment).scope().into_owned()
    };
    let region = ("AWS_REGION", "eu-west-1");
    let default = ("AWS_DEFAULT_REGION", "us-east-1");
    assert_eq!(scope(&[default], ""), "us-east-1/");
    assert_eq!(scope(&[default, region], ""), "eu-west-1/");
    assert_eq!(scope(&[default, ("AWS_REGION", "")], ""), "us-east-1/");
    assert_eq!(scope(&[region], "region: us-west-2"), "us-west-2/");
    let all = ("AWS_ENDPOINT_URL", "http://all.example");
    let own = ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://own.example");
    assert_eq!(
        scope(&[region, all], ""),
        "eu-west-1 at http://all.example:80/"
    );
    assert_eq!(
        scope(&[region, all, own], ""),
        "eu-west-1 at http://own.example:80/"
    );
    assert_eq!(
        scope(&[region, own], "endpoint_url: \"http://field.example\""),
        "eu-west-1 at http://field.example:80/"
    );
}

#[test]
fn a_wrong_field_is_named_and_not_repeated() {
    for (fields, place) in [
        ("region: eu-west-1/hunter2", "region"),
        ("region: hunter2.example", "region"),
        ("region: \"-hunter2\"", "region"),
        ("region: \"\"", "region"),
        ("region: 7", "region"),
        ("region: r, endpoint_url: hunter2", "endpoint_url"),
        ("region: r, endpoint_url: \"ftp://hunter2\"", "endpoint_url"),
        (
            "region: r, endpoint_url: \"http://a:hunter2@x\"",
            "endpoint_url",
        ),
        (
            "region: r, endpoint_url: \"http://x/?hunter2\"",
            "endpoint_url",
        ),
        (
            "region: r, sts_endpoint_url: \"http://x/#hunter2\"",
            "sts_endpoint_url",
        ),
        ("region: r, assume_role_arn: hunter2", "assume_role_arn"),
        (
            "region: r, assume_role_arn: \"arn:aws:iam::1:role/hunter2\"",
            "assume_role_arn",
        ),
        (
            "region: r, assume_role_arn: \"arn:aws:iam::111122223333:user/hunter2\"",
            "assume_role_arn",
        ),
        (
            "region: r, role_session_name: \"hunter2 \"",
            "role_session_name",
        ),
        ("region: r, role_session_name: x", "role_session_name"),
        ("region: r, ca_cert: /nonexistent", "ca_cert"),
        ("region: r, access_key_id: hunter2", "access_key_id"),
        ("region: r, allow_options: [region]", "allow_options[0]"),
    ] {
        let yaml = format!("vaults: [{{name: aws, config: {{{fields}}}}}]");
        let error = parse(&yaml, &Arc::new(Environment::default())).expect_err(fields);
        let error = error.to_string();
        assert!(
            error.starts_with(&format!("vaults[0].config.{place}: ")),
            "{fields}: {error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    let yaml = "vaults: [{name: aws}]";
    let error = parse(yaml, &Arc::new(Environment::default())).expect_err("no region");
    assert!(error.to_string().contains("'region' is missing"), "{error}");
    for variable in ["AWS_REGION", "AWS_ENDPOINT_URL"] {
        let environment = Environment::from([("AWS_REGION", "r"), (variable, "hun/ter2")]);
        let error = parse(yaml, &Arc::new(environment)).expect_err(variable);
        assert!(error.to_string().starts_with(variable), "{error}");
        assert!(!error.to_string().contains("hun"), "{error}");
    }
}

#[test]
fn fields_may_be_references() {
    let yaml = "vaults: [{name: aws, config: {region: \"{vault://env/region}\",
        endpoint_url: \"{vault://env/url}\", assume_role_arn: \"{vault://env/role}\",
        sts_endpoint_url: \"{vault://env/url}\", role_session_name: \"{vault://env/name}\"}}]";
    assert!(parse(yaml, &Arc::new(Environment::default())).is_ok());
}

#[test]
fn an_arn_is_its_name_where_the_account_is_known() {
    let vault = backend(
        &format!("region: eu-west-1, assume_role_arn: \"{ROLE}\""),
        Environment::default(),
    );
    let object = |resource: &str, version| {
        vault.object(&Asked {
            version,
            ..Asked::current(resource)
        })
    };
    let arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:a/b-AbC123";
    for (version, stage) in [(None, None), (Some(1), None), (Some(2), Some(2))] {
        let named = object("a/b", version).expect("an object");
        assert_eq!((named.path.as_str(), named.version), ("a/b", stage));
        assert_eq!(object(arn, version), Ok(named));
    }
    assert_eq!(
        object("a/b", Some(3)).map_err(|error| error.kind),
        Err(ReadErrorKind::NotFound)
    );
    let denied = Err(FailureKind::Denied);
    let other_account = "arn:aws:secretsmanager:eu-west-1:444455556666:secret:a/b-AbC123";
    let other_region = "arn:aws:secretsmanager:us-east-1:111122223333:secret:a/b-AbC123";
    assert_eq!(path(&*vault, other_account), denied);
    assert_eq!(path(&*vault, other_region), denied);
    assert_eq!(path(&*vault, "a b"), Err(FailureKind::InvalidReference));
}

#[test]
fn until_it_is_known_an_arn_has_an_entry_of_its_own() {
    let vault = backend("region: eu-west-1", Environment::default());
    let object = |resource: &str| vault.object(&Asked::current(resource)).expect("an object");
    let arn = |account| format!("arn:aws:secretsmanager:eu-west-1:{account}:secret:a/b-AbC123");
    let one = object(&arn("111122223333"));
    let other = object(&arn("444455556666"));
    let named = object("a/b");
    // The name that policy looks at is one.
    assert_eq!((&one.path, &one.scope), (&named.path, &named.scope));
    assert_ne!(one, named);
    assert_ne!(one, other);
}
