//! Entra ID's token endpoint, and the services by which a machine of Azure gets tokens.
//!
//! - <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>
//! - <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>
//! - <https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::State;
use crate::upstream::{Received, Reply};

/// The login's host.
pub const LOGIN_HOST: &str = "login.microsoftonline.com";
/// The tenant.
pub const TENANT: &str = "72f988bf-0000-4000-8000-00000000cafe";
/// The one application that is known.
pub const CLIENT: &str = "1b4e28ba-0000-4000-8000-0000000000aa";
/// Its secret.
pub const CLIENT_SECRET: &str = "s3cret~of&the=client +";
/// The one token of Kubernetes that it trusts.
pub const FEDERATED_TOKEN: &str = "eyJhbGciOiJub25lIn0.e30.federated";
/// What App Service gives to what it runs.
pub const IDENTITY_HEADER: &str = "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a";

const SCOPE: &str = "https://vault.azure.net/.default";
const RESOURCE: &str = "https://vault.azure.net";
const LASTS: u64 = 3599;

pub(super) fn answer(state: &mut State, request: &Received) -> Reply {
    let (path, _) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let authority = format!("https://{LOGIN_HOST}/{TENANT}");
    if request.method == "GET" && path.ends_with("/.well-known/openid-configuration") {
        // Microsoft's libraries look the endpoints up.
        return json_reply(
            200,
            &json!({
                "token_endpoint": format!("{authority}/oauth2/v2.0/token"),
                "authorization_endpoint": format!("{authority}/oauth2/v2.0/authorize"),
                "issuer": format!("{authority}/v2.0"),
            }),
        );
    }
    if request.method == "GET" && path == "/common/discovery/instance" {
        return json_reply(
            200,
            &json!({
                "tenant_discovery_endpoint": format!("{authority}/v2.0/.well-known/openid-configuration"),
                "api-version": "1.1",
                "metadata": [{
                    "preferred_network": LOGIN_HOST,
                    "preferred_cache": LOGIN_HOST,
                    "aliases": [LOGIN_HOST],
                }],
            }),
        );
    }
    let form = pairs(&String::from_utf8_lossy(&request.body));
    let field = |name: &str| form.get(name).map(String::as_str);
    if request.method != "POST" || path != format!("/{TENANT}/oauth2/v2.0/token") {
        return refusal(400, "invalid_request", 90_002);
    }
    if field("grant_type") != Some("client_credentials") {
        return refusal(400, "unsupported_grant_type", 70_003);
    }
    // (Microsoft's library for Python asks for more in the same request.)
    if !field("scope").is_some_and(|scope| scope.split(' ').any(|one| one == SCOPE)) {
        return refusal(400, "invalid_scope", 70_011);
    }
    if field("client_id") != Some(CLIENT) {
        return refusal(400, "unauthorized_client", 700_016);
    }
    let way = match (field("client_secret"), field("client_assertion")) {
        (Some(CLIENT_SECRET), None) => "client secret",
        (Some(_), None) => return refusal(401, "invalid_client", 7_000_215),
        (None, Some(FEDERATED_TOKEN)) if field("client_assertion_type") == Some(ASSERTION) => {
            "federated token"
        }
        _ => return refusal(401, "invalid_client", 700_213),
    };
    let token = state.log_in(way);
    json_reply(
        200,
        &json!({
            "token_type": "Bearer",
            "expires_in": LASTS,
            "ext_expires_in": LASTS,
            "access_token": token,
        }),
    )
}

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The identity services of a virtual machine and of App Service.
pub(super) fn machine(state: &mut State, request: &Received) -> Reply {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let query = pairs(query);
    let field = |name: &str| query.get(name).map(String::as_str);
    let way = match path {
        "/metadata/identity/oauth2/token" => {
            let is_meant = request.header("metadata").as_deref() == Some("true")
                && request.header("x-forwarded-for").is_none();
            (is_meant && field("api-version") == Some("2018-02-01")).then_some("virtual machine")
        }
        "/msi/token" => {
            let header = request.header("x-identity-header");
            let is_meant = header.as_deref() == Some(IDENTITY_HEADER);
            (is_meant && field("api-version") == Some("2019-08-01")).then_some("app service")
        }
        _ => return Reply::status(404),
    };
    let Some(way) = way.filter(|_| field("resource") == Some(RESOURCE)) else {
        return json_reply(400, &json!({ "error": "bad_request_102" }));
    };
    if field("client_id").is_some_and(|client| client != CLIENT) {
        let description = "Identity not found";
        let body = json!({ "error": "invalid_request", "error_description": description });
        return json_reply(400, &body);
    }
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs();
    let mut body = json!({
        "access_token": state.log_in(way),
        "client_id": CLIENT,
        "expires_on": (now + LASTS).to_string(),
        "resource": RESOURCE,
        "token_type": "Bearer",
    });
    if way == "virtual machine" {
        body["expires_in"] = json!(LASTS.to_string());
        body["ext_expires_in"] = json!(LASTS.to_string());
        body["not_before"] = json!(now.to_string());
    }
    json_reply(200, &body)
}

impl State {
    fn log_in(&mut self, way: &str) -> String {
        self.logins.push(way.to_owned());
        let token = format!("token-{}", self.new_id());
        self.tokens.insert(token.clone());
        token
    }
}

fn refusal(status: u16, error: &str, code: u32) -> Reply {
    let body = json!({
        "error": error,
        "error_description": format!("AADSTS{code}: for the log of the operator"),
        "error_codes": [code],
        "timestamp": "2026-01-01 00:00:00Z",
        "trace_id": "00000000-0000-4000-8000-000000000001",
        "correlation_id": "00000000-0000-4000-8000-000000000002",
        "error_uri": format!("https://{LOGIN_HOST}/error?code={code}"),
    });
    json_reply(status, &body)
}

fn json_reply(status: u16, body: &Value) -> Reply {
    let reply = Reply::status(status).header("content-type", "application/json; charset=utf-8");
    reply.body(body.to_string())
}

/// The fields of a form or a query.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let digits = more
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (byte, length) = match (first, escaped) {
            (b'+', _) => (b' ', 1),
            (b'%', Some(byte)) => (byte, 3),
            (byte, _) => (*byte, 1),
        };
        bytes.push(byte);
        rest = rest.get(length..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
