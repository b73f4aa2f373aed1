//! The ways to log in: one file for each family, with its fields and what it shows to the server.
//!
//! They only make the proof; sending it, and what becomes of the token, is for `tokens`. What a proof
//! needs from elsewhere (a file, a token endpoint, a machine's metadata) is read anew each time,
//! since all of that changes.

use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::Client;
use serde_json::Value;
use vaultref_contract::Secret;

use super::address::segments;
use super::server::Server;
use crate::backend::network::Network;
use crate::backend::{ReadError, ReadErrorKind};
use crate::config::{ConfigError, Fields, Node};
use crate::environment::Environment;
use crate::value::Wiped;

mod approle;
mod aws_credentials;
mod aws_ec2;
mod aws_iam;
mod azure;
mod cert;
mod gcp;
mod jwt;
mod kubernetes;
mod outside;
mod token;

pub(super) use outside::Outside;

/// How a vault gets its token.
pub(super) enum Way {
    /// It is in the configuration.
    Given(Secret),
    /// By logging in.
    Method(Box<dyn Method>),
}

/// A way to log in.
pub(super) trait Method: Send + Sync {
    /// What `auth_method` calls it.
    fn name(&self) -> &'static str;

    /// What is shown to the server this time.
    fn proof<'a>(&'a self, server: &'a Server) -> BoxFuture<'a, Result<Proof, ReadError>>;

    /// The server took it, and says this (`auth` of its answer).
    fn accepted(&self, _auth: &Value) {}
}

/// What is sent to log in.
pub(super) struct Proof {
    /// Below `v1/`.
    pub(super) path: String,
    pub(super) body: Wiped,
    /// The client to log in with, and to use the token with; none: the vault's own.
    pub(super) http: Option<Client>,
}

/// What a login has around it.
pub(super) struct Surroundings<'a> {
    /// The vault is reached over TLS.
    pub(super) tls: bool,
    pub(super) network: Arc<Network>,
    pub(super) environment: &'a Arc<Environment>,
    pub(super) outside: &'a Outside,
}

type Take = fn(&mut Fields, &Surroundings<'_>) -> Result<Way, ConfigError>;

/// `auth_method`, the fields that belong to it, and what reads them.
struct Entry {
    name: &'static str,
    fields: &'static [&'static str],
    take: Take,
}

const METHODS: [Entry; 10] = [
    Entry {
        name: "token",
        fields: token::FIELDS,
        take: token::take,
    },
    Entry {
        name: "kubernetes",
        fields: kubernetes::FIELDS,
        take: kubernetes::take,
    },
    Entry {
        name: "approle",
        fields: approle::FIELDS,
        take: approle::take,
    },
    Entry {
        name: "cert",
        fields: cert::FIELDS,
        take: cert::take,
    },
    Entry {
        name: "jwt",
        fields: jwt::FIELDS,
        take: jwt::take,
    },
    Entry {
        name: "gcp_iam",
        fields: gcp::IAM_FIELDS,
        take: gcp::take_iam,
    },
    Entry {
        name: "gcp_gce",
        fields: gcp::GCE_FIELDS,
        take: gcp::take_gce,
    },
    Entry {
        name: "azure",
        fields: azure::FIELDS,
        take: azure::take,
    },
    Entry {
        name: "aws_ec2",
        fields: aws_ec2::FIELDS,
        take: aws_ec2::take,
    },
    Entry {
        name: "aws_iam",
        fields: aws_iam::FIELDS,
        take: aws_iam::take,
    },
];

/// Reads `auth_method` and its fields.
///
/// # Errors
/// A field is wrong, is missing, or belongs to another method.
pub(super) fn take(fields: &mut Fields, around: &Surroundings<'_>) -> Result<Way, ConfigError> {
    let name = match fields.take("auth_method") {
        None => "token",
        Some(node) => node.word(&METHODS.map(|method| method.name))?,
    };
    let mut own = METHODS.iter().filter(|method| method.name == name);
    let Some(own) = own.next() else {
        return Err(fields.error("has no auth_method"));
    };
    let foreign = METHODS.iter().flat_map(|method| method.fields);
    for field in foreign.filter(|field| !own.fields.contains(field)) {
        if let Some(node) = fields.take(field) {
            let owners = METHODS
                .iter()
                .filter(|method| method.fields.contains(field));
            let owners: Vec<_> = owners.map(|method| method.name).collect();
            return Err(node.error(format!(
                "belongs to auth_method {}; this vault has {name}",
                owners.join(" or ")
            )));
        }
    }
    (own.take)(fields, around)
}

/// A field without which the method is nothing.
fn required(fields: &mut Fields, method: &str, name: &str) -> Result<Node, ConfigError> {
    let missing = |fields: &Fields| fields.error(missing(method, &format!("'{name}'")));
    fields.take(name).ok_or_else(|| missing(fields))
}

fn missing(method: &str, fields: &str) -> String {
    format!("the field {fields} is missing, which auth_method {method} needs")
}

/// A text with something in it, without the white space around it.
fn text(node: &Node) -> Result<String, ConfigError> {
    let text = node.text()?;
    match text.trim() {
        "" => Err(node.error("must not be empty")),
        trimmed => Ok(trimmed.to_owned()),
    }
}

/// The same, and secret.
fn secret(node: &Node) -> Result<Secret, ConfigError> {
    let given = node.secret()?;
    trimmed(given.expose()).ok_or_else(|| node.error("must not be empty"))
}

/// The path at which a method is enabled, as a login's path.
fn mounted(node: Option<Node>, usual: &str) -> Result<String, ConfigError> {
    let mount = node.map_or_else(|| Ok(usual.to_owned()), |node| segments(&node))?;
    Ok(format!("auth/{mount}/login"))
}

/// The whole path of a login, as in `/v1/auth/gcp/login`.
fn login_path(node: Option<Node>, usual: &str) -> Result<String, ConfigError> {
    let path = node.map_or_else(|| Ok(usual.to_owned()), |node| segments(&node))?;
    let below = path.strip_prefix("v1/").unwrap_or(&path);
    Ok(below.to_owned())
}

fn trimmed(bytes: &[u8]) -> Option<Secret> {
    let bytes = bytes.trim_ascii();
    (!bytes.is_empty()).then(|| Secret::new(bytes.to_vec()))
}

/// What a file holds now, without the white space around it.
async fn file(path: &str) -> Result<Secret, ReadError> {
    let unavailable = |why: &str| {
        let cause = format!("{path}, which the login needs, {why}");
        ReadError::new(ReadErrorKind::Unavailable, cause)
    };
    let read = tokio::fs::read(path).await;
    let read = read.map_err(|error| unavailable(&format!("cannot be read: {}", error.kind())))?;
    let content = Secret::new(read);
    trimmed(content.expose()).ok_or_else(|| unavailable("is empty"))
}

/// A secret as a member of a JSON body. It is wiped with the body.
fn member(secret: &Secret) -> Result<Value, ReadError> {
    let text = secret.expose_text().ok_or_else(|| {
        let cause = "what the login is to show is no text";
        ReadError::new(ReadErrorKind::Denied, cause)
    })?;
    Ok(Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests;
