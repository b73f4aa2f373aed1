//! What lies outside of a vault and its configuration: the time, and the addresses at which clouds
//! say what they know of a machine. Tests put their own in the place of these.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use vaultref_contract::Secret;

use super::trimmed;
use crate::backend::{ReadError, ReadErrorKind, network};
use crate::value::Wiped;

/// Addresses have no slash at their ends.
#[derive(Clone)]
pub(in crate::backend::hcv) struct Outside {
    /// Google's metadata server.
    pub(super) google_metadata: String,
    /// Google's service that signs for service accounts.
    pub(super) google_credentials: String,
    /// The metadata service of AWS and of Azure.
    pub(super) link_local: String,
    pub(super) now: fn() -> SystemTime,
}

impl Outside {
    pub(in crate::backend::hcv) fn real() -> Self {
        Self {
            google_metadata: "http://metadata.google.internal".to_owned(),
            google_credentials: "https://iamcredentials.googleapis.com".to_owned(),
            link_local: "http://169.254.169.254".to_owned(),
            now: SystemTime::now,
        }
    }

    /// So many seconds from now, as JSON web tokens count time.
    pub(super) fn seconds_from_now(&self, seconds: u64) -> u64 {
        let now = (self.now)().duration_since(UNIX_EPOCH);
        now.unwrap_or(Duration::ZERO).as_secs() + seconds
    }
}

/// Asks somebody whose word a login needs, and gives what is said, without the white space around it.
pub(super) async fn ask(who: &str, request: RequestBuilder) -> Result<Secret, ReadError> {
    let response = send(who, request).await?;
    if !response.status().is_success() {
        return Err(refusal(who, response.status(), &response));
    }
    let said = network::login_body(who, response).await?;
    trimmed(said.expose()).ok_or_else(|| network::unreadable(who))
}

/// The same for JSON.
pub(super) async fn ask_json(who: &str, request: RequestBuilder) -> Result<Wiped, ReadError> {
    json(who, &ask(who, request).await?)
}

pub(super) fn json(who: &str, text: &Secret) -> Result<Wiped, ReadError> {
    let value = serde_json::from_slice(text.expose());
    value.map(Wiped).map_err(|_| network::unreadable(who))
}

/// A text that must be a member of an answer.
pub(super) fn text_of(who: &str, answer: &mut Wiped, name: &str) -> Result<Secret, ReadError> {
    match answer.take(&format!("/{name}")) {
        Value::String(text) if !text.is_empty() => Ok(Secret::from(text)),
        _ => Err(network::unreadable(who)),
    }
}

pub(super) async fn send(who: &str, request: RequestBuilder) -> Result<Response, ReadError> {
    let sent = request.send().await;
    sent.map_err(|error| network::unreachable(who, &error))
}

/// What an answer that says no means for a login.
pub(super) fn refusal(who: &str, status: StatusCode, response: &Response) -> ReadError {
    let code = status.as_u16();
    if status.is_client_error() && !matches!(code, 408 | 425 | 429) {
        let cause = format!("{who} answers {code}: it gives nothing to log in with");
        return ReadError::new(ReadErrorKind::Denied, cause);
    }
    network::status(who, code, response.headers())
}
