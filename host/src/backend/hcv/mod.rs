//! `hcv`: the key-value engines (v1 and v2) of HashiCorp Vault and OpenBao.
//!
//! Here are a vault's fields and the reading of an object. `address` says where a vault is, `server`
//! makes the calls, `login` has a file for each family of logins, and `tokens` keeps what they give.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::endpoint;
use super::network::{self, Network};
use super::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading, Spelling, USUAL_TTL};
use crate::config::{ConfigError, Fields};
use crate::environment::Environment;
use crate::value::Wiped;

mod address;
mod login;
mod server;
mod tokens;

use address::{is_path, segments};
use login::{Outside, Surroundings};
use server::{Call, Failure, Server, WHO};
use tokens::{Ticket, Tokens};

pub(super) const KIND: Kind = Kind {
    name: "hcv",
    build,
    ttl: USUAL_TTL,
    reference_options: &[],
    spelling: Spelling::EXACT,
};

/// A mount of a key-value engine.
struct Engine {
    tokens: Arc<Tokens>,
    mount: String,
    version: Version,
    scope: String,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Version {
    V1,
    V2,
}

fn build(
    fields: &mut Fields,
    environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    let engine = Engine::take(fields, environment, &Outside::real())?;
    Ok(Arc::new(engine))
}

impl Engine {
    fn take(
        fields: &mut Fields,
        environment: &Arc<Environment>,
        outside: &Outside,
    ) -> Result<Self, ConfigError> {
        let url = address::address(fields)?;
        let mount = match fields.take("mount") {
            None => "secret".to_owned(),
            Some(node) => segments(&node)?,
        };
        let version = match fields.take("kv") {
            None => Version::V1,
            Some(node) => match node.word(&["v1", "v2"])? {
                "v2" => Version::V2,
                _ => Version::V1,
            },
        };
        let namespace = fields.take("namespace").map(|node| segments(&node));
        let namespace = namespace.transpose()?;
        let network = Arc::new(Network::take(fields, environment)?);
        let tls = url.scheme() == "https";
        let http = network.client(tls)?;
        let data = if version == Version::V2 { "data/" } else { "" };
        let within = namespace.iter().map(|namespace| format!("{namespace}/"));
        let place = endpoint::place(&url);
        let scope = format!("{place}/v1/{}{mount}/{data}", within.collect::<String>());
        let around = Surroundings {
            tls,
            network,
            environment,
            outside,
        };
        let way = login::take(fields, &around)?;
        Ok(Self {
            tokens: Tokens::new(Server::new(url, namespace, http), way),
            mount,
            version,
            scope,
        })
    }

    async fn ask(&self, ticket: &Ticket, object: &Object) -> Result<Wiped, Failure> {
        let (mount, path) = (&self.mount, &object.path);
        let mut call = match self.version {
            Version::V1 => Call::get(format!("{mount}/{path}")),
            Version::V2 => Call::get(format!("{mount}/data/{path}")),
        };
        if let Some(version) = object.version {
            call = call.query("version", version.to_string());
        }
        let server = self.tokens.server();
        server
            .call(&ticket.http, call.with_token(&ticket.token))
            .await
    }

    /// Asks, and once more with a newer token if this one is refused.
    async fn answer(&self, object: &Object) -> Result<Wiped, Failure> {
        let login = self.tokens.current().await?;
        let answer = self.ask(&login.token, object).await;
        match answer {
            Ok(answer) => {
                self.tokens.took(&login);
                Ok(answer)
            }
            Err(failure) if failure.code() == Some(403) => match self.tokens.newer(&login).await? {
                Some(newer) => self.ask(&newer.token, object).await,
                None => Err(failure),
            },
            Err(failure) => Err(failure),
        }
    }
}

impl Backend for Engine {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.scope)
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        if !is_path(asked.resource) {
            return Err(ReadError::new(
                ReadErrorKind::InvalidName,
                "a path has no control character and no empty name, '.' or '..' between slashes",
            ));
        }
        // Zero is the engine's own word for the latest.
        let version = asked.version.filter(|version| *version > 0);
        if version.is_some() && self.version == Version::V1 {
            return Err(ReadError::new(
                ReadErrorKind::NotFound,
                "the key-value engine v1 has no versions",
            ));
        }
        Ok(Object {
            scope: self.scope.clone(),
            path: asked.resource.to_owned(),
            version,
            alias: None,
        })
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        Box::pin(async move {
            let answer = self.answer(object).await;
            let mut answer = answer.map_err(Failure::of_read)?;
            let lease = answer.0["lease_duration"].as_u64();
            let data = match self.version {
                Version::V1 => answer.take("/data"),
                Version::V2 => answer.take("/data/data"),
            };
            reading(&Wiped(data), lease.filter(|_| self.version == Version::V1))
        })
    }
}

/// What an object's data are for the resolver; `lease` is the engine's, in seconds.
fn reading(data: &Wiped, lease: Option<u64>) -> Result<Reading, ReadError> {
    let object = Some(data).filter(|data| data.0.is_object());
    let content = object.and_then(Wiped::text);
    let content = content.ok_or_else(|| network::unreadable(WHO))?;
    // The engine's lease is the secret's own `ttl`; without one it is a number of no meaning.
    let lease = lease.filter(|_| data.0.get("ttl").is_some());
    Ok(Reading {
        content,
        ttl: lease.map(Duration::from_secs),
    })
}

#[cfg(test)]
mod tests;
