//! Who we are, by a token of another identity provider.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use vaultref_contract::wire::FailureKind;
use vaultref_scenarios::paths;
use vaultref_scenarios::upstream::{Reply, Upstream};

use super::google::{AUDIENCE, config, external, form, google, who};
use crate::vault::Vault;

#[test]
fn a_token_of_another_provider_is_exchanged() -> Result<()> {
    let google = google()?;
    let folder = TempDir::new()?;
    let (text, object) = (folder.path().join("text"), folder.path().join("object"));
    fs::write(&text, "subject-from-file\n")?;
    fs::write(&object, r#"{"id_token":"subject-in-object"}"#)?;
    let url = format!("http://{}/subject?audience=x", google.address());
    let in_object = |field: &str| json!({ "type": "json", "subject_token_field_name": field });
    for (source, subject) in [
        (json!({ "file": text }), "subject-from-file"),
        (
            json!({ "file": text, "format": { "type": "text" } }),
            "subject-from-file",
        ),
        (
            json!({ "file": object, "format": in_object("id_token") }),
            "subject-in-object",
        ),
        (
            json!({ "url": url, "headers": { "x-key": "k" }, "format": in_object("value") }),
            "subject-from-url",
        ),
    ] {
        google.clear();
        let credentials = folder.path().join("credentials.json");
        fs::write(
            &credentials,
            external(google.address(), &source).to_string(),
        )?;
        let named = credentials.display().to_string();
        let who = who(&google, &[("GOOGLE_APPLICATION_CREDENTIALS", named)])?;
        assert_eq!(who, "Bearer token-of-the-exchange");
        let requests = google.requests();
        let exchange = requests.iter().find(|request| request.path == "/sts");
        let exchange = exchange.context("no exchange")?;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [
            pair("audience", AUDIENCE),
            pair(
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            pair(
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:access_token",
            ),
            pair("scope", "https://www.googleapis.com/auth/cloud-platform"),
            pair("subject_token", subject),
            pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ];
        assert_eq!(form(exchange), expected);
    }
    Ok(())
}

#[test]
fn an_exchanged_token_gets_that_of_a_service_account() -> Result<()> {
    let google = google()?;
    let folder = TempDir::new()?;
    let file = folder.path().join("text");
    fs::write(&file, "subject")?;
    let mut document = external(google.address(), &json!({ "file": file }));
    let target = format!(
        "http://{}/impersonate:generateAccessToken",
        google.address()
    );
    document["service_account_impersonation_url"] = json!(target);
    document["service_account_impersonation"] = json!({ "token_lifetime_seconds": 600 });
    document["quota_project_id"] = json!("charged");
    document["client_id"] = json!("client");
    document["client_secret"] = json!("secret");
    let environment = [("GCP_SERVICE_ACCOUNT", document.to_string())];
    let vault = Vault::new("gcp", config(google.address(), &environment));
    let who = || {
        vault
            .get("a")
            .map(|who| String::from_utf8_lossy(&who).into_owned())
    };
    let whose = "Bearer token-had-with Bearer token-of-the-exchange";
    assert_eq!(who().as_deref(), Ok(whose));
    let requests = google.requests();
    let [exchange, impersonation, read] = &*requests else {
        anyhow::bail!("{} requests", requests.len());
    };
    let scope = form(exchange).into_iter().find(|(name, _)| name == "scope");
    let scope = scope.context("a scope")?.1;
    assert_eq!(scope, "https://www.googleapis.com/auth/iam");
    assert_eq!(
        exchange.header("authorization").as_deref(),
        Some("Basic Y2xpZW50OnNlY3JldA==")
    );
    let wanted: Value = serde_json::from_slice(&impersonation.body)?;
    let expected = json!({ "scope": ["https://www.googleapis.com/auth/cloud-platform"],
        "lifetime": "600s" });
    assert_eq!(wanted, expected);
    assert_eq!(
        read.header("x-goog-user-project").as_deref(),
        Some("charged")
    );
    // Its time is what was asked for, not that of the token before.
    vault.pass(390);
    assert_eq!(who().as_deref(), Ok(whose));
    assert_eq!(google.requests().len(), 4);
    vault.pass(20);
    assert_eq!(who().as_deref(), Ok(whose));
    assert_eq!(google.requests().len(), 7);
    Ok(())
}

#[test]
fn a_refused_login_is_told_apart_from_an_outage() -> Result<()> {
    const MARK: &str = "hunter2-of-the-server";
    let google = google()?;
    let folder = TempDir::new()?;
    let file = folder.path().join("text");
    for (written, status, body, kind) in [
        (true, 400, MARK, FailureKind::Denied),
        (true, 401, MARK, FailureKind::Denied),
        (true, 403, MARK, FailureKind::Denied),
        (true, 429, MARK, FailureKind::Unavailable),
        (true, 500, MARK, FailureKind::Unavailable),
        (true, 302, MARK, FailureKind::Unavailable),
        (true, 200, MARK, FailureKind::Unavailable),
        (true, 200, r#"{"expires_in":1}"#, FailureKind::Unavailable),
        (
            true,
            200,
            r#"{"access_token":"a\nb"}"#,
            FailureKind::Unavailable,
        ),
        (false, 200, "", FailureKind::Unavailable),
    ] {
        let _ = fs::remove_file(&file);
        if written {
            fs::write(&file, "the-subject")?;
        }
        let sts = Upstream::answering(move |_| Reply::status(status).body(body))?;
        let document = external(sts.address(), &json!({ "file": file })).to_string();
        let vault = Vault::new(
            "gcp",
            config(google.address(), &[("GCP_SERVICE_ACCOUNT", document)]),
        );
        let (got, cause, _) = vault.failure("a");
        assert_eq!(got, kind, "{status} {body}: {cause}");
        assert!(
            !cause.contains(MARK) && !cause.contains("the-subject"),
            "{cause}"
        );
        assert!(google.requests().is_empty());
    }
    Ok(())
}

/// What `google-cloud-auth` does for us, which wants its own variable in a process of its own.
#[test]
fn a_program_gives_the_token_that_is_exchanged() -> Result<()> {
    let google = google()?;
    let folder = TempDir::new()?;
    let told = json!({ "success": true, "version": 1, "id_token": "subject-of-a-program",
        "token_type": "urn:ietf:params:oauth:token-type:id_token" });
    let file = folder.path().join("told");
    fs::write(&file, told.to_string())?;
    let source = json!({ "executable": { "command": format!("cat {}", file.display()) } });
    let yaml = folder.path().join("vaultref.yaml");
    let config = config(google.address(), &[]);
    let document = json!({ "vaults": [{ "name": "gcp", "config": config.fields }] });
    fs::write(&yaml, document.to_string())?;
    let get = |allowed: &str| {
        Command::new(paths::vaultref()?)
            .args(["get", "--config"])
            .arg(&yaml)
            .arg("{vault://gcp/a}")
            .env(
                "GCP_SERVICE_ACCOUNT",
                external(google.address(), &source).to_string(),
            )
            .env("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", allowed)
            .output()
            .context("vaultref get")
    };
    let output = get("1")?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let got = String::from_utf8(output.stdout)?;
    assert_eq!(got.trim_end(), "Bearer token-of-the-exchange");
    let exchange = google
        .requests()
        .into_iter()
        .next()
        .context("an exchange")?;
    let subject = (
        "subject_token".to_owned(),
        "subject-of-a-program".to_owned(),
    );
    assert!(form(&exchange).contains(&subject));
    assert_eq!(get("0")?.status.code(), Some(4), "denied");
    Ok(())
}
