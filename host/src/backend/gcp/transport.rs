//! How the official client's calls get to Google: through our own HTTP client, with our own login.
//!
//! Nothing is retried here but a call whose token was no longer taken. Nothing of an answer gets
//! into an error except its status.

use std::fmt;

use google_cloud_gax::error::Error;
use google_cloud_gax::options::RequestOptions;
use google_cloud_gax::response::Response;
use google_cloud_secretmanager_v1::Result;
use google_cloud_secretmanager_v1::model::{
    AccessSecretVersionRequest, AccessSecretVersionResponse,
};
use google_cloud_secretmanager_v1::stub;
use reqwest::StatusCode;
use serde::Deserialize;
use vaultref_contract::Secret;

use super::credentials::Credentials;
use crate::backend::endpoint::Endpoint;
use crate::backend::network;
use crate::backend::{ReadError, ReadErrorKind};

/// What errors call it.
pub(super) const SERVER: &str = "Secret Manager";

/// The client's way to Secret Manager.
pub(super) struct Transport {
    http: reqwest::Client,
    endpoint: Endpoint,
    credentials: Credentials,
}

impl Transport {
    pub(super) fn new(http: reqwest::Client, endpoint: Endpoint, credentials: Credentials) -> Self {
        Self {
            http,
            endpoint,
            credentials,
        }
    }

    /// `name` is made of checked parts only, so it can neither leave the path nor be encoded.
    async fn access(
        &self,
        name: &str,
    ) -> std::result::Result<AccessSecretVersionResponse, ReadError> {
        let url = format!("{}/v1/{name}:access", self.endpoint);
        let mut login = self.credentials.current().await?;
        let mut answer = self.send(&url, &login.token).await?;
        if answer.status() == StatusCode::UNAUTHORIZED && self.credentials.forget(&login).await {
            login = self.credentials.current().await?;
            answer = self.send(&url, &login.token).await?;
        }
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = network::body(SERVER, answer).await;
        if status.is_success() {
            let parsed = serde_json::from_slice(body?.expose());
            return parsed.map_err(|_| network::unreadable(SERVER));
        }
        // Why is said in the body; without it the status will do.
        let said = body.ok().and_then(|body| reason(&body));
        Err(match (status.as_u16(), said.as_deref()) {
            // Also what becomes of a version whose own encryption key is taken away.
            (400, Some("FAILED_PRECONDITION")) => ReadError::new(
                ReadErrorKind::NotFound,
                "the version is disabled or destroyed",
            ),
            (404, _) => ReadError::new(
                ReadErrorKind::NotFound,
                "Secret Manager answers 404: no such secret, version or project",
            ),
            (code, _) => network::status(SERVER, code, &headers),
        })
    }

    async fn send(
        &self,
        url: &str,
        token: &Secret,
    ) -> std::result::Result<reqwest::Response, ReadError> {
        let request = self.credentials.authorize(self.http.get(url), token)?;
        let answer = request.send().await;
        answer.map_err(|error| network::unreachable(SERVER, &error))
    }
}

/// The credentials are nobody's to see.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl stub::SecretManagerService for Transport {
    async fn access_secret_version(
        &self,
        request: AccessSecretVersionRequest,
        _options: RequestOptions,
    ) -> Result<Response<AccessSecretVersionResponse>> {
        let answer = self.access(&request.name).await;
        answer
            .map(Response::from)
            .map_err(|error| Error::io(Failed(error)))
    }
}

/// Our error on its way through the client's.
#[derive(Debug)]
pub(super) struct Failed(pub(super) ReadError);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.cause)
    }
}

impl std::error::Error for Failed {}

/// `google.rpc.Status` in JSON (<https://google.aip.dev/193>).
#[derive(Deserialize)]
struct Refusal {
    error: Status,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

fn reason(body: &Secret) -> Option<String> {
    let refusal: Refusal = serde_json::from_slice(body.expose()).ok()?;
    Some(refusal.error.status)
}
