//! Whose AWS credentials sign: those in the fields, those in the environment, or what the SDK's own
//! chain finds (profile, web identity, container, instance metadata); and the role that is assumed
//! with them.

use std::error::Error;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use reqwest::Url;
use vaultref_contract::Secret;

use super::{secret, text};
use crate::backend::{ReadError, ReadErrorKind};
use crate::config::{ConfigError, Fields};
use crate::environment::Environment;

/// Where credentials come from.
pub(super) struct Source {
    region: String,
    /// Where the role is assumed.
    endpoint: Url,
    keys: Option<Keys>,
    role: Option<Role>,
}

struct Keys {
    id: Secret,
    secret: Secret,
    session: Option<Secret>,
}

struct Role {
    arn: String,
    session_name: String,
}

impl Source {
    pub(super) fn take(
        fields: &mut Fields,
        environment: &Environment,
        region: &str,
        endpoint: &Url,
    ) -> Result<Self, ConfigError> {
        let session_name = match fields.take("aws_role_session_name") {
            None => "KongVault".to_owned(),
            Some(node) => text(&node)?,
        };
        let arn = fields.take("aws_assume_role_arn");
        let arn = arn.map(|node| text(&node)).transpose()?;
        Ok(Self {
            region: region.to_owned(),
            endpoint: endpoint.clone(),
            keys: Keys::take(fields, environment)?,
            role: arn.map(|arn| Role { arn, session_name }),
        })
    }

    /// The credentials of now.
    ///
    /// # Errors
    /// There are none, or who should give them cannot be reached.
    pub(super) async fn credentials(&self) -> Result<Credentials, ReadError> {
        // Where asking again may help, the resolver does.
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .retry_config(RetryConfig::disabled());
        if let Some(keys) = &self.keys {
            loader = loader.credentials_provider(keys.credentials().ok_or_else(no_answer)?);
        }
        let config = loader.load().await;
        let Some(role) = &self.role else {
            let provider = config.credentials_provider().ok_or_else(no_answer)?;
            return provided(&provider).await;
        };
        let at_endpoint = config.into_builder().endpoint_url(self.endpoint.as_str());
        let provider = AssumeRoleProvider::builder(&role.arn)
            .session_name(&role.session_name)
            .configure(&at_endpoint.build())
            .build();
        provided(&provider.await).await
    }
}

impl Keys {
    /// From the fields, or from the environment; none: the SDK's chain finds credentials.
    fn take(fields: &mut Fields, environment: &Environment) -> Result<Option<Self>, ConfigError> {
        let id = fields.take("aws_access_key_id");
        match (id, fields.take("aws_secret_access_key")) {
            (Some(id), Some(key)) => Ok(Some(Self {
                id: secret(&id)?,
                secret: secret(&key)?,
                session: None,
            })),
            (Some(id), None) => Err(id.error("needs 'aws_secret_access_key' beside it")),
            (None, Some(key)) => Err(key.error("needs 'aws_access_key_id' beside it")),
            (None, None) => {
                let value = |name| environment.value(name).filter(|value| !value.is_empty());
                let keys = value("AWS_ACCESS_KEY_ID").zip(value("AWS_SECRET_ACCESS_KEY"));
                Ok(keys.map(|(id, key)| Self {
                    id: id.duplicate(),
                    secret: key.duplicate(),
                    session: value("AWS_SESSION_TOKEN").map(Secret::duplicate),
                }))
            }
        }
    }

    fn credentials(&self) -> Option<Credentials> {
        let session = self.session.as_ref();
        Some(Credentials::new(
            self.id.expose_text()?,
            self.secret.expose_text()?,
            session.and_then(Secret::expose_text).map(str::to_owned),
            None,
            "vaultref",
        ))
    }
}

async fn provided(provider: &impl ProvideCredentials) -> Result<Credentials, ReadError> {
    provider.provide_credentials().await.map_err(|error| {
        let denied = |cause| ReadError::new(ReadErrorKind::Denied, cause);
        match &error {
            CredentialsError::CredentialsNotLoaded(_) => denied("no AWS credentials are found"),
            CredentialsError::InvalidConfiguration(_) => {
                denied("what says where AWS credentials are is wrong")
            }
            CredentialsError::ProviderTimedOut(_) => no_answer(),
            _ if is_outage(&error) => no_answer(),
            _ => denied("AWS gives no credentials"),
        }
    })
}

/// An answer that says no is told from no answer by what the SDK calls them.
fn is_outage(error: &CredentialsError) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if text == "dispatch failure" || text == "request has timed out" {
            return true;
        }
        source = error.source();
    }
    false
}

fn no_answer() -> ReadError {
    ReadError::transient("AWS cannot be reached for credentials")
}
