//! The metadata server of a machine, which also is how a workload of GKE gets the token of its own
//! service account (<https://cloud.google.com/compute/docs/access/authenticate-workloads>).

use reqwest::Client;
use reqwest::header::HeaderName;

use super::{Token, exchange};
use crate::backend::{ReadError, ReadErrorKind, network};
use crate::config::ConfigError;
use crate::environment::Environment;

const WHO: &str = "the metadata server";
const VARIABLE: &str = "GCE_METADATA_HOST";
const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// It answers none who lacks it, and its own answers have it, which a stranger's do not.
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");

pub(super) struct Metadata {
    url: String,
}

impl Metadata {
    /// At its usual name, or where `GCE_METADATA_HOST` says, as Google's own libraries have it.
    pub(super) fn of(environment: &Environment) -> Result<Self, ConfigError> {
        let host = match environment.value(VARIABLE) {
            None => "metadata.google.internal",
            Some(value) => value
                .expose_text()
                .filter(|host| {
                    !host.is_empty()
                        && host
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte))
                })
                .ok_or_else(|| ConfigError::new(VARIABLE, "must be a host, perhaps with a port"))?,
        };
        Ok(Self {
            url: format!("http://{host}{PATH}"),
        })
    }

    pub(super) async fn token(&self, http: &Client) -> Result<Token, ReadError> {
        let request = http.get(&self.url).header(FLAVOR, "Google");
        let answer = exchange::send(WHO, request).await.map_err(|error| {
            if error.kind != ReadErrorKind::Unavailable {
                return error;
            }
            // Nobody may have meant it to be asked.
            ReadError {
                cause: format!("{}; no other credentials are given", error.cause).into(),
                ..error
            }
        })?;
        if answer
            .headers
            .get(FLAVOR)
            .is_none_or(|flavor| flavor != "Google")
        {
            return Err(network::unreadable(WHO));
        }
        answer.token(WHO)
    }
}
