//! A server in the place of all of Google's: metadata, logins, exchanges, and a Secret Manager in
//! which each secret is who has asked for it.

use std::net::SocketAddr;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vaultref_scenarios::upstream::{Received, Reply, Upstream};

use crate::kit::Config;
use crate::vault::Vault;

/// Where the metadata server gives tokens.
pub const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// Whom a token of another provider is for.
pub const AUDIENCE: &str =
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q";

/// Everything of Google's at one address.
pub fn google() -> Result<Upstream> {
    Upstream::answering(|request| answer(request).unwrap_or_else(|| Reply::status(404)))
}

pub fn answer(request: &Received) -> Option<Reply> {
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
            let data = STANDARD.encode(authorization?);
            Some(Reply::status(200).body(json!({ "payload": { "data": data } }).to_string()))
        }
        _ => None,
    }
}

pub fn config(address: SocketAddr, environment: &[(&str, String)]) -> Config {
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
pub fn who(google: &Upstream, environment: &[(&str, String)]) -> Result<String> {
    let vault = Vault::new("gcp", config(google.address(), environment));
    let who = vault.get("a").map_err(|kind| anyhow::anyhow!("{kind}"))?;
    Ok(String::from_utf8(who)?)
}

pub fn form(request: &Received) -> Vec<(String, String)> {
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

pub fn external(address: SocketAddr, source: &Value) -> Value {
    json!({
        "type": "external_account",
        "audience": AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("http://{address}/sts"),
        "credential_source": source,
    })
}
