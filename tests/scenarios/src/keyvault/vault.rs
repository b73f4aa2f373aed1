//! The vault's own answers.

use serde_json::{Value, json};

use super::{State, TENANT, VAULT_HOST, Version};
use crate::upstream::{Received, Reply};

/// When everything here was made.
const CREATED: u64 = 1_767_225_600;

pub(super) fn answer(state: &mut State, request: &Received) -> Reply {
    let token = request
        .header("authorization")
        .and_then(|text| text.strip_prefix("Bearer ").map(str::to_owned));
    if !token.is_some_and(|token| state.tokens.contains(&token)) {
        return challenge();
    }
    if let Some(reply) = state.prepared.pop_front() {
        return reply;
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let is_versioned = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("api-version="))
        .any(|version| !version.is_empty());
    if !is_versioned {
        return error(400, "BadParameter", "api-version must be specified", None);
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (collection, name, version) = match parts.as_slice() {
        [collection, name] => (*collection, *name, None),
        [collection, name, version] => (*collection, *name, Some(*version)),
        _ => return error(404, "NotFound", "There is nothing here", None),
    };
    if request.method != "GET" || !is_name(name) {
        return error(400, "BadParameter", "The request is not supported", None);
    }
    match collection {
        "certificates" => read(state, name, version, "Certificate", certificate),
        "secrets" => read(state, name, version, "Secret", |version| {
            if version.enabled {
                return secret(version);
            }
            let message = "Operation get is not allowed on a disabled secret.";
            error(403, "Forbidden", message, Some("SecretDisabled"))
        }),
        _ => error(404, "NotFound", "There is nothing here", None),
    }
}

/// Where to log in, and for what.
pub(super) fn challenge() -> Reply {
    let message = "AKV10000: Request is missing a Bearer or PoP token.";
    error(401, "Unauthorized", message, None).header(
        "www-authenticate",
        format!(
            "Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", \
             resource=\"https://vault.azure.net\""
        ),
    )
}

pub(super) fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=127).contains(&name.len()) && name.bytes().all(is_part)
}

fn read(
    state: &State,
    name: &str,
    version: Option<&str>,
    what: &str,
    answer: impl Fn(&Version) -> Reply,
) -> Reply {
    let canonical = name.to_ascii_lowercase();
    if state.forbidden.contains(&canonical) {
        let message = "The user, group or application does not have the right to do this.";
        return error(403, "Forbidden", message, Some("ForbiddenByRbac"));
    }
    let versions = state.objects.get(&canonical).map_or(&[][..], Vec::as_slice);
    let found = match version {
        None => versions.last(),
        Some(id) => versions.iter().find(|version| version.id == id),
    };
    let is_one = |found: &&Version| what == "Secret" || found.certificate.is_some();
    match found.filter(is_one) {
        Some(found) => answer(found),
        None => {
            let message =
                format!("A {what} with (name/id) {name} was not found in this key vault.");
            error(404, &format!("{what}NotFound"), &message, None)
        }
    }
}

pub(super) fn secret(version: &Version) -> Reply {
    let mut body = json!({
        "value": version.value,
        "id": version.address("secrets"),
        "attributes": version.attributes(),
    });
    if let Some(content_type) = &version.content_type {
        body["contentType"] = json!(content_type);
    }
    if version.certificate.is_some() {
        body["managed"] = json!(true);
        body["kid"] = json!(version.address("keys"));
    }
    reply(200, &body)
}

fn certificate(version: &Version) -> Reply {
    let base = format!("https://{VAULT_HOST}/certificates/{}", version.name);
    let body = json!({
        "id": version.address("certificates"),
        "kid": version.address("keys"),
        "sid": version.address("secrets"),
        "x5t": "a3smTonNIUP_pLaBLH80RuxPGOc",
        "cer": version.certificate,
        "attributes": version.attributes(),
        "policy": {
            "id": format!("{base}/policy"),
            "key_props": { "exportable": true, "kty": "EC", "crv": "P-256", "reuse_key": false },
            "secret_props": { "contentType": version.content_type },
            "x509_props": {
                "subject": "CN=api.example.com",
                "sans": {},
                "ekus": ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"],
                "key_usage": ["digitalSignature", "keyEncipherment"],
                "validity_months": 12,
                "basic_constraints": { "ca": false },
            },
            "lifetime_actions": [
                { "trigger": { "lifetime_percentage": 80 }, "action": { "action_type": "AutoRenew" } },
            ],
            "issuer": { "name": "Self" },
            "attributes": { "enabled": true, "created": CREATED, "updated": CREATED },
        },
        "pending": { "id": format!("{base}/pending") },
    });
    reply(200, &body)
}

impl Version {
    fn address(&self, collection: &str) -> String {
        format!(
            "https://{VAULT_HOST}/{collection}/{}/{}",
            self.name, self.id
        )
    }

    fn attributes(&self) -> Value {
        let mut attributes = json!({
            "enabled": self.enabled,
            "created": CREATED,
            "updated": CREATED,
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": 90,
        });
        if self.certificate.is_some() {
            attributes["nbf"] = json!(CREATED);
            attributes["exp"] = json!(CREATED + 31_536_000);
        }
        attributes
    }
}

fn error(status: u16, code: &str, message: &str, inner: Option<&str>) -> Reply {
    let mut error = json!({ "code": code, "message": message });
    if let Some(inner) = inner {
        error["innererror"] = json!({ "code": inner });
    }
    reply(status, &json!({ "error": error }))
}

fn reply(status: u16, body: &Value) -> Reply {
    let headers = [
        ("cache-control", "no-cache"),
        ("content-type", "application/json; charset=utf-8"),
        ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("expires", "-1"),
        ("pragma", "no-cache"),
        ("server", "Microsoft-IIS/10.0"),
        (
            "strict-transport-security",
            "max-age=31536000;includeSubDomains",
        ),
        ("x-aspnet-version", "4.0.30319"),
        ("x-content-type-options", "nosniff"),
        (
            "x-ms-keyvault-network-info",
            "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;",
        ),
        ("x-ms-keyvault-region", "westeurope"),
        ("x-ms-keyvault-service-version", "1.9.0.0"),
        ("x-powered-by", "ASP.NET"),
    ];
    let reply = Reply::status(status).body(body.to_string());
    headers
        .into_iter()
        .fold(reply, |reply, (name, value)| reply.header(name, value))
}
