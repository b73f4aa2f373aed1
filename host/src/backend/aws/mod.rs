//! `aws`: AWS Secrets Manager, through the official SDK.
//!
//! A vault is one account in one region, as its credentials see it, and a secret in it has one
//! canonical form: its name. An ARN is the same secret spelled longer. The SDK is given all that it
//! would look for by itself: the environment, the HTTP client, and that it does not retry.
//!
//! What it never does: write, list, or read a secret of another account. Such a one could be reached
//! by ARN where its policy allows, but policy here is about names, which would then mean two things.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::primitives::Blob;
use futures::future::BoxFuture;
use vaultref_contract::Secret;

use super::amazon::answer::{About, Refusal};
use super::amazon::credentials::Chain;
use super::network::{self, Network};
use super::session::{Login, Session};
use super::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading, Spelling, USUAL_TTL};
use crate::config::{ConfigError, Fields};
use crate::environment::Environment;
use batch::Batching;
use login::Logins;
use name::Name;

mod batch;
mod fields;
mod login;
mod name;
#[cfg(test)]
mod tests;
mod version;

use version::{Stage, Version};

/// What errors call the service.
const SERVICE: &str = "AWS Secrets Manager";

pub(super) const KIND: Kind = Kind {
    name: "aws",
    build,
    ttl: USUAL_TTL,
    reference_options: &[],
    spelling: Spelling {
        // A pattern of an `allow` must be a name: it would have to be held against region and account.
        pattern: str::to_owned,
        loosely: name::without_arn,
    },
};

struct Server {
    scope: String,
    logins: Logins,
    session: Session<Client>,
    /// The vault's own account; zero until it is known.
    account: AtomicU64,
    batching: Batching,
}

fn build(
    fields: &mut Fields,
    environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    let place = fields::Place::take(fields, environment)?;
    let sts_endpoint = fields::sts_endpoint(fields)?;
    let role = fields::role(fields)?;
    let network = Network::take(fields, environment)?;
    let is_plain = |endpoint: &Option<String>| {
        let endpoint = endpoint.as_deref();
        endpoint.is_some_and(|endpoint| endpoint.starts_with("http:"))
    };
    let http = match network.client(true) {
        // The system's certificates may be missing where nobody needs them.
        Err(_) if is_plain(&place.endpoint) => network.client(false)?,
        made => made?,
    };
    let (role, account) = role.unzip();
    Ok(Arc::new(Server {
        account: AtomicU64::new(account.unwrap_or_default()),
        scope: place.scope(),
        logins: Logins {
            endpoint: place.endpoint,
            chain: Chain {
                region: place.region,
                sts_endpoint,
                role,
                http,
                environment: Arc::clone(environment),
            },
        },
        session: Session::new(),
        batching: Batching::new(),
    }))
}

impl Backend for Server {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.scope)
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        let stage = Stage::numbered(asked.version)?;
        let name = Name::parse(asked.resource, &self.logins.chain.region)?;
        let own = self.account.load(Ordering::Acquire);
        // Until the vault's account is known, an account that is claimed is kept to be held against
        // the answer.
        let claimed = name.account.filter(|_| own == 0);
        if claimed.is_none() && name.account.is_some_and(|account| account != own) {
            return Err(elsewhere());
        }
        Ok(Object {
            scope: self.scope.clone(),
            path: name.text,
            version: Version { stage, claimed }.number(),
            alias: None,
        })
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        Box::pin(self.read_one(object))
    }

    fn batch(&self) -> usize {
        batch::MOST
    }

    fn read_batch<'a>(
        &'a self,
        objects: &'a [Object],
    ) -> BoxFuture<'a, Vec<Result<Reading, ReadError>>> {
        Box::pin(self.read_many(objects))
    }
}

impl Server {
    async fn read_one(&self, object: &Object) -> Result<Reading, ReadError> {
        let version = Version::of(object.version);
        let name = &object.path;
        let answer = self
            .ask(|client| {
                let call = client.get_secret_value().secret_id(name);
                let call = match version.stage {
                    Stage::Current => call,
                    Stage::Previous => call.version_stage("AWSPREVIOUS"),
                };
                async {
                    call.send()
                        .await
                        .map_err(|error| Refusal::of(SERVICE, &error))
                }
            })
            .await
            .map_err(|refusal| refusal.error)?;
        let given = Given {
            arn: answer.arn,
            name: answer.name,
            text: answer.secret_string,
            bytes: answer.secret_binary,
        };
        self.taken(object, given)
    }

    /// Makes a call; once more with other credentials if these are refused.
    async fn ask<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let login = self.logged_in().await?;
        let refusal = match call(login.token.clone()).await {
            Err(refusal) if refusal.about == About::Credentials => refusal,
            result => return result,
        };
        if !self.session.forget(&login).await {
            return Err(refusal);
        }
        let login = self.logged_in().await?;
        call(login.token.clone()).await
    }

    async fn logged_in(&self) -> Result<Arc<Login<Client>>, Refusal> {
        let login = async |before: Option<&Login<Client>>| match before {
            None => self.logins.login().await,
            Some(_) => self.logins.renew().await,
        };
        self.session.current(login).await.map_err(|error| Refusal {
            error,
            about: About::Credentials,
            is_coded: false,
        })
    }

    /// Takes a secret out of an answer, if it is the one that was asked for.
    fn taken(&self, object: &Object, given: Given) -> Result<Reading, ReadError> {
        let account = given.arn.as_deref().and_then(name::account);
        let (Some(account), Some(name)) = (account, given.name) else {
            return Err(network::unreadable(SERVICE));
        };
        if name != object.path {
            return Err(network::unreadable(SERVICE));
        }
        // A name means one of the vault's own account.
        self.account.store(account, Ordering::Release);
        if Version::of(object.version)
            .claimed
            .is_some_and(|claimed| claimed != account)
        {
            return Err(elsewhere());
        }
        let content = match (given.text, given.bytes) {
            (Some(text), _) => Secret::from(text),
            (None, Some(bytes)) => Secret::new(bytes.into_inner()),
            (None, None) => {
                return Err(ReadError::new(
                    ReadErrorKind::NotFound,
                    "the secret has no value",
                ));
            }
        };
        Ok(Reading::new(content))
    }
}

/// A secret as an answer has it.
struct Given {
    arn: Option<String>,
    name: Option<String>,
    text: Option<String>,
    bytes: Option<Blob>,
}

fn elsewhere() -> ReadError {
    ReadError::new(
        ReadErrorKind::Denied,
        "the ARN is one of another account than the vault's",
    )
}
