//! Who we are, by a key, a machine or a person.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use vaultref_contract::wire::FailureKind;
use vaultref_scenarios::service_account::{EMAIL, KEY_ID, ServiceAccount};
use vaultref_scenarios::upstream::{Reply, Upstream};

use super::google::{TOKEN, answer, config, form, google, who};
use crate::vault::Vault;

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
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
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
    let taken = AtomicBool::new(true);
    let google = Upstream::answering(move |request| {
        // The first read is answered, the second is not, whatever comes then is.
        let is_read = request.path.ends_with(":access");
        if is_read && request.path.contains("/secrets/b/") && taken.swap(false, Ordering::SeqCst) {
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
