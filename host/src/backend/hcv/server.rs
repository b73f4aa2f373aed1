//! The HTTP interface of OpenBao and HashiCorp Vault: one call, and what came of it.
//!
//! It goes through no client library: those read `VAULT_*` variables for what they are not told
//! (one of which turns TLS checks off), end the process over a token that is no header's value, and
//! lose `Retry-After`. What is said here of a failure is made from its status and from what is known
//! of the server's state; a server's own words go nowhere, since they may repeat what was sent.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;
use vaultref_contract::Secret;

use crate::backend::{ReadError, ReadErrorKind, network};
use crate::value::Wiped;

/// What errors call it.
pub(super) const WHO: &str = "the vault";

/// How long the server may take to say in which state it is.
const STATE_WITHIN: Duration = Duration::from_secs(2);

/// A server and the namespace in which it is used.
pub(super) struct Server {
    /// Ends with a slash.
    url: Url,
    namespace: Option<String>,
    http: Client,
}

/// One call.
pub(super) struct Call<'a> {
    method: Method,
    /// Below `v1/`; not encoded.
    path: String,
    query: Option<(&'a str, String)>,
    token: Option<&'a Secret>,
    body: Option<Wiped>,
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// An answer that says no.
    Refused(Refusal),
    /// No answer, or none that can be read.
    Unread(ReadError),
}

/// An answer whose status is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    hint: Hint,
    /// What its status alone says.
    error: ReadError,
}

/// What is understood of a refusal's text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hint {
    /// Nothing is mounted at the path.
    NoMount,
    /// The namespace does not exist.
    NoNamespace,
    None,
    /// The mount is a key-value engine of version 2 and was asked as one of version 1.
    Versioned,
}

impl Server {
    pub(super) fn new(url: Url, namespace: Option<String>, http: Client) -> Self {
        Self {
            url,
            namespace,
            http,
        }
    }

    /// The client that knows no certificate of ours.
    pub(super) fn http(&self) -> &Client {
        &self.http
    }

    /// Makes a call; `http` is the client of the login.
    pub(super) async fn call(&self, http: &Client, call: Call<'_>) -> Result<Wiped, Failure> {
        let response = self.send(http, call).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = network::body(WHO, response).await;
        if !status.is_success() {
            let code = status.as_u16();
            return Err(Failure::Refused(Refusal {
                code,
                hint: body.map_or(Hint::None, |body| Hint::of(&body)),
                error: network::status(WHO, code, &headers),
            }));
        }
        let body = body?;
        if body.is_empty() {
            return Ok(Wiped(Value::Null));
        }
        match serde_json::from_slice(body.expose()) {
            Ok(value) => Ok(Wiped(value)),
            Err(_) => Err(network::unreadable(WHO).into()),
        }
    }

    async fn send(&self, http: &Client, call: Call<'_>) -> Result<Response, ReadError> {
        let mut request = http
            .request(call.method, self.address(&call.path, call.query))
            .header("x-vault-request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(token) = call.token {
            let value = HeaderValue::from_bytes(token.expose());
            let mut value = value.map_err(|_| network::unreadable(WHO))?;
            value.set_sensitive(true);
            request = request.header("x-vault-token", value);
        }
        if let Some(body) = call.body {
            let text = body.text().ok_or_else(|| network::unreadable(WHO))?;
            request = request
                .header("content-type", "application/json")
                .body(network::wiped(text));
        }
        let sent = request.send().await;
        sent.map_err(|error| network::unreachable(WHO, &error))
    }

    fn address(&self, path: &str, query: Option<(&str, String)>) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path.split('/'));
        }
        if let Some((name, value)) = query {
            url.query_pairs_mut().append_pair(name, &value);
        }
        url
    }

    /// Why a read failed.
    pub(super) async fn read_error(&self, failure: Failure) -> ReadError {
        let refusal = match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Unread(error) => return error,
        };
        match (refusal.code, refusal.hint) {
            (403, _) => ReadError::new(
                ReadErrorKind::Denied,
                "the vault answers 403: the token is not valid, or its policies do not allow the path",
            ),
            (404, hint) => not_found(hint.says().unwrap_or("no such secret or version")),
            _ => self.with_state(refusal).await,
        }
    }

    /// Why a login failed; `how` names it.
    pub(super) async fn login_error(&self, how: &str, failure: Failure) -> ReadError {
        let refusal = match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Unread(error) => return error,
        };
        let code = refusal.code;
        let why = match (code, refusal.hint) {
            (400 | 401, _) => "it does not take the credentials",
            // Also of a path without a login, to whoever has no token.
            (403, _) => "it does not take the credentials, or knows no login at this path",
            (404, hint) => hint.says().unwrap_or("there is no such way to log in"),
            _ => return self.with_state(refusal).await,
        };
        ReadError::new(
            ReadErrorKind::Denied,
            format!("the vault answers {code} to the login with {how}: {why}"),
        )
    }

    /// What a status alone does not say: whether the server is sealed, or another one is in charge.
    async fn with_state(&self, refusal: Refusal) -> ReadError {
        let code = refusal.code;
        if !matches!(code, 300..=399 | 500..=599) {
            return refusal.error;
        }
        let state = tokio::time::timeout(STATE_WITHIN, self.state()).await;
        let Ok(Some((state, transient))) = state else {
            return refusal.error;
        };
        ReadError {
            cause: format!("the vault answers {code}: {state}").into(),
            transient,
            ..refusal.error
        }
    }

    /// What the server says of its own state, and whether that may change in a moment. None: it is
    /// the active one, or does not say.
    async fn state(&self) -> Option<(&'static str, bool)> {
        // It belongs to no namespace, and nobody needs to be logged in for it.
        let asked = self.http.get(self.address("sys/health", None)).send();
        Some(match asked.await.ok()?.status().as_u16() {
            429 => (
                "it is a standby, and its active node cannot be reached through it; a redirect is \
                 not followed, since credentials would go along",
                true,
            ),
            472 => ("it is a secondary for disaster recovery", false),
            473 => ("it is a performance standby", true),
            501 => ("it is not initialised", false),
            503 => ("it is sealed", false),
            _ => return None,
        })
    }
}

impl<'a> Call<'a> {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            query: None,
            token: None,
            body: None,
        }
    }

    pub(super) fn post(path: impl Into<String>, body: Wiped) -> Self {
        Self {
            method: Method::POST,
            body: Some(body),
            ..Self::get(path)
        }
    }

    pub(super) fn query(self, name: &'a str, value: String) -> Self {
        Self {
            query: Some((name, value)),
            ..self
        }
    }

    pub(super) fn with_token(self, token: &'a Secret) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }
}

impl Failure {
    /// The status of an answer that says no.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Unread(_) => None,
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Unread(error)
    }
}

impl Hint {
    fn of(body: &Secret) -> Self {
        let Ok(answer) = serde_json::from_slice(body.expose()).map(Wiped) else {
            return Self::None;
        };
        let says = |member: &str, words: &str| {
            let texts = answer.0[member].as_array().into_iter().flatten();
            let mut texts = texts.filter_map(Value::as_str);
            texts.any(|text| text.contains(words))
        };
        if says("errors", "namespace not found") || says("errors", "no namespace") {
            Self::NoNamespace
        } else if says("errors", "no handler for route") {
            Self::NoMount
        } else if says("warnings", "versioned K/V") {
            Self::Versioned
        } else {
            Self::None
        }
    }

    fn says(self) -> Option<&'static str> {
        match self {
            Self::NoMount => Some("nothing is mounted there"),
            Self::NoNamespace => Some("there is no such namespace"),
            Self::None => None,
            Self::Versioned => Some("the mount is of version 2 and needs `kv: v2`"),
        }
    }
}

/// What is asked for is not there.
pub(super) fn not_found(what: &str) -> ReadError {
    let code = StatusCode::NOT_FOUND.as_u16();
    let cause = format!("the vault answers {code}: {what}");
    ReadError::new(ReadErrorKind::NotFound, cause)
}
