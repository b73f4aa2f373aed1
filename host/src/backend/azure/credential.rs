//! Who asks the vault: which credentials there are, in which order they are looked for, and the one
//! token that all reads of a vault share.
//!
//! It is composed here rather than by the SDK's own chains, since those read the variables of the
//! process (`AZURE_AUTHORITY_HOST`, `IDENTITY_ENDPOINT` and their like) and call programs. The
//! SDK's credentials for a client secret and for a federated token are used with all that they
//! would look up given to them. Each login has a new one: theirs keep a token until it runs out,
//! whatever the vault says about it.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{
    AccessToken, Secret as SdkSecret, TokenCredential, TokenRequestOptions,
};
use azure_core::http::{ClientMethodOptions, ClientOptions};
use azure_core::time::OffsetDateTime;
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions,
    ClientSecretCredential, ClientSecretCredentialOptions,
};
use vaultref_contract::Secret;

use super::managed::Managed;
use super::transport::{Asks, failed, options, refused};
use crate::backend::network::Network;
use crate::backend::session::{Login, Session, YOUNG};
use crate::backend::{ReadError, ReadErrorKind};
use crate::config::{ConfigError, Fields, Node};
use crate::environment::Environment;

const AUTHORITY_VARIABLE: &str = "AZURE_AUTHORITY_HOST";

/// What Azure's webhook for workload identity puts into a pod's environment.
const FEDERATED_TOKEN_VARIABLE: &str = "AZURE_FEDERATED_TOKEN_FILE";

/// Where logins of the public cloud go.
const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";

/// The credentials of one vault and the token got with them.
pub(super) struct Credential {
    source: Source,
    session: Session<SdkSecret>,
    /// The login whose token was given last.
    given: Mutex<Option<Given>>,
}

/// A login, and what its token is for.
#[derive(Clone)]
pub(super) struct Given {
    login: Arc<Login<SdkSecret>>,
    scope: String,
}

/// What proves who asks.
enum Source {
    ClientSecret {
        principal: Principal,
        secret: Secret,
    },
    Managed(Managed),
    WorkloadIdentity {
        principal: Principal,
        token_file: PathBuf,
    },
}

/// An application of Entra ID, and where it logs in.
struct Principal {
    tenant: String,
    client: String,
    authority: Arc<CloudConfiguration>,
    http: reqwest::Client,
}

impl Credential {
    /// Takes the fields `client_id`, `tenant_id` and `credentials_prefix`, and what belongs to them out
    /// of the environment. The first that is there counts: a client secret, a federated token, else
    /// the managed identity of the machine. Reads no file and asks nobody.
    ///
    /// # Errors
    /// A field is wrong, or something that belongs to the credentials is missing.
    pub(super) fn take(
        fields: &mut Fields,
        environment: &Environment,
        network: &Network,
        host: &str,
    ) -> Result<Self, ConfigError> {
        let prefix = match fields.take("credentials_prefix") {
            None => "AZURE".to_owned(),
            Some(node) => variable_start(&node)?,
        };
        let client = fields
            .take("client_id")
            .map(|node| identifier(&node))
            .transpose()?;
        let tenant = fields
            .take("tenant_id")
            .map(|node| identifier(&node))
            .transpose()?;
        let variable = |name: &str| text(environment, &format!("{prefix}_{name}"));
        let client = client.map_or_else(|| variable("CLIENT_ID"), |id| Ok(Some(id)))?;
        let tenant = tenant.map_or_else(|| variable("TENANT_ID"), |id| Ok(Some(id)))?;

        let source = if let Some(secret) = variable("CLIENT_SECRET")?.map(Secret::from) {
            let missing = |what: &str, variable: &str| {
                fields.error(format!(
                    "the field '{what}' or the variable {prefix}_{variable} must be there, since \
                     {prefix}_CLIENT_SECRET is"
                ))
            };
            Source::ClientSecret {
                principal: Principal {
                    tenant: tenant.ok_or_else(|| missing("tenant_id", "TENANT_ID"))?,
                    client: client.ok_or_else(|| missing("client_id", "CLIENT_ID"))?,
                    authority: authority(environment, host)?,
                    http: network.client_beside()?,
                },
                secret,
            }
        } else if let Some(file) = text(environment, FEDERATED_TOKEN_VARIABLE)? {
            // Next to the file the webhook gives both ids, under these names whatever the prefix.
            let beside = |id: Option<String>, what: &str, variable: &str| match id {
                Some(id) => Ok(id),
                None => text(environment, variable)?.ok_or_else(|| {
                    fields.error(format!(
                        "the field '{what}' or the variable {variable} must be there, since \
                         {FEDERATED_TOKEN_VARIABLE} is"
                    ))
                }),
            };
            Source::WorkloadIdentity {
                principal: Principal {
                    tenant: beside(tenant, "tenant_id", "AZURE_TENANT_ID")?,
                    client: beside(client, "client_id", "AZURE_CLIENT_ID")?,
                    authority: authority(environment, host)?,
                    http: network.client_beside()?,
                },
                token_file: file.into(),
            }
        } else {
            Source::Managed(Managed::take(client, environment)?)
        };
        Ok(Self {
            source,
            session: Session::new(),
            given: Mutex::default(),
        })
    }

    /// The login whose token is shown to the vault now; none before the first.
    pub(super) fn given(&self) -> Option<Given> {
        self.given
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The vault refused what was asked with this login. Says whether there is a newer one, with
    /// which it is worth asking once more.
    ///
    /// # Errors
    /// It would be worth it, but there is none.
    pub(super) async fn renew(&self, refused: &Given) -> Result<bool, ReadError> {
        let login = async || self.source.login(&[&refused.scope]).await;
        let newer = self.session.replace(&refused.login, YOUNG, login).await?;
        Ok(newer.is_some())
    }

    #[cfg(test)]
    pub(super) fn kind(&self) -> &'static str {
        match self.source {
            Source::ClientSecret { .. } => "client secret",
            Source::Managed(_) => "managed identity",
            Source::WorkloadIdentity { .. } => "workload identity",
        }
    }
}

/// Never shows what it holds.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(redacted)")
    }
}

#[async_trait]
impl TokenCredential for Credential {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let login = self
            .session
            .current(async |_| self.source.login(scopes).await);
        let login = login.await.map_err(refused)?;
        let token = login.token.clone();
        let given = Given {
            login,
            scope: scopes.first().copied().unwrap_or_default().to_owned(),
        };
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(given);
        // The SDK would keep a token that lasts. With one that is over it asks here each time, where
        // the session decides.
        Ok(AccessToken::new(token, OffsetDateTime::UNIX_EPOCH))
    }
}

impl Source {
    async fn login(&self, scopes: &[&str]) -> Result<Login<SdkSecret>, ReadError> {
        let made = match self {
            Self::ClientSecret { principal, secret } => {
                let secret = secret.expose_text().unwrap_or_default().to_owned();
                let credential = ClientSecretCredential::new(
                    &principal.tenant,
                    principal.client.clone(),
                    SdkSecret::new(secret),
                    Some(ClientSecretCredentialOptions {
                        client_options: principal.options(),
                    }),
                );
                token(credential, scopes).await
            }
            Self::Managed(managed) => return managed.login(scopes).await,
            Self::WorkloadIdentity {
                principal,
                token_file,
            } => {
                let credential = ClientAssertionCredential::new(
                    principal.tenant.clone(),
                    principal.client.clone(),
                    TokenFile(token_file.clone()),
                    Some(ClientAssertionCredentialOptions {
                        client_options: principal.options(),
                    }),
                );
                token(credential, scopes).await
            }
        };
        let made = made.map_err(|error| failed(Asks::Login, &error))?;
        let lease = made.expires_on - OffsetDateTime::now_utc();
        let lease = Duration::try_from(lease).unwrap_or_default();
        Ok(Login::leased(made.token, lease))
    }
}

async fn token<C: TokenCredential>(
    credential: azure_core::Result<Arc<C>>,
    scopes: &[&str],
) -> azure_core::Result<AccessToken> {
    credential?.get_token(scopes, None).await
}

impl Principal {
    fn options(&self) -> ClientOptions {
        ClientOptions {
            // Without it the SDK would look for the variable in the process.
            cloud: Some(Arc::clone(&self.authority)),
            ..options(&self.http, Asks::Login)
        }
    }
}

/// A token that Kubernetes keeps fresh in a file: read anew for each login.
#[derive(Debug)]
struct TokenFile(PathBuf);

#[async_trait]
impl ClientAssertion for TokenFile {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let read = tokio::fs::read_to_string(&self.0).await;
        let text = read.map_err(|error| {
            refused(ReadError::new(
                ReadErrorKind::Unavailable,
                format!(
                    "the file of {FEDERATED_TOKEN_VARIABLE} cannot be read: {}",
                    error.kind()
                ),
            ))
        })?;
        Ok(text.trim().to_owned())
    }
}

/// Where to log in: what the environment says, else what belongs to the vault's cloud.
fn authority(
    environment: &Environment,
    host: &str,
) -> Result<Arc<CloudConfiguration>, ConfigError> {
    let given = text(environment, AUTHORITY_VARIABLE)?;
    let cloud = match given {
        Some(given) => {
            let address = if given.contains("://") {
                given
            } else {
                format!("https://{given}")
            };
            let url = reqwest::Url::parse(&address).ok();
            if !url.is_some_and(|url| url.scheme() == "https" && url.has_host()) {
                return Err(ConfigError::new(
                    AUTHORITY_VARIABLE,
                    "must be an https address",
                ));
            }
            custom(address)
        }
        None if host.ends_with(".vault.azure.cn") => CloudConfiguration::AzureChina,
        None if host.ends_with(".vault.usgovcloudapi.net") => CloudConfiguration::AzureGovernment,
        None => custom(PUBLIC_AUTHORITY.to_owned()),
    };
    Ok(Arc::new(cloud))
}

fn custom(authority_host: String) -> CloudConfiguration {
    let mut custom = CustomConfiguration::default();
    custom.authority_host = authority_host;
    custom.into()
}

/// A variable's text without white space at its ends; none if it is not set or empty.
pub(super) fn text(environment: &Environment, name: &str) -> Result<Option<String>, ConfigError> {
    let Some(value) = environment.value(name) else {
        return Ok(None);
    };
    let text = value
        .expose_text()
        .ok_or_else(|| ConfigError::new(name, "is not UTF-8"))?
        .trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// The id of a tenant or a client: a UUID, or a tenant's domain.
fn identifier(node: &Node) -> Result<String, ConfigError> {
    let text = node.text()?;
    let shaped = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if text.is_empty() || !text.chars().all(shaped) {
        return Err(node.error("must be letters, digits, '-' and '.'"));
    }
    Ok(text)
}

fn variable_start(node: &Node) -> Result<String, ConfigError> {
    let text = node.text()?;
    let shaped = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty()
        || text.starts_with(|c: char| c.is_ascii_digit())
        || !text.chars().all(shaped)
    {
        return Err(node.error("must be letters, digits and '_', and not start with a digit"));
    }
    Ok(text)
}
