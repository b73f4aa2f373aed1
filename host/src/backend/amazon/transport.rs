//! How the SDK reaches servers: through the vault's own HTTP client.
//!
//! So its CA, the proxy, and that no redirect is followed hold here as for every backend, and there
//! is no second client with rules of its own. An answer is read whole, up to a bound, into memory
//! that is wiped.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper::body::Bytes;
use reqwest::Method;
use zeroize::Zeroizing;

use super::answer::Refusal;
use crate::backend::{ReadError, ReadErrorKind, network};

/// The largest answer: twenty secrets of 64 KiB, each byte of which may be written as six.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// For one call, where the vault's own timeout is longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The HTTP client as the SDK wants it.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    client: reqwest::Client,
    /// For the whole exchange.
    timeout: Option<Duration>,
    trouble: Arc<Mutex<Option<ReadError>>>,
}

impl Transport {
    /// A transport through this client.
    pub(crate) fn new(client: reqwest::Client) -> Self {
        Self {
            client,
            timeout: None,
            trouble: Arc::default(),
        }
    }

    /// Why the last exchange gave nothing; none if it gave something.
    pub(crate) fn trouble(&self) -> Option<ReadError> {
        let trouble = self.trouble.lock();
        // It is replaced whole, so what is there is good whoever panicked.
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let who = host(request.uri());
        let result = self.send(&request).await;
        let trouble = match &result {
            Err(error) => Some(network::unreachable(&who, error)),
            Ok(answer) if !answer.status().is_success() => Some(not_given(&who, answer)),
            Ok(_) => None,
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        result
    }

    async fn send(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let method = Method::from_bytes(request.method().as_bytes())
            .map_err(|error| ConnectorError::user(error.into()))?;
        let mut outgoing = self.client.request(method, request.uri());
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name, value);
        }
        if let Some(timeout) = self.timeout {
            outgoing = outgoing.timeout(timeout);
        }
        let body = request.body().bytes();
        let body = body.ok_or_else(|| ConnectorError::user("a body that is a stream".into()))?;
        let mut answer = outgoing
            .body(body.to_vec())
            .send()
            .await
            .map_err(connector_error)?;
        let body = whole_body(&mut answer).await?;
        let status = answer.status().as_u16();
        let status = status
            .try_into()
            .map_err(|_| other("a status that is none"))?;
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        for (name, value) in answer.headers() {
            // What is no text means nothing to the SDK.
            if let Ok(value) = value.to_str() {
                let (name, value) = (name.as_str().to_owned(), value.to_owned());
                let _ = response.headers_mut().try_append(name, value);
            }
        }
        Ok(response)
    }
}

impl HttpClient for Transport {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        // Metadata endpoints have short ones; where there is none, the caller bounds the time.
        let timeout = settings
            .read_timeout()
            .map(|read| read + settings.connect_timeout().unwrap_or_default());
        SharedHttpConnector::new(Self {
            timeout,
            ..self.clone()
        })
    }
}

impl HttpConnector for Transport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let transport = self.clone();
        HttpConnectorFuture::new(async move { transport.exchange(request).await })
    }
}

/// The bounds of a call, for every client of the SDK.
pub(crate) fn call_timeout() -> TimeoutConfig {
    TimeoutConfig::builder()
        .operation_timeout(CALL_TIMEOUT)
        .build()
}

/// The body in one piece that is wiped when it is dropped.
async fn whole_body(answer: &mut reqwest::Response) -> Result<Bytes, ConnectorError> {
    let mut pieces = Vec::new();
    let mut length = 0usize;
    while let Some(piece) = answer.chunk().await.map_err(connector_error)? {
        length += piece.len();
        if length > MAX_ANSWER {
            return Err(other("the answer is too large"));
        }
        pieces.push(piece);
    }
    // Made once in its full size: it leaves no parts behind.
    let mut body = Zeroizing::new(Vec::with_capacity(length));
    for piece in pieces {
        body.extend_from_slice(&piece);
    }
    Ok(Bytes::from_owner(body))
}

fn connector_error(error: reqwest::Error) -> ConnectorError {
    // An address may be as good as a credential: that of a container's is.
    let error = error.without_url();
    if error.is_timeout() {
        return ConnectorError::timeout(error.into());
    }
    if error.is_builder() {
        return ConnectorError::user(error.into());
    }
    ConnectorError::io(error.into())
}

fn other(problem: &'static str) -> ConnectorError {
    ConnectorError::other(Box::<dyn Error + Send + Sync>::from(problem), None)
}

/// What it means for credentials that a source of them answers so.
fn not_given(who: &str, answer: &HttpResponse) -> ReadError {
    let status = answer.status().as_u16();
    let refusal = Refusal::answered(who, answer);
    let mut error = refusal.error;
    if (400..500).contains(&status) && !error.transient {
        error.kind = ReadErrorKind::Denied;
        if !refusal.is_coded {
            error.cause = format!("{who} answers {status}: it gives no credentials").into();
        }
    }
    error
}

/// Who is asked, for errors: the path is left out, since it may be a secret.
fn host(address: &str) -> String {
    let url = reqwest::Url::parse(address).ok();
    let origin = url.and_then(|url| {
        let host = url.host_str()?;
        Some(match url.port() {
            Some(port) => format!("{}://{host}:{port}", url.scheme()),
            None => format!("{}://{host}", url.scheme()),
        })
    });
    origin.unwrap_or_else(|| "a source of credentials".to_owned())
}
