//! `approle`: a role id and a secret id, which may come from a file, and may be wrapped.
//!
//! A wrapping token gives its secret id once. That is kept in memory, for later logins of this
//! process; when the file holds another wrapping token, that one is unwrapped.

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use vaultref_contract::Secret;

use super::token::header;
use super::{
    Method, Proof, Surroundings, Way, file, member, missing, mounted, required, secret, text,
};
use crate::backend::hcv::server::{Call, Server, WHO};
use crate::backend::{ReadError, ReadErrorKind, network};
use crate::config::{ConfigError, Fields};
use crate::value::Wiped;

pub(super) const FIELDS: &[&str] = &[
    "approle_auth_path",
    "approle_role_id",
    "approle_secret_id",
    "approle_secret_id_file",
    "approle_response_wrapping",
];

struct AppRole {
    path: String,
    role_id: Secret,
    source: Source,
    /// None: the secret id is not wrapped.
    wrapping: Option<Mutex<Option<Unwrapped>>>,
}

enum Source {
    File(String),
    Given(Secret),
}

/// A secret id and the wrapping token that gave it.
struct Unwrapped {
    from: Secret,
    secret_id: Secret,
}

pub(super) fn take(fields: &mut Fields, _: &Surroundings<'_>) -> Result<Way, ConfigError> {
    let path = mounted(fields.take("approle_auth_path"), "approle")?;
    let role_id = secret(&required(fields, "approle", "approle_role_id")?)?;
    let wrapped = match fields.take("approle_response_wrapping") {
        None => false,
        Some(node) => node.boolean()?,
    };
    let given = fields.take("approle_secret_id");
    let source = match (given, fields.take("approle_secret_id_file")) {
        (Some(node), None) if wrapped => Source::Given(header(&node)?),
        (Some(node), None) => Source::Given(secret(&node)?),
        (None, Some(node)) => Source::File(text(&node)?),
        (Some(_), Some(node)) => {
            return Err(node.error("is one of two: 'approle_secret_id' is given as well"));
        }
        (None, None) => {
            let either = "'approle_secret_id' or 'approle_secret_id_file'";
            return Err(fields.error(missing("approle", either)));
        }
    };
    Ok(Way::Method(Box::new(AppRole {
        path,
        role_id,
        source,
        wrapping: wrapped.then(Mutex::default),
    })))
}

impl Method for AppRole {
    fn name(&self) -> &'static str {
        "approle"
    }

    fn proof<'a>(&'a self, server: &'a Server) -> BoxFuture<'a, Result<Proof, ReadError>> {
        Box::pin(async {
            let given = match &self.source {
                Source::File(path) => file(path).await?,
                Source::Given(secret) => secret.duplicate(),
            };
            let secret_id = match &self.wrapping {
                None => member(&given)?,
                Some(known) => {
                    let mut known = known.lock().await;
                    let same = |known: &Unwrapped| known.from.same_as(given.expose());
                    let unwrapped = match known.take().filter(same) {
                        Some(unwrapped) => unwrapped,
                        None => unwrap(server, given).await?,
                    };
                    member(&known.insert(unwrapped).secret_id)?
                }
            };
            let role_id = member(&self.role_id)?;
            Ok(Proof {
                path: self.path.clone(),
                body: Wiped(json!({"role_id": role_id, "secret_id": secret_id})),
                http: None,
            })
        })
    }
}

async fn unwrap(server: &Server, from: Secret) -> Result<Unwrapped, ReadError> {
    if !from.expose().iter().all(u8::is_ascii_graphic) {
        let cause = "what is to be unwrapped is no wrapping token";
        return Err(ReadError::new(ReadErrorKind::Denied, cause));
    }
    let call = Call::post("sys/wrapping/unwrap", Wiped(json!({}))).with_token(&from);
    let mut answer = match server.call(server.http(), call).await {
        Ok(answer) => answer,
        Err(failure) if matches!(failure.code(), Some(400 | 403)) => {
            return Err(ReadError::new(
                ReadErrorKind::Denied,
                "the vault does not know the wrapping token: it has expired, or has been unwrapped \
                 already; if that was not this program, the secret id is in other hands",
            ));
        }
        Err(failure) => return Err(failure.of_login("approle")),
    };
    match answer.take("/data/secret_id") {
        Value::String(secret_id) => Ok(Unwrapped {
            from,
            secret_id: Secret::from(secret_id),
        }),
        Value::Null => Err(ReadError::new(
            ReadErrorKind::Denied,
            "what was wrapped holds no secret id",
        )),
        _ => Err(network::unreadable(WHO)),
    }
}
