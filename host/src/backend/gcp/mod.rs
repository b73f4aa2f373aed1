//! `gcp`: Google Secret Manager.
//!
//! The official client builds the call and takes the answer apart, over a transport of our own
//! (`transport.rs`): the client's own one takes proxies from the process environment, lets no CA be
//! given, follows redirects, and with its logging on prints the secrets that it has read. Its client
//! does not look at the checksum of a payload; that is done here. Names are checked here too, since
//! they go into the path of an address.
//!
//! Policies see `projects/<project>/secrets/<name>`, whatever the endpoint: an endpoint of a private
//! network or a region reaches the same secrets.

use std::borrow::Cow;
use std::error::Error as _;
use std::sync::Arc;

use futures::future::BoxFuture;
use google_cloud_secretmanager_v1::client::SecretManagerService;
use google_cloud_secretmanager_v1::model::AccessSecretVersionResponse;
use vaultref_contract::Secret;

use super::endpoint::Endpoint;
use super::network::{self, Network};
use super::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading, Spelling, USUAL_TTL};
use crate::config::{ConfigError, Fields, Node};
use crate::environment::Environment;
use credentials::Credentials;
use transport::{Failed, SERVER, Transport};

mod credentials;
mod transport;

pub(super) const KIND: Kind = Kind {
    name: "gcp",
    build,
    ttl: USUAL_TTL,
    reference_options: &[],
    spelling: Spelling::EXACT,
};

const GLOBAL: &str = "https://secretmanager.googleapis.com";

struct Manager {
    client: SecretManagerService,
    /// `projects/<project>/secrets/`, with the location between them if the secrets have one.
    parent: String,
}

fn build(
    fields: &mut Fields,
    environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    let project = project(&fields.require("project_id")?)?;
    let location = fields.take("location");
    let endpoint = match (fields.take("endpoint_url"), &location) {
        (Some(node), _) => Endpoint::read(&node)?,
        (None, None) => Endpoint::parse(GLOBAL).ok_or_else(|| fields.error("has no endpoint"))?,
        (None, Some(node)) => regional(node)?,
    };
    let within = match location {
        None => String::new(),
        Some(node) => format!("locations/{}/", location_name(&node)?),
    };
    let network = Network::take(fields, environment)?;
    let credentials = Credentials::take(fields, environment, &network)?;
    let http = network.client(endpoint.is_tls())?;
    Ok(Arc::new(Manager {
        client: SecretManagerService::from_stub(Transport::new(http, endpoint, credentials)),
        parent: format!("projects/{project}/{within}secrets/"),
    }))
}

/// Secrets of one location have an endpoint of their own.
fn regional(location: &Node) -> Result<Endpoint, ConfigError> {
    let name = location_name(location)?;
    Endpoint::parse(&format!("https://secretmanager.{name}.rep.googleapis.com"))
        .ok_or_else(|| location.error("has no endpoint of that name"))
}

fn project(node: &Node) -> Result<String, ConfigError> {
    let text = node.text()?;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Two names of one project would be two places for policies.
        return Err(node.error("must be the project's id, not its number"));
    }
    // A colon and dots stand in the ids of projects that belong to a domain.
    let is_id = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() < 100
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte)
        });
    if !is_id {
        return Err(node.error("must be a project's id"));
    }
    Ok(text)
}

fn location_name(node: &Node) -> Result<String, ConfigError> {
    let text = node.text()?;
    let is_name = (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if !is_name {
        return Err(node.error("must be the name of a location, such as europe-west1"));
    }
    Ok(text)
}

impl Backend for Manager {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.parent)
    }

    fn objects_are_texts(&self) -> bool {
        true
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        let name = asked.resource;
        let is_name = (1..=255).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !is_name {
            return Err(ReadError::new(
                ReadErrorKind::InvalidName,
                "a secret's name has 1 to 255 letters, digits, '-' and '_'",
            ));
        }
        let is_version = |version| i64::try_from(version).is_ok_and(|version| version > 0);
        if !asked.version.is_none_or(is_version) {
            return Err(ReadError::new(
                ReadErrorKind::NotFound,
                "versions are counted from 1",
            ));
        }
        Ok(Object {
            scope: self.parent.clone(),
            path: name.to_owned(),
            version: asked.version,
            alias: None,
        })
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let version = match object.version {
            None => "latest".to_owned(),
            Some(version) => version.to_string(),
        };
        let name = format!("{}{}/versions/{version}", self.parent, object.path);
        Box::pin(async move {
            let answer = self.client.access_secret_version().set_name(name).send();
            match answer.await {
                Ok(answer) => verified(answer),
                Err(error) => {
                    let failed = error.source().and_then(|cause| cause.downcast_ref());
                    Err(failed.map_or_else(
                        || network::unreadable(SERVER),
                        |Failed(error)| error.clone(),
                    ))
                }
            }
        })
    }
}

/// The payload, if it is what was put there. The real service gives a checksum with each.
fn verified(answer: AccessSecretVersionResponse) -> Result<Reading, ReadError> {
    let payload = answer.payload.ok_or_else(|| network::unreadable(SERVER))?;
    let checksum = payload.data_crc32c;
    let content = Secret::new(payload.data.into());
    if checksum.is_some_and(|sum| sum != i64::from(crc32c::crc32c(content.expose()))) {
        return Err(ReadError::transient(
            "the payload does not match its checksum",
        ));
    }
    Ok(Reading::new(content))
}

#[cfg(test)]
mod tests;
