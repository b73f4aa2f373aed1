//! The HTTP interface of OpenBao and HashiCorp Vault: one call, and what came of it.
//!
//! It goes through no client library: those read `VAULT_*` variables for what they are not told
//! (one of which turns TLS checks off), end the process over a token that is no header's value, and
//! lose `Retry-After`. What is said here of a failure is made from its status and from known phrases in
//! its text; the server's own words go nowhere, since they may repeat what was sent.

use reqwest::header::HeaderValue;
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;
use vaultref_contract::Secret;

use crate::backend::{ReadError, ReadErrorKind, network};
use crate::value::Wiped;

/// What errors call it.
pub(super) const WHO: &str = "the vault";

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
    code: u16,
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
    /// The server, or the namespace, is sealed.
    Sealed,
    /// The node belongs to a cluster that waits for a disaster.
    Secondary,
    /// The node is not the active one, and does not take this.
    Standby,
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

    /// Why a read failed.
    pub(super) fn of_read(self) -> ReadError {
        let refusal = match self {
            Self::Refused(refusal) => refusal,
            Self::Unread(error) => return error,
        };
        match (refusal.code, refusal.hint) {
            (403, _) => ReadError::new(
                ReadErrorKind::Denied,
                "the vault answers 403: the token is not valid, or its policies do not allow the path",
            ),
            (404, hint) => not_found(hint.says().unwrap_or("no such secret or version")),
            _ => refusal.of_state(),
        }
    }

    /// Why a login failed; `how` names it.
    pub(super) fn of_login(self, how: &str) -> ReadError {
        let refusal = match self {
            Self::Refused(refusal) => refusal,
            Self::Unread(error) => return network::of_login(error),
        };
        let code = refusal.code;
        let why = match (code, refusal.hint) {
            (400 | 401, _) => "it does not take the credentials",
            // Also of a path without a login, to whoever has no token.
            (403, _) => "it does not take the credentials, or knows no login at this path",
            (404, hint) => hint.says().unwrap_or("there is no such way to log in"),
            _ => return refusal.of_state(),
        };
        ReadError::new(
            ReadErrorKind::Denied,
            format!("the vault answers {code} to the login with {how}: {why}"),
        )
    }
}

impl Refusal {
    /// Asking again will not help.
    pub(super) fn is_final(&self) -> bool {
        (400..500).contains(&self.code) && self.code != 429
    }

    /// What a server cannot do in the state that it is in.
    fn of_state(self) -> ReadError {
        // No other node sends on to another.
        let hint = match self.code {
            307 | 308 => Hint::Standby,
            _ => self.hint,
        };
        let Some(state) = hint.says() else {
            return self.error;
        };
        ReadError {
            cause: format!("the vault answers {}: {state}", self.code).into(),
            // To unseal it takes a person.
            transient: self.error.transient && hint != Hint::Sealed,
            ..self.error
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
        let texts = |member: &str| answer.0[member].as_array().into_iter().flatten();
        let says = |phrase: &str| {
            let mut texts = texts("errors").chain(texts("warnings"));
            texts.any(|text| text.as_str().is_some_and(|text| text.contains(phrase)))
        };
        let known = [
            ("namespace not found", Self::NoNamespace),
            ("no handler for route", Self::NoMount),
            ("versioned K/V", Self::Versioned),
            ("is sealed", Self::Sealed),
            ("standby", Self::Standby),
            ("node not active", Self::Standby),
            ("DR secondary", Self::Secondary),
        ];
        let hint = known.into_iter().find(|(phrase, _)| says(phrase));
        hint.map_or(Self::None, |(_, hint)| hint)
    }

    fn says(self) -> Option<&'static str> {
        Some(match self {
            Self::NoMount => "nothing is mounted there",
            Self::NoNamespace => "there is no such namespace",
            Self::None => return None,
            Self::Sealed => "it is sealed, or not initialised",
            Self::Secondary => "it is a secondary that waits for a disaster",
            Self::Standby => {
                "it is a standby, and its active node cannot be reached through it; a redirect is \
                 not followed, since credentials would go along"
            }
            Self::Versioned => "the mount is of version 2 and needs `kv: v2`",
        })
    }
}

fn not_found(what: &str) -> ReadError {
    let code = StatusCode::NOT_FOUND.as_u16();
    let cause = format!("the vault answers {code}: {what}");
    ReadError::new(ReadErrorKind::NotFound, cause)
}
