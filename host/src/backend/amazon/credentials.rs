//! Whose credentials: the SDK's own chain, then a role if one is to be taken on.
//!
//! The chain (environment, profile, web identity, container, instance) is run anew each time, so that
//! a file that has changed is seen, and sees the variables that were handed in and no others. Why it
//! gave nothing is told by the last exchange that it had: the SDK's errors do not say whether a source
//! is away or refuses, and may quote what it answered.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::Arc;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_types::os_shim_internal::{Env, Fs};

use super::transport::{Transport, call_timeout};
use crate::backend::{ReadError, ReadErrorKind};
use crate::environment::Environment;

/// All that it takes to get credentials.
pub(crate) struct Chain {
    pub(crate) region: String,
    /// Of the token service; none: AWS's own.
    pub(crate) sts_endpoint: Option<String>,
    /// Taken on with the credentials that the chain gives.
    pub(crate) role: Option<Role>,
    pub(crate) http: reqwest::Client,
    pub(crate) environment: Arc<Environment>,
}

/// A role that is taken on.
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) session_name: String,
}

impl Chain {
    /// The credentials of now.
    ///
    /// # Errors
    /// `denied`: there are none, or they are refused. `unavailable`: their source is away, or the
    /// files and variables that say how to get them cannot be used.
    pub(crate) async fn credentials(&self) -> Result<Credentials, ReadError> {
        let transport = Transport::new(self.http.clone());
        self.provided(&transport).await.map_err(|error| {
            // An exchange that failed is nearer to the cause.
            transport.trouble().unwrap_or_else(|| explained(&error))
        })
    }

    async fn provided(&self, transport: &Transport) -> Result<Credentials, CredentialsError> {
        let config = aws_config::defaults(BehaviorVersion::latest())
            .env(self.variables())
            .fs(Fs::real())
            .region(Region::new(self.region.clone()))
            .http_client(transport.clone())
            // Where asking again may help, the resolver does.
            .retry_config(RetryConfig::disabled())
            .timeout_config(call_timeout())
            .load()
            .await;
        let none = || CredentialsError::not_loaded("no provider");
        let own = config.credentials_provider().ok_or_else(none)?;
        match &self.role {
            None => own.provide_credentials().await,
            Some(role) => taken_on(role, &config, own).await,
        }
    }

    /// The variables that the chain may see.
    fn variables(&self) -> Env {
        let of_aws = self
            .environment
            .starting_with("AWS_")
            .map(|(name, value)| (format!("AWS_{name}"), value));
        let home = self.environment.value("HOME");
        let mut variables: HashMap<_, _> = of_aws
            .chain(home.map(|value| ("HOME".to_owned(), value)))
            .filter_map(|(name, value)| Some((name, value.expose_text()?.to_owned())))
            .collect();
        // In this way it reaches every call to the token service: for web identity and for the roles
        // of profiles as well as for the vault's own.
        if let Some(endpoint) = &self.sts_endpoint {
            let mut set = |name: &str, value: &str| variables.insert(name.into(), value.into());
            set("AWS_ENDPOINT_URL_STS", endpoint);
            set("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "false");
        }
        Env::from(variables)
    }
}

async fn taken_on(
    role: &Role,
    config: &SdkConfig,
    own: SharedCredentialsProvider,
) -> Result<Credentials, CredentialsError> {
    // Asked here, and not by the SDK on its way, so that an error is the chain's own.
    let own = own.provide_credentials().await?;
    AssumeRoleProvider::builder(&role.arn)
        .session_name(&role.session_name)
        .configure(config)
        .build_from_provider(own)
        .await
        .provide_credentials()
        .await
}

/// What an error of the chain means if no exchange failed. Its text may quote files and the output of
/// programs.
fn explained(error: &CredentialsError) -> ReadError {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => ReadError::new(
            ReadErrorKind::Denied,
            "there are no AWS credentials: none in environment, profile, web identity, container or instance metadata",
        ),
        CredentialsError::ProviderTimedOut(_) => {
            ReadError::transient("the source of the AWS credentials does not answer")
        }
        CredentialsError::InvalidConfiguration(_) => ReadError::new(
            ReadErrorKind::Unavailable,
            "the profile or variables that say where AWS credentials come from cannot be used",
        ),
        _ => ReadError::new(
            ReadErrorKind::Unavailable,
            match io_kind(error) {
                Some(kind) => format!("the AWS credentials cannot be loaded: {kind}"),
                None => "the AWS credentials cannot be loaded".to_owned(),
            },
        ),
    }
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}
