//! What is Conjur's own: its login, and several variables in one call.

use anyhow::Result;
use serde_json::json;
use vaultref_contract::wire::FailureKind;
use vaultref_scenarios::conjur::Conjur;
use vaultref_scenarios::upstream::{Reply, Upstream};

use crate::vault::{Got, Vault, fields};

fn vault(conjur: &Conjur) -> Vault {
    let mut config = conjur.vault_config();
    config["ttl"] = json!(1);
    config["neg_ttl"] = json!(1);
    Vault::new("conjur", fields(config))
}

fn value(text: &str) -> Got {
    Ok(text.as_bytes().to_vec())
}

#[test]
fn a_token_serves_many_reads_and_is_renewed_before_it_ends() -> Result<()> {
    let conjur = Conjur::start()?;
    conjur.put("a", b"one");
    let vault = vault(&conjur);
    assert_eq!(vault.get("a"), value("one"));
    vault.pass(300);
    assert_eq!(vault.get("a"), value("one"));
    assert_eq!(conjur.logins(), 1);
    vault.pass(30);
    assert_eq!(vault.get("a"), value("one"));
    assert_eq!(conjur.logins(), 2, "after two thirds of eight minutes");
    Ok(())
}

#[test]
fn a_token_that_is_not_taken_any_more_leads_to_one_new_login() -> Result<()> {
    let conjur = Conjur::start()?;
    conjur.put("a", b"one");
    conjur.put("b", b"two");
    let vault = vault(&conjur);
    assert_eq!(vault.get("a"), value("one"));
    conjur.revoke_tokens();
    vault.pass(10);
    assert_eq!(vault.get_all(&["a", "b"]), [value("one"), value("two")]);
    assert_eq!(conjur.logins(), 2);
    // The key is another by now: no value may outlive that.
    conjur.revoke_tokens();
    conjur.change_api_key("changed");
    vault.pass(10);
    assert_eq!(vault.get("a"), Err(FailureKind::Denied));
    let (kind, cause, _) = vault.failure("b");
    assert_eq!(kind, FailureKind::Denied);
    assert!(cause.contains("401"), "{cause}");
    Ok(())
}

#[test]
fn many_variables_are_read_in_one_call() -> Result<()> {
    let conjur = Conjur::start()?;
    let long = "x".repeat(64 * 1024);
    conjur.put("plain", b"one");
    conjur.put("a/b & c+d=e%2F#?", long.as_bytes());
    conjur.put("bytes", b"\xff\xfe\0");
    conjur.put("ключ", "знач".as_bytes());
    let got = vault(&conjur).get_all(&["plain", "a%2Fb %26 c%2Bd=e%252F%23%3F", "bytes", "ключ"]);
    assert_eq!(
        got,
        [
            value("one"),
            value(&long),
            Ok(b"\xff\xfe\0".to_vec()),
            value("знач")
        ]
    );
    assert_eq!(conjur.reads().len(), 1, "{:?}", conjur.reads());
    assert!(conjur.reads()[0].starts_with("/secrets?variable_ids="));
    Ok(())
}

#[test]
fn what_a_call_for_many_cannot_have_is_read_by_itself() -> Result<()> {
    let conjur = Conjur::start()?;
    for id in ["a", "b", "with,comma", "forbidden"] {
        conjur.put(id, b"old");
        conjur.put(id, id.as_bytes());
    }
    // Versions and commas, beside a call for the rest.
    let got = vault(&conjur).get_all(&["a", "b", "a#1", "with,comma"]);
    let expected = [value("a"), value("b"), value("old"), value("with,comma")];
    assert_eq!(got, expected);
    assert_eq!(conjur.reads().len(), 3, "{:?}", conjur.reads());
    // One that is missing or forbidden spoils the call, not the others.
    conjur.forbid("forbidden");
    let got = vault(&conjur).get_all(&["a", "none", "forbidden", "b"]);
    let expected = [
        value("a"),
        Err(FailureKind::NotFound),
        Err(FailureKind::Denied),
        value("b"),
    ];
    assert_eq!(got, expected);
    assert_eq!(conjur.reads().len(), 3 + 1 + 4, "{:?}", conjur.reads());
    Ok(())
}

#[test]
fn long_lists_are_cut_into_calls_that_servers_take() -> Result<()> {
    let conjur = Conjur::start()?;
    let ids: Vec<_> = (0..60)
        .map(|n| format!("{}-{n}", "long/".repeat(60)))
        .collect();
    let rests: Vec<_> = ids.iter().map(|id| id.replace('/', "%2F")).collect();
    for id in &ids {
        conjur.put(id, id.as_bytes());
    }
    let rests: Vec<_> = rests.iter().map(String::as_str).collect();
    let got = vault(&conjur).get_all(&rests);
    let expected: Vec<_> = ids.iter().map(|id| value(id)).collect();
    assert_eq!(got, expected);
    let reads = conjur.reads();
    assert!(reads.len() < 10, "{} calls", reads.len());
    assert!(reads.iter().all(|path| path.len() < 7000));
    Ok(())
}

#[test]
fn an_older_server_that_knows_no_base64_is_understood() -> Result<()> {
    let token = json!({ "protected": "e30=", "payload": "e30=", "signature": "e30=" }).to_string();
    let upstream = Upstream::answering(move |request| match request.path.split_once('?') {
        None => Reply::status(200).body(&token),
        Some(_) => Reply::status(200)
            .body(json!({ "myorg:variable:a": "aGk=", "myorg:variable:b": "text" }).to_string()),
    })?;
    let config = json!({
        "endpoint_url": format!("http://{}/api/", upstream.address()),
        "account": "myorg", "login": "alice@devops", "api_key": " key\n",
    });
    let got = Vault::new("conjur", fields(config)).get_all(&["a", "b"]);
    assert_eq!(got, [value("aGk="), value("text")]);
    let [login, read] = &*upstream.requests() else {
        panic!("a login and a read");
    };
    assert_eq!(login.path, "/api/authn/myorg/alice%40devops/authenticate");
    assert_eq!(login.body, b"key");
    assert!(read.path.starts_with("/api/secrets?"));
    let token = read.header("authorization").unwrap_or_default();
    assert!(token.starts_with("Token token=\"eyJ"), "{token}");
    Ok(())
}

#[test]
fn a_batch_that_fails_as_a_whole_fails_for_each() -> Result<()> {
    for (status, kind) in [
        (429, FailureKind::Unavailable),
        (500, FailureKind::Unavailable),
        (401, FailureKind::Denied),
    ] {
        let upstream = Upstream::answering(move |request| match request.method.as_str() {
            "POST" => Reply::status(200).body("dG9rZW4="),
            _ => Reply::status(status).header("retry-after", "60"),
        })?;
        let config = json!({
            "endpoint_url": format!("http://{}", upstream.address()),
            "account": "myorg", "login": "alice", "api_key": "key",
        });
        let got = Vault::new("conjur", fields(config)).get_all(&["a", "b"]);
        assert_eq!(got, [Err(kind), Err(kind)], "{status}");
        assert_eq!(upstream.requests().len(), 2, "{status}");
    }
    Ok(())
}

#[test]
fn what_is_no_token_and_no_batch_is_not_believed() -> Result<()> {
    for (token, batch) in [
        ("<html>", "{}"),
        ("", "{}"),
        ("dG9r\"ZW4=", "{}"),
        ("dG9rZW4=", "[]"),
        ("dG9rZW4=", "{"),
        (
            "dG9rZW4=",
            r#"{"myorg:variable:a":1,"myorg:variable:b":{}}"#,
        ),
        (
            "dG9rZW4=",
            r#"{"myorg:variable:a":"*","myorg:variable:b":"aGk"}"#,
        ),
    ] {
        let upstream = Upstream::answering(move |request| {
            let body = if request.method == "POST" {
                token
            } else {
                batch
            };
            Reply::status(200)
                .header("content-encoding", "base64")
                .body(body)
        })?;
        let config = json!({
            "endpoint_url": format!("http://{}", upstream.address()),
            "account": "myorg", "login": "alice", "api_key": "key",
        });
        let got = Vault::new("conjur", fields(config)).get_all(&["a", "b"]);
        let unavailable = Err(FailureKind::Unavailable);
        assert_eq!(got, [unavailable.clone(), unavailable], "{token} {batch}");
    }
    Ok(())
}
