//! Whose credentials a vault has: the SDK's own chain, then a role if one is to be taken on.
//!
//! The chain (environment, profile, web identity, container, instance) is run anew for each login,
//! so that a file that has changed is seen, and sees the variables that were handed in and no
//! others. Why it gave nothing is told by the last exchange that it had: the SDK's errors do not say
//! whether a source is away or refuses, and may quote what it answered.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::config::{
    Credentials, IdentityCache, ProvideCredentials, Region, SharedCredentialsProvider,
    StalledStreamProtectionConfig,
};
use aws_sdk_secretsmanager::{Client, Config};
use aws_types::os_shim_internal::{Env, Fs};
use tokio::time::timeout;

use super::transport::Transport;
use crate::backend::session::Login;
use crate::backend::{ReadError, ReadErrorKind};
use crate::environment::Environment;

/// For one call of the SDK, where the vault's own timeout is longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// For new credentials while the old ones still hold, so that a source that hangs takes no read along.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(1);

/// All that it takes to log in.
pub(super) struct Logins {
    pub(super) region: String,
    /// Of Secrets Manager; none: AWS's own.
    pub(super) endpoint: Option<String>,
    /// Of the token service; none: AWS's own.
    pub(super) sts_endpoint: Option<String>,
    pub(super) role: Option<Role>,
    pub(super) http: reqwest::Client,
    pub(super) environment: Arc<Environment>,
}

/// A role that is taken on with the chain's credentials.
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) account: u64,
    pub(super) session_name: String,
}

impl Logins {
    /// Gets credentials and makes a client that has them.
    ///
    /// # Errors
    /// `denied`: there are none, or they are refused. `unavailable`: their source is away, or the
    /// files and variables that say how to get them cannot be used.
    pub(super) async fn login(&self) -> Result<Login<Client>, ReadError> {
        let transport = Transport::new(self.http.clone());
        let credentials = self.credentials(&transport).await.map_err(|error| {
            // An exchange that failed is nearer to the cause.
            transport.trouble().unwrap_or_else(|| explained(&error))
        })?;
        let lease = credentials.expiry().map(|expiry| {
            // It is a date of the calendar, so it is held against the calendar.
            let left = expiry.duration_since(SystemTime::now());
            left.unwrap_or_default()
        });
        let client = self.client(credentials);
        Ok(match lease {
            None => Login::lasting(client),
            Some(lease) => Login::leased(client, lease),
        })
    }

    /// The same while there are credentials that still hold: whoever waits for it can do without.
    ///
    /// # Errors
    /// As [`Logins::login`]; and it took too long.
    pub(super) async fn renew(&self) -> Result<Login<Client>, ReadError> {
        let made = timeout(RENEWAL_TIMEOUT, self.login()).await;
        made.unwrap_or_else(|_| {
            let cause = "the source of the AWS credentials does not answer";
            Err(ReadError::transient(cause))
        })
    }

    async fn credentials(&self, transport: &Transport) -> Result<Credentials, CredentialsError> {
        let config = aws_config::defaults(BehaviorVersion::latest())
            .env(self.variables())
            .fs(Fs::real())
            .region(Region::new(self.region.clone()))
            .http_client(transport.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(call_timeout())
            .load()
            .await;
        let none = || CredentialsError::not_loaded("no provider");
        let own = config.credentials_provider().ok_or_else(none)?;
        match &self.role {
            None => own.provide_credentials().await,
            Some(role) => self.taken_on(role, &config, own).await,
        }
    }

    async fn taken_on(
        &self,
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

    fn client(&self, credentials: Credentials) -> Client {
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .credentials_provider(credentials)
            .identity_cache(IdentityCache::no_cache())
            .http_client(Transport::new(self.http.clone()))
            // The resolver retries, for all backends alike.
            .retry_config(RetryConfig::disabled())
            .timeout_config(call_timeout())
            // Answers are read whole; the vault's timeout ends one that stalls.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        config.set_endpoint_url(self.endpoint.clone());
        Client::from_conf(config.build())
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

fn call_timeout() -> TimeoutConfig {
    TimeoutConfig::builder()
        .operation_timeout(CALL_TIMEOUT)
        .build()
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
