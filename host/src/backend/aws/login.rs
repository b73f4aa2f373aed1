//! A login is a client that has credentials, and holds as long as they do.

use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials;
use aws_sdk_secretsmanager::config::{
    BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig,
};
use aws_sdk_secretsmanager::{Client, Config};
use tokio::time::timeout;

use crate::backend::ReadError;
use crate::backend::amazon::credentials::Chain;
use crate::backend::amazon::transport::{Transport, call_timeout};
use crate::backend::session::Login;

/// For new credentials while the old ones still hold, so that a source that hangs takes no read along.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(1);

/// All that it takes to log in.
pub(super) struct Logins {
    pub(super) chain: Chain,
    /// Of Secrets Manager; none: AWS's own.
    pub(super) endpoint: Option<String>,
}

impl Logins {
    /// Gets credentials and makes a client that has them.
    ///
    /// # Errors
    /// As [`Chain::credentials`].
    pub(super) async fn login(&self) -> Result<Login<Client>, ReadError> {
        let credentials = self.chain.credentials().await?;
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

    fn client(&self, credentials: Credentials) -> Client {
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.chain.region.clone()))
            .credentials_provider(credentials)
            .identity_cache(IdentityCache::no_cache())
            .http_client(Transport::new(self.chain.http.clone()))
            // The resolver retries, for all backends alike.
            .retry_config(RetryConfig::disabled())
            .timeout_config(call_timeout())
            // Answers are read whole; the vault's timeout ends one that stalls.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        config.set_endpoint_url(self.endpoint.clone());
        Client::from_conf(config.build())
    }
}
