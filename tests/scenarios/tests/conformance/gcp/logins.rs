//! Who we are: each kind of credentials, with a server in the place of Google's that gives tokens.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use vaultref_contract::wire::FailureKind;
use vaultref_scenarios::paths;
use vaultref_scenarios::service_account::{EMAIL, KEY_ID, ServiceAccount};
use vaultref_scenarios::upstream::{Received, Reply, Upstream};

use crate::kit::Config;
use crate::vault::Vault;

const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const AUDIENCE: &str =
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q";

/// Everything of Google's at one address.
fn google() -> Result<Upstream> {
    Upstream::answering(|request| answer(request).unwrap_or_else(|| Reply::status(404)))
}

fn answer(request: &Received) -> Option<Reply> {
    let authorization = request.header("authorization");
    let token = |token: &str| {
        let body = json!({ "access_token": token, "expires_in": 3600, "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token" });
        Some(Reply::status(200).body(body.to_string()))
    };
    match request.path.as_str() {
        TOKEN if request.header("metadata-flavor").as_deref() == Some("Google") => {
            token("token-of-the-machine").map(|reply| reply.header("metadata-flavor", "Google"))
        }
        "/subject?audience=x" => (request.header("x-key").as_deref() == Some("k"))
            .then(|| Reply::status(200).body(json!({ "value": "subject-from-url" }).to_string())),
        "/sts" => token("token-of-the-exchange"),
        "/login" => token("token-of-a-person"),
        "/impersonate:generateAccessToken" => {
            let body = json!({ "accessToken": format!("token-had-with {}", authorization?),
                "expireTime": "2030-01-01T00:00:00Z" });
            Some(Reply::status(200).body(body.to_string()))
        }
        path if path.ends_with(":access") => {
            // The secret is who has asked for it.
            let data =
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, authorization?);
            Some(Reply::status(200).body(json!({ "payload": { "data": data } }).to_string()))
        }
        _ => None,
    }
}

fn config(address: SocketAddr, environment: &[(&str, String)]) -> Config {
    let variables = environment.iter();
    Config {
        fields: json!({ "project_id": "test-project", "ttl": 1,
            "endpoint_url": format!("http://{address}") }),
        environment: variables
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    }
}

/// Who asks Secret Manager with these variables.
fn who(google: &Upstream, environment: &[(&str, String)]) -> Result<String> {
    let vault = Vault::new("gcp", config(google.address(), environment));
    let who = vault.get("a").map_err(|kind| anyhow::anyhow!("{kind}"))?;
    Ok(String::from_utf8(who)?)
}

fn form(request: &Received) -> Vec<(String, String)> {
    let body = String::from_utf8_lossy(&request.body)
        .replace("%3A", ":")
        .replace("%2F", "/");
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    let mut pairs: Vec<_> = pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    pairs.sort_unstable();
    pairs
}

fn external(address: SocketAddr, source: &Value) -> Value {
    json!({
        "type": "external_account",
        "audience": AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("http://{address}/sts"),
        "credential_source": source,
    })
}

#[test]
fn a_service_account_signs_its_own_token() -> Result<()> {
    let google = google()?;
    let account = ServiceAccount::new()?;
    let key = account.json()?.to_string();
    let who = who(&google, &[("GCP_SERVICE_ACCOUNT", key)])?;
    let token = who.strip_prefix("Bearer ").context("a bearer's token")?;
    let (header, claims) = account.verified(token)?;
    assert_eq!(
        header,
        json!({ "alg": "RS256", "typ": "JWT", "kid": KEY_ID })
    );
    let (Some(issued), Some(expires)) = (claims["iat"].as_u64(), claims["exp"].as_u64()) else {
        anyhow::bail!("no times in the token");
    };
    assert_eq!(expires - issued, 3600);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    assert!(
        (5..600).contains(&(now - issued)),
        "issued {issued}, now {now}"
    );
    let expected = json!({
        "iss": EMAIL, "sub": EMAIL, "aud": "https://secretmanager.googleapis.com/",
        "iat": issued, "exp": expires,
    });
    assert_eq!(claims, expected);
    assert_eq!(google.requests().len(), 1, "nobody else is asked");
    assert!(ServiceAccount::new()?.verified(token).is_err());
    Ok(())
}

#[test]
fn one_token_serves_until_two_thirds_of_its_time_are_over() -> Result<()> {
    let google = google()?;
    let machine = [("GCE_METADATA_HOST", google.address().to_string())];
    let vault = Vault::new("gcp", config(google.address(), &machine));
    let logins = || {
        let requests = google.requests().into_iter();
        requests.filter(|request| request.path == TOKEN).count()
    };
    let got = vault.get_all(&["a", "b", "c", "d"]);
    assert!(got.iter().all(Result::is_ok));
    vault.pass(2300);
    assert!(vault.get("a").is_ok());
    assert_eq!(logins(), 1);
    vault.pass(200);
    assert!(vault.get("a").is_ok());
    assert_eq!(logins(), 2);
    Ok(())
}

#[test]
fn a_token_that_is_not_taken_any_more_leads_to_one_new_login() -> Result<()> {
    let taken = std::sync::atomic::AtomicBool::new(true);
    let google = Upstream::answering(move |request| {
        // The first read is answered, the second is not, whatever comes then is.
        let is_read = request.path.ends_with(":access");
        if is_read
            && request.path.contains("/secrets/b/")
            && taken.swap(false, std::sync::atomic::Ordering::SeqCst)
        {
            return Reply::status(401);
        }
        answer(request).unwrap_or_else(|| Reply::status(404))
    })?;
    let machine = [("GCE_METADATA_HOST", google.address().to_string())];
    let vault = Vault::new("gcp", config(google.address(), &machine));
    assert!(vault.get("a").is_ok());
    vault.pass(10);
    assert!(vault.get("b").is_ok());
    let paths: Vec<_> = google
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    let kinds: Vec<_> = paths.iter().map(|path| path == TOKEN).collect();
    assert_eq!(kinds, [true, false, false, true, false], "{paths:?}");
    Ok(())
}

#[test]
fn a_workload_is_known_by_the_metadata_server() -> Result<()> {
    let google = google()?;
    let machine = [("GCE_METADATA_HOST", google.address().to_string())];
    assert_eq!(who(&google, &machine)?, "Bearer token-of-the-machine");
    Ok(())
}

#[test]
fn a_stranger_is_no_metadata_server() -> Result<()> {
    let google = google()?;
    let token = r#"{"access_token":"token-of-a-stranger","expires_in":3600}"#;
    for (reply, kind) in [
        (Reply::status(200).body(token), FailureKind::Unavailable),
        (Reply::status(404), FailureKind::Denied),
        (Reply::status(503), FailureKind::Unavailable),
    ] {
        let stranger = Upstream::answering(move |_| reply.clone())?;
        let machine = [("GCE_METADATA_HOST", stranger.address().to_string())];
        let vault = Vault::new("gcp", config(google.address(), &machine));
        let (got, cause, _) = vault.failure("a");
        assert_eq!(got, kind, "{cause}");
        assert!(!cause.contains("token-of-a-stranger"));
        assert!(google.requests().is_empty());
    }
    Ok(())
}

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
    let who = who(&google, &[("GCP_SERVICE_ACCOUNT", document.to_string())])?;
    assert_eq!(who, "Bearer token-had-with Bearer token-of-the-exchange");
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
    Ok(())
}

#[test]
fn a_person_and_somebody_spoken_for() -> Result<()> {
    let google = google()?;
    let home = TempDir::new()?;
    let folder = home.path().join(".config/gcloud");
    fs::create_dir_all(&folder)?;
    let person = json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "s/1",
        "refresh_token": "r", "token_uri": format!("http://{}/login", google.address()),
    });
    let well_known = folder.join("application_default_credentials.json");
    fs::write(&well_known, person.to_string())?;
    let environment = [("HOME", home.path().display().to_string())];
    assert_eq!(who(&google, &environment)?, "Bearer token-of-a-person");
    let login = google.requests().into_iter().next().context("a login")?;
    let expected = [
        ("client_id", "id"),
        ("client_secret", "s/1"),
        ("grant_type", "refresh_token"),
        ("refresh_token", "r"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form(&login), expected);

    let target = format!(
        "http://{}/impersonate:generateAccessToken",
        google.address()
    );
    let spoken_for = |source: &Value| {
        json!({ "type": "impersonated_service_account", "source_credentials": source,
            "service_account_impersonation_url": target, "delegates": ["a", "b"] })
    };
    fs::write(&well_known, spoken_for(&person).to_string())?;
    let told = who(&google, &environment)?;
    assert_eq!(told, "Bearer token-had-with Bearer token-of-a-person");
    let asked = google.requests();
    let body = asked
        .iter()
        .rev()
        .find(|request| request.path.starts_with("/imp"));
    let body: Value = serde_json::from_slice(&body.context("an impersonation")?.body)?;
    assert_eq!(body["delegates"], json!(["a", "b"]));

    // A service account's own token is for Secret Manager alone, so it asks with another.
    let account = ServiceAccount::new()?;
    fs::write(&well_known, spoken_for(&account.json()?).to_string())?;
    let told = who(&google, &environment)?;
    let token = told
        .strip_prefix("Bearer token-had-with Bearer ")
        .context("told")?;
    let (_, claims) = account.verified(token)?;
    assert_eq!(
        claims["scope"],
        "https://www.googleapis.com/auth/cloud-platform"
    );
    assert_eq!(claims.get("aud"), None);
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
