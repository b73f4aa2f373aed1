//! `cert`: a client certificate, shown on the connection itself.
//!
//! The server asks for it again when the token is renewed, so the token stays with the client that
//! shows it. Files are read at each login, since short-lived certificates are written anew.

use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::{Client, Identity};
use serde_json::json;
use vaultref_contract::Secret;

use super::{Method, Proof, Surroundings, Way, file, required, secret, text};
use crate::backend::hcv::server::Server;
use crate::backend::network::Network;
use crate::backend::{ReadError, ReadErrorKind};
use crate::config::{ConfigError, Fields, Node};
use crate::value::Wiped;

pub(super) const FIELDS: &[&str] = &[
    "cert_auth_cert",
    "cert_auth_cert_key",
    "cert_auth_role_name",
];

struct Certificate {
    network: Arc<Network>,
    certificate: Pem,
    key: Pem,
    role: Option<String>,
}

/// PEM, or the file that holds it.
enum Pem {
    File(String),
    Text(Secret),
}

pub(super) fn take(fields: &mut Fields, around: &Surroundings<'_>) -> Result<Way, ConfigError> {
    let certificate = required(fields, "cert", "cert_auth_cert")?;
    let key = required(fields, "cert", "cert_auth_cert_key")?;
    let role = fields.take("cert_auth_role_name");
    let role = role.map(|node| text(&node)).transpose()?;
    if !around.tls {
        return Err(fields.error("auth_method cert needs protocol https"));
    }
    let method = Certificate {
        network: Arc::clone(&around.network),
        certificate: Pem::take(&certificate)?,
        key: Pem::take(&key)?,
        role,
    };
    // What stands in the configuration itself can be checked now.
    if let (Pem::Text(certificate), Pem::Text(pem)) = (&method.certificate, &method.key) {
        let usable = method.client(certificate, pem);
        usable.map_err(|_| key.error("is not the key of 'cert_auth_cert', or one is no PEM"))?;
    }
    Ok(Way::Method(Box::new(method)))
}

impl Pem {
    fn take(node: &Node) -> Result<Self, ConfigError> {
        let given = secret(node)?;
        if given.expose().starts_with(b"-----BEGIN") {
            return Ok(Self::Text(given));
        }
        text(node).map(Self::File)
    }

    async fn read(&self) -> Result<Secret, ReadError> {
        match self {
            Self::File(path) => file(path).await,
            Self::Text(pem) => Ok(pem.duplicate()),
        }
    }
}

impl Certificate {
    fn client(&self, certificate: &Secret, key: &Secret) -> Result<Client, ConfigError> {
        let mut pem = Vec::with_capacity(certificate.len() + 1 + key.len());
        pem.extend_from_slice(certificate.expose());
        pem.push(b'\n');
        pem.extend_from_slice(key.expose());
        let pem = Secret::new(pem);
        let identity = Identity::from_pem(pem.expose())
            .map_err(|_| ConfigError::new("", "no certificate with its key"))?;
        self.network
            .client_with(true, |builder| builder.identity(identity))
    }
}

impl Method for Certificate {
    fn name(&self) -> &'static str {
        "cert"
    }

    fn proof<'a>(&'a self, _: &'a Server) -> BoxFuture<'a, Result<Proof, ReadError>> {
        Box::pin(async {
            let (certificate, key) = (self.certificate.read().await?, self.key.read().await?);
            let http = self.client(&certificate, &key).map_err(|_| {
                let cause = "the client certificate cannot be used with its key";
                ReadError::new(ReadErrorKind::Denied, cause)
            })?;
            let body = match &self.role {
                Some(role) => json!({ "name": role }),
                None => json!({}),
            };
            Ok(Proof {
                path: "auth/cert/login".to_owned(),
                body: Wiped(body),
                http: Some(http),
            })
        })
    }
}
