//! The identity that Azure gives a machine: a token without any secret of ours.
//!
//! Written by hand over two documented calls, since the SDK's credential finds its endpoint in the
//! variables of the process and retries for more than a minute.
//!
//! - Virtual machines and Kubernetes nodes: the instance metadata service (IMDS),
//!   <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>
//! - App Service, Functions, Container Apps: the endpoint in `IDENTITY_ENDPOINT`,
//!   <https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>
//!
//! Both are plain HTTP on the machine itself, so no proxy is used.

use std::time::{Duration, SystemTime};

use azure_core::credentials::Secret as SdkSecret;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use vaultref_contract::Secret;

use super::credential::text;
use super::transport::{LOGIN, answer, login_status};
use crate::backend::network::{self, Network};
use crate::backend::session::Login;
use crate::backend::{ReadError, ReadErrorKind};
use crate::config::ConfigError;
use crate::environment::Environment;

/// The address that is the same on all machines of Azure, unless the variable has another: so does
/// Azure's own pod identity, and so do its other SDKs.
const IMDS: &str = "http://169.254.169.254";
const IMDS_VARIABLE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

const ENDPOINT_VARIABLE: &str = "IDENTITY_ENDPOINT";
const HEADER_VARIABLE: &str = "IDENTITY_HEADER";

/// What errors call it.
const WHO: &str = "the machine's identity service";

/// Where the machine gives tokens, and for which of its identities.
pub(super) struct Managed {
    endpoint: Url,
    api_version: &'static str,
    /// Proves to App Service that we are what it runs.
    header: Option<Secret>,
    /// The client id of a user-assigned identity; none: the machine's own.
    client: Option<String>,
    http: reqwest::Client,
}

/// `expires_in` and `expires_on` are numbers here and texts there.
#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: Option<Value>,
    expires_on: Option<Value>,
}

impl Managed {
    /// Finds the endpoint in the environment.
    ///
    /// # Errors
    /// A variable is no address, or belongs to a kind of machine that is not supported.
    pub(super) fn take(
        client: Option<String>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let given = text(environment, ENDPOINT_VARIABLE)?;
        let header = text(environment, HEADER_VARIABLE)?;
        let (endpoint, api_version, header) = match (given, header) {
            (Some(_), None) => {
                return Err(ConfigError::new(
                    ENDPOINT_VARIABLE,
                    "is there without IDENTITY_HEADER, as on Azure Arc, which is not supported",
                ));
            }
            (Some(_), Some(_)) if environment.value("IDENTITY_SERVER_THUMBPRINT").is_some() => {
                return Err(ConfigError::new(
                    "IDENTITY_SERVER_THUMBPRINT",
                    "is there, as on Service Fabric, which is not supported",
                ));
            }
            (Some(given), Some(header)) => {
                let endpoint = address(ENDPOINT_VARIABLE, &given)?;
                (endpoint, "2019-08-01", Some(Secret::from(header)))
            }
            (None, _) => {
                let given = text(environment, IMDS_VARIABLE)?;
                let host = given.as_deref().unwrap_or(IMDS);
                let mut endpoint = address(IMDS_VARIABLE, host)?;
                endpoint.set_path("/metadata/identity/oauth2/token");
                (endpoint, "2018-02-01", None)
            }
        };
        Ok(Self {
            http: Network::client_nearby()?,
            endpoint,
            api_version,
            header,
            client,
        })
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// There is no such service, no such identity, or no token.
    pub(super) async fn login(&self, scopes: &[&str]) -> Result<Login<SdkSecret>, ReadError> {
        let mut url = self.endpoint.clone();
        // These services know resources, which a scope is one of with a suffix.
        let resource = scopes.first().copied().unwrap_or_default();
        let resource = resource.strip_suffix("/.default").unwrap_or(resource);
        url.query_pairs_mut()
            .append_pair("api-version", self.api_version)
            .append_pair("resource", resource)
            .extend_pairs(self.client.iter().map(|client| ("client_id", client)));
        let mut request = self.http.get(url).header("metadata", "true");
        if let Some(header) = &self.header {
            request = request.header("x-identity-header", header.expose());
        }
        let answer = answer(WHO, request).await.map_err(network::of_login);
        let answer = answer.map_err(|error| ReadError {
            cause: format!(
                "{} (no client secret and no federated token is given)",
                error.cause
            )
            .into(),
            ..error
        })?;
        match answer.status.as_u16() {
            200 => {}
            400 => {
                return Err(ReadError::new(
                    ReadErrorKind::Denied,
                    format!("{WHO} answers 400: the machine does not have this identity"),
                ));
            }
            // Says that it is being updated.
            code @ (404 | 410) => {
                return Err(ReadError::transient(format!("{WHO} answers {code}")));
            }
            code => return Err(login_status(code, &answer)),
        }
        let token: Token =
            serde_json::from_slice(answer.body.expose()).map_err(|_| network::unreadable(LOGIN))?;
        let lease = token.lease().ok_or_else(|| network::unreadable(LOGIN))?;
        Ok(Login::leased(SdkSecret::new(token.access_token), lease))
    }
}

impl Token {
    fn lease(&self) -> Option<Duration> {
        if let Some(seconds) = self.expires_in.as_ref().and_then(seconds) {
            return Some(Duration::from_secs(seconds));
        }
        let end = self.expires_on.as_ref().and_then(seconds)?;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Some(Duration::from_secs(end).saturating_sub(now))
    }
}

fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn address(variable: &str, text: &str) -> Result<Url, ConfigError> {
    let url = Url::parse(text).ok();
    url.filter(|url| url.scheme() == "http" && url.has_host())
        .ok_or_else(|| ConfigError::new(variable, "must be an http address"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn without_a_variable_it_is_the_address_of_all_machines() {
        let environment = Environment::default();
        let managed = Managed::take(None, &environment).expect("an identity");
        assert_eq!(
            managed.endpoint.as_str(),
            "http://169.254.169.254/metadata/identity/oauth2/token"
        );
    }

    #[test]
    fn the_end_of_a_token_is_told_in_many_ways() {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
        let end = now + 1000;
        for (told, lease) in [
            (json!({ "expires_in": 3599 }), Some(3599)),
            (
                json!({ "expires_in": "3599", "expires_on": "1" }),
                Some(3599),
            ),
            (json!({ "expires_on": end.to_string() }), Some(1000)),
            (json!({ "expires_in": "", "expires_on": end }), Some(1000)),
            (json!({ "expires_on": "1" }), Some(0)),
            (json!({}), None),
            (json!({ "expires_on": "tomorrow" }), None),
        ] {
            let mut answer = told.clone();
            answer["access_token"] = json!("t");
            let token: Token = serde_json::from_value(answer).expect("a token");
            let found = token.lease().map(|lease| lease.as_secs());
            let is_near = match (found, lease) {
                (Some(found), Some(lease)) => found.abs_diff(lease) < 60,
                (found, lease) => found == lease,
            };
            assert!(is_near, "{told}: {found:?}");
        }
    }
}
