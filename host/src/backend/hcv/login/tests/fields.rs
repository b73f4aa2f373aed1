//! Which fields a method has, needs, and does not take.

use std::sync::Arc;

use super::super::METHODS;
use crate::config::parse;
use crate::environment::Environment;

/// What each method needs at the least.
const LEAST: [(&str, &str); 10] = [
    ("token", "token: t"),
    ("kubernetes", "kube_role: r"),
    ("approle", "approle_role_id: r, approle_secret_id: s"),
    (
        "cert",
        "protocol: https, cert_auth_cert: /c, cert_auth_cert_key: /k",
    ),
    (
        "jwt",
        "oauth2_role_name: r, oauth2_token_endpoint: \"https://idp/t\", oauth2_client_id: i, \
         oauth2_client_secret: s",
    ),
    ("gcp_iam", "gcp_auth_role: r, gcp_service_account: a@b"),
    ("gcp_gce", "gcp_auth_role: r"),
    ("azure", "azure_auth_role: r"),
    ("aws_ec2", "aws_auth_role: r"),
    ("aws_iam", "aws_auth_role: r"),
];

fn error(fields: &str) -> Option<String> {
    let yaml = format!("vaults: [{{name: hcv, prefix: payments, config: {{{fields}}}}}]");
    let parsed = parse(&yaml, &Arc::new(Environment::default()));
    parsed.err().map(|error| error.to_string())
}

#[test]
fn each_method_is_content_with_the_least_and_misses_what_it_needs() {
    for ((name, least), method) in LEAST.iter().zip(METHODS) {
        assert_eq!(*name, method.name);
        assert_eq!(error(&format!("auth_method: {name}, {least}")), None);
        for left_out in least
            .split(", ")
            .filter(|field| !field.starts_with("protocol"))
        {
            let rest: Vec<_> = least
                .split(", ")
                .filter(|field| *field != left_out)
                .collect();
            let error = error(&format!("auth_method: {name}, {}", rest.join(", ")));
            let error = error.expect(left_out);
            let field = left_out.split(':').next().expect("a name");
            assert!(error.starts_with("vaults[0].config: "), "{error}");
            assert!(error.contains(&format!("'{field}'")), "{field}: {error}");
        }
    }
    assert_eq!(error("token: t"), None, "the usual method");
}

#[test]
fn a_field_of_another_method_is_named_with_its_owner() {
    for (name, least) in LEAST {
        let own = METHODS
            .iter()
            .find(|method| method.name == name)
            .expect("it");
        for other in &METHODS {
            for field in other
                .fields
                .iter()
                .filter(|field| !own.fields.contains(field))
            {
                let error = error(&format!("auth_method: {name}, {least}, {field}: x"));
                let error = error.expect(field);
                assert!(
                    error.starts_with(&format!("vaults[0].config.{field}: ")),
                    "{error}"
                );
                assert!(
                    error.contains(other.name) && error.contains(name),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn what_is_no_such_thing_is_an_error_at_its_place() {
    let table = [
        ("auth_method: ldap", "auth_method"),
        ("auth_method: 7", "auth_method"),
        ("auth_method: kubernetes, kube_role: \" \"", "kube_role"),
        (
            "auth_method: kubernetes, kube_role: r, kube_auth_path: a/../b",
            "kube_auth_path",
        ),
        (
            "auth_method: kubernetes, kube_role: r, kube_api_token_file: 1",
            "kube_api_token_file",
        ),
        (
            "auth_method: approle, approle_role_id: r, approle_secret_id: s, approle_auth_path: \"a\\nb\"",
            "approle_auth_path",
        ),
        (
            "auth_method: approle, approle_role_id: r, approle_secret_id: s, approle_secret_id_file: f",
            "approle_secret_id_file",
        ),
        (
            "auth_method: approle, approle_role_id: r, approle_secret_id: s, approle_response_wrapping: 1",
            "approle_response_wrapping",
        ),
        (
            "auth_method: approle, approle_role_id: r, approle_secret_id: \"a\\nb\", approle_response_wrapping: true",
            "approle_secret_id",
        ),
        (
            "auth_method: cert, protocol: https, cert_auth_cert: \"-----BEGIN x\", cert_auth_cert_key: \"-----BEGIN x\"",
            "cert_auth_cert_key",
        ),
        (
            "auth_method: gcp_iam, gcp_auth_role: r, gcp_service_account: \"{}\"",
            "gcp_service_account",
        ),
        (
            "auth_method: gcp_iam, gcp_auth_role: r, gcp_service_account: a@b, gcp_jwt_exp: 901",
            "gcp_jwt_exp",
        ),
        (
            "auth_method: gcp_gce, gcp_auth_role: r, gcp_login_path: /v1//login",
            "gcp_login_path",
        ),
        (
            "auth_method: azure, azure_auth_role: r, azure_login_path: \"\"",
            "azure_login_path",
        ),
        (
            "auth_method: aws_ec2, aws_auth_role: r, aws_login_path: \"a b\"",
            "aws_login_path",
        ),
        (
            "auth_method: aws_iam, aws_auth_role: r, aws_auth_region: x.example/",
            "aws_auth_region",
        ),
        (
            "auth_method: aws_iam, aws_auth_role: r, aws_sts_endpoint_url: sts",
            "aws_sts_endpoint_url",
        ),
        (
            "auth_method: aws_iam, aws_auth_role: r, aws_access_key_id: a",
            "aws_access_key_id",
        ),
        (
            "auth_method: aws_iam, aws_auth_role: r, aws_secret_access_key: a",
            "aws_secret_access_key",
        ),
    ];
    for (fields, place) in table {
        let error = error(fields).expect(fields);
        assert!(
            error.starts_with(&format!("vaults[0].config.{place}: ")),
            "{fields}: {error}"
        );
    }
    let jwt = "auth_method: jwt, oauth2_role_name: r, oauth2_client_id: i, oauth2_client_secret: s";
    for endpoint in [
        "idp",
        "ftp://idp/t",
        "https://u:p@idp/t",
        "https://idp/t#x",
        "https://",
    ] {
        let error =
            error(&format!("{jwt}, oauth2_token_endpoint: \"{endpoint}\"")).expect(endpoint);
        assert!(
            error.starts_with("vaults[0].config.oauth2_token_endpoint: "),
            "{error}"
        );
        assert!(!error.contains("u:p"), "{error}");
    }
    let plain = error("auth_method: cert, cert_auth_cert: /c, cert_auth_cert_key: /k");
    assert!(plain.expect("no TLS").contains("protocol https"));
}

#[test]
fn a_field_may_come_from_another_vault() {
    let config =
        "auth_method: approle, approle_role_id: r, approle_secret_id: \"{vault://env/sid}\"";
    assert_eq!(error(config), None);
    let config = "auth_method: cert, protocol: https, cert_auth_cert: \"{vault://env/c}\", \
         cert_auth_cert_key: \"{vault://env/k}\"";
    assert_eq!(error(config), None);
    let config =
        "auth_method: gcp_iam, gcp_auth_role: r, gcp_service_account: \"{vault://env/sa}\"";
    assert_eq!(error(config), None);
    let wrong = "auth_method: approle, approle_secret_id: \"{vault://env/sid}\"";
    assert!(
        error(wrong)
            .expect("no role id")
            .contains("approle_role_id")
    );
}
