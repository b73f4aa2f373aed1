//! How the SDK reaches the vault and the login: through the vault's own client, so that its CA and
//! its proxy hold, no redirect is followed and no variable of the process counts.
//!
//! It is also where an answer becomes an error of ours. The SDK's errors carry what a server wrote;
//! a [`Refused`] carries none of it, and is found again in whatever the SDK wraps around it.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{
    AsyncRawResponse, Body, ClientOptions, HttpClient, Method, Request, RetryOptions,
    Transport as SdkTransport,
};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use thiserror::Error;
use vaultref_contract::Secret;

use crate::backend::{ReadError, ReadErrorKind, network};

/// What errors call the vault.
const VAULT: &str = "the vault";

/// What errors call the login.
pub(super) const LOGIN: &str = "the login";

/// Sends the SDK's requests.
#[derive(Clone, Debug)]
struct Transport {
    client: reqwest::Client,
    asks: Asks,
}

/// Whom the requests go to, which says what an answer means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asks {
    Login,
    Vault,
}

impl Asks {
    fn whom(self) -> &'static str {
        match self {
            Self::Login => LOGIN,
            Self::Vault => VAULT,
        }
    }
}

/// The SDK's options: this client, no retries (those are the resolver's).
pub(super) fn options(client: &reqwest::Client, asks: Asks) -> ClientOptions {
    let transport = Transport {
        client: client.clone(),
        asks,
    };
    ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(SdkTransport::new(Arc::new(transport))),
        ..ClientOptions::default()
    }
}

/// An error of ours on its way through the SDK.
#[derive(Debug, Error)]
#[error("{}", .0.cause)]
pub(super) struct Refused(ReadError);

impl From<Refused> for azure_core::Error {
    fn from(refused: Refused) -> Self {
        Self::new(ErrorKind::Other, refused)
    }
}

/// An error of ours as one of the SDK.
pub(super) fn refused(error: ReadError) -> azure_core::Error {
    Refused(error).into()
}

/// What an error of the SDK says: ours, if it is one, else that the answer could not be used.
pub(super) fn failed(asks: Asks, error: &azure_core::Error) -> ReadError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(deeper) = cause {
        if let Some(Refused(error)) = deeper.downcast_ref() {
            return error.clone();
        }
        cause = deeper.source();
    }
    match error.http_status() {
        // The first of them is the challenge; this one came in spite of a token.
        Some(status) => network::status(asks.whom(), u16::from(status), &HeaderMap::new()),
        None => network::unreadable(asks.whom()),
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let answer = self.send(request).await.map_err(refused)?;
        let code = u16::from(answer.status);
        let error = match self.asks {
            _ if code == 200 => None,
            // How the vault says where to log in; the SDK does so.
            Asks::Vault if code == 401 => None,
            Asks::Vault => Some(vault_status(code, &answer)),
            Asks::Login => Some(login_status(code, &answer)),
        };
        match error {
            Some(error) => Err(refused(error)),
            None => Ok(AsyncRawResponse::from_bytes(
                code.into(),
                headers(&answer.headers),
                network::wiped(answer.body),
            )),
        }
    }
}

/// An answer that came whole.
pub(super) struct Answer {
    pub(super) status: reqwest::StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Secret,
}

impl Transport {
    async fn send(&self, request: &Request) -> Result<Answer, ReadError> {
        let who = self.asks.whom();
        let method = match request.method() {
            Method::Post => reqwest::Method::POST,
            _ => reqwest::Method::GET,
        };
        let mut sent = self.client.request(method, request.url().clone());
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        if let Body::Bytes(bytes) = request.body() {
            sent = sent.body(bytes.clone());
        }
        let answer = answer(who, sent).await;
        match self.asks {
            Asks::Login => answer.map_err(network::of_login),
            Asks::Vault => answer,
        }
    }
}

/// Sends a request and reads the whole answer.
pub(super) async fn answer(
    who: &str,
    request: reqwest::RequestBuilder,
) -> Result<Answer, ReadError> {
    let sent = request.send().await;
    let response = sent.map_err(|error| network::unreachable(who, &error))?;
    Ok(Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: network::body(who, response).await?,
    })
}

fn headers(given: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in given {
        if let Ok(value) = value.to_str() {
            headers.insert(
                HeaderName::from(name.as_str().to_owned()),
                HeaderValue::from(value.to_owned()),
            );
        }
    }
    headers
}

/// The vault's error, of which only the innermost code counts.
#[derive(Deserialize)]
struct VaultError {
    error: VaultErrorDetail,
}

#[derive(Deserialize)]
struct VaultErrorDetail {
    innererror: Option<VaultErrorCode>,
}

#[derive(Deserialize)]
struct VaultErrorCode {
    code: Option<String>,
}

/// <https://learn.microsoft.com/azure/key-vault/general/rest-error-codes>
fn vault_status(code: u16, answer: &Answer) -> ReadError {
    let error = network::status(VAULT, code, &answer.headers);
    if code != 403 {
        return error;
    }
    let inner = serde_json::from_slice(answer.body.expose())
        .ok()
        .and_then(|body: VaultError| body.error.innererror?.code);
    let (kind, cause) = match inner.as_deref() {
        Some("SecretDisabled" | "CertificateDisabled") => {
            (ReadErrorKind::NotFound, "it is disabled")
        }
        Some("ForbiddenByConnection") => {
            (ReadErrorKind::Denied, "it takes no calls from this network")
        }
        Some("ForbiddenByFirewall") => (ReadErrorKind::Denied, "its firewall does not let us in"),
        Some("ForbiddenByRbac") => (ReadErrorKind::Denied, "the identity has no role that may"),
        Some("AccessDenied") => (
            ReadErrorKind::Denied,
            "no access policy lets the identity do that",
        ),
        _ => return error,
    };
    ReadError::new(kind, format!("{VAULT} answers 403: {cause}"))
}

/// The login's error. Its codes are numbers:
/// <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>
#[derive(Deserialize)]
struct LoginError {
    #[serde(default)]
    error_codes: Vec<u64>,
}

/// What an answer of the login other than a token means. Never that the secret does not exist.
pub(super) fn login_status(code: u16, answer: &Answer) -> ReadError {
    if !matches!(code, 400 | 401 | 403) {
        let error = network::status(LOGIN, code, &answer.headers);
        return ReadError {
            kind: ReadErrorKind::Unavailable,
            ..error
        };
    }
    let codes =
        serde_json::from_slice(answer.body.expose()).map(|error: LoginError| error.error_codes);
    let known = codes.unwrap_or_default().into_iter().find_map(|code| {
        Some(match code {
            700_016 => "the tenant knows no such client",
            70_002 | 7_000_215 => "the client secret is wrong",
            90_002 | 900_023 => "there is no such tenant",
            70_021 | 700_211..=700_213 => "the client does not trust this federated token",
            700_024 => "the federated token is not valid now",
            7_000_222 => "the client secret has expired",
            _ => return None,
        })
    });
    let cause = known.unwrap_or("it does not take these credentials");
    ReadError::new(
        ReadErrorKind::Denied,
        format!("{LOGIN} answers {code}: {cause}"),
    )
}
