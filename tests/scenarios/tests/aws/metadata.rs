//! Fakes of the endpoints that give credentials to what runs on AWS, as its documentation has them:
//! the one of containers (ECS, EKS pod identity) and the instance metadata service in version 2.
//! Neither has an implementation by others that could be run here; the client is AWS's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::json;
use vaultref_scenarios::moto::Keys;
use vaultref_scenarios::upstream::{Received, Reply, Upstream};

/// What a container has to show.
pub const CONTAINER_TOKEN: &str = "Basic hunter2-of-the-container";

/// Where a container finds its credentials. The path is as good as a credential.
pub const CONTAINER_PATH: &str = "/v2/credentials/hunter2-of-the-path";

const ROLE: &str = "the-role-of-the-instance";
const SESSION: &str = "hunter2-of-the-session";

/// The endpoint of a container whose credentials hold for an hour; it says nothing while it `hangs`.
pub fn container(keys: &Keys, hangs: &Arc<AtomicBool>) -> Result<Upstream> {
    let (keys, hangs) = (keys.clone(), Arc::clone(hangs));
    Upstream::answering(move |request| {
        let shown = request.header("authorization");
        if shown.as_deref() != Some(CONTAINER_TOKEN) || request.path != CONTAINER_PATH {
            return Reply::status(403).body(r#"{"code":"AccessDenied","message":"hunter2"}"#);
        }
        let patience = match hangs.load(Ordering::SeqCst) {
            // Longer than any client waits; it ends with the test.
            true => Duration::from_secs(600),
            false => Duration::ZERO,
        };
        Reply::status(200).body(credentials(&keys)).after(patience)
    })
}

/// The endpoint of an instance, which wants the token that it gives for a PUT.
pub fn instance(keys: &Keys) -> Result<Upstream> {
    let keys = keys.clone();
    Upstream::answering(move |request| match (&*request.method, &*request.path) {
        ("PUT", "/latest/api/token") if header(request, "token-ttl-seconds").is_some() => {
            Reply::status(200)
                .header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
                .body(SESSION)
        }
        _ if header(request, "token").as_deref() != Some(SESSION) => Reply::status(401),
        ("GET", "/latest/meta-data/iam/security-credentials/") => Reply::status(200).body(ROLE),
        ("GET", path) if path.ends_with(&format!("/security-credentials/{ROLE}")) => {
            Reply::status(200).body(credentials(&keys))
        }
        _ => Reply::status(404),
    })
}

fn header(request: &Received, name: &str) -> Option<String> {
    request.header(&format!("x-aws-ec2-metadata-{name}"))
}

/// Both give the same document.
fn credentials(keys: &Keys) -> String {
    let document = json!({
        "Code": "Success",
        "LastUpdated": "2026-01-01T00:00:00Z",
        "Type": "AWS-HMAC",
        "AccessKeyId": keys.id,
        "SecretAccessKey": keys.secret,
        "Token": keys.token,
        "Expiration": in_an_hour(),
    });
    document.to_string()
}

/// A date as AWS writes it.
fn in_an_hour() -> String {
    let then = SystemTime::now() + Duration::from_secs(3600);
    let seconds = then
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Counted from the first of March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
