//! What needs no server. What a real one answers is in `tests/openbao.rs`.

use std::sync::Arc;

use vaultref_contract::wire::FailureKind;

use crate::backend::kit::{get, path, vaults};
use crate::config::parse;
use crate::environment::Environment;

fn scope(config: &str) -> String {
    let yaml = format!("vaults: [{{name: hcv, config: {{token: t, {config}}}}}]");
    let vaults = vaults(&yaml, Environment::default());
    vaults
        .find("hcv")
        .expect("the vault")
        .backend()
        .expect("made")
        .scope()
        .into_owned()
}

#[test]
fn two_ways_to_one_place_have_one_scope() {
    let plain = "http://localhost:8200/v1/secret/";
    for config in [
        "",
        "mount: /secret/",
        "host: 127.0.0.1",
        "kv: v1",
        "host: \"127.1\"",
        "host: localhost",
        "host: \"::1\"",
    ] {
        assert_eq!(scope(config), plain, "{config}");
    }
    assert_eq!(scope("kv: v2"), format!("{plain}data/"));
    assert_eq!(scope("kv: v1, mount: secret/data"), scope("kv: v2"));
    assert_eq!(scope("namespace: a/b/"), scope("mount: a/b/secret"));
    assert_eq!(
        scope("host: VAULT.Internal, protocol: http, port: 80"),
        "http://vault.internal:80/v1/secret/"
    );
    assert_eq!(
        scope("host: \"fe80::1\""),
        "http://[fe80::1]:8200/v1/secret/"
    );
}

#[test]
fn fields_that_would_end_the_process_or_lead_elsewhere_are_errors() {
    for (fields, place) in [
        ("token: \"a\\nb\"", "token"),
        ("token: \" \"", "token"),
        ("token: \"ä\"", "token"),
        ("token: 7", "token"),
        ("token: t, namespace: \"a\\nb\"", "namespace"),
        ("token: t, namespace: a//b", "namespace"),
        ("token: t, mount: a/../b", "mount"),
        ("token: t, mount: \"\"", "mount"),
        ("token: t, host: \"http://x\"", "host"),
        ("token: t, host: \"x y\"", "host"),
        ("token: t, host: \"x/y\"", "host"),
        ("token: t, host: \"u@x\"", "host"),
        ("token: t, host: \"\"", "host"),
        ("token: t, host: \"x:1\"", "host"),
        ("token: t, port: 0", "port"),
        ("token: t, port: \"80\"", "port"),
        ("token: t, protocol: ftp", "protocol"),
        ("token: t, kv: 2", "kv"),
        ("token: t, kv: v3", "kv"),
        ("token: t, ca_cert: /nonexistent", "ca_cert"),
        ("token: t, ca_cert: /etc/hostname", "ca_cert"),
        ("token: t, auth_method: approle", "token"),
        ("token: t, auth_method: ldap", "auth_method"),
        ("token: t, hots: x", "hots"),
        ("token: t, allow_options: [host]", "allow_options[0]"),
    ] {
        let yaml = format!("vaults: [{{name: hcv, config: {{{fields}}}}}]");
        let error = parse(&yaml, &Arc::new(Environment::default())).expect_err(fields);
        let error = error.to_string();
        assert!(
            error.starts_with(&format!("vaults[0].config.{place}: ")),
            "{fields}: {error}"
        );
    }
}

#[test]
fn a_path_means_one_object_or_none() {
    let yaml = "vaults: [{name: hcv, config: {token: t}}]";
    let vaults = vaults(yaml, Environment::default());
    let backend = vaults
        .find("hcv")
        .expect("the vault")
        .backend()
        .expect("made");
    for good in ["a", "a/b", "..a", "a b", "%2e%2e", "ä", "a?b#c"] {
        assert_eq!(path(&*backend, good), Ok(good.to_owned()));
    }
    for bad in [
        "", "/a", "a/", "a//b", "..", "a/../b", ".", "a/./b", "a\nb", "a\u{7f}", "a\0",
    ] {
        assert_eq!(
            path(&*backend, bad),
            Err(FailureKind::InvalidReference),
            "{bad:?}"
        );
    }
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let yaml = format!("vaults: [{{name: hcv, config: {{token: t, port: {port}}}}}]");
    let vaults = vaults(&yaml, Environment::default());
    assert_eq!(
        get(vaults, "{vault://hcv/a}"),
        Err(FailureKind::Unavailable)
    );
}
