//! One call to a server that gives tokens.

use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;
use vaultref_contract::Secret;
use zeroize::Zeroizing;

use super::Token;
use crate::backend::endpoint::encoded;
use crate::backend::{ReadError, ReadErrorKind, network};
use crate::value::Wiped;

/// An answer's headers and body.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Secret,
}

/// Puts a form into a request.
pub(super) fn form(request: RequestBuilder, pairs: &[(&str, &str)]) -> RequestBuilder {
    let length = |(name, value): &(&str, &str)| name.len() + 3 * value.len() + 2;
    // Room for all, since a text that grows leaves what it held behind.
    let mut form = String::with_capacity(pairs.iter().map(length).sum());
    for (name, value) in pairs {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        form.push_str(&Zeroizing::new(encoded(value)));
    }
    request
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(network::wiped(Secret::from(form)))
}

/// Sends it, once.
///
/// # Errors
/// The server cannot be reached, or says no.
pub(super) async fn send(who: &str, request: RequestBuilder) -> Result<Answer, ReadError> {
    let answer = request.send().await;
    let answer = answer.map_err(|error| network::unreachable(who, &error))?;
    let code = answer.status().as_u16();
    let headers = answer.headers().clone();
    match code {
        200..=299 => Ok(Answer {
            headers,
            body: network::login_body(who, answer).await?,
        }),
        // What a server of tokens does not find is whoever asks for one.
        400 | 401 | 403 | 404 => Err(ReadError::new(
            ReadErrorKind::Denied,
            format!("{who} answers {code}: it takes these credentials for none"),
        )),
        _ => Err(network::status(who, code, &headers)),
    }
}

impl Answer {
    /// The member of that name, which is text.
    pub(super) fn text(&self, who: &str, name: &str) -> Result<Secret, ReadError> {
        let value = self.parsed(who)?;
        let text = value.0.get(name).and_then(Value::as_str);
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| Secret::from(text.to_owned()))
            .ok_or_else(|| network::unreadable(who))
    }

    /// An answer of OAuth 2.0 (RFC 6749, section 5.1).
    pub(super) fn token(&self, who: &str) -> Result<Token, ReadError> {
        let lease = self
            .parsed(who)?
            .0
            .get("expires_in")
            .and_then(Value::as_u64);
        Ok(Token {
            value: self.text(who, "access_token")?,
            lease: lease.map_or(Duration::from_secs(3600), Duration::from_secs),
        })
    }

    fn parsed(&self, who: &str) -> Result<Wiped, ReadError> {
        let parsed = serde_json::from_slice(self.body.expose());
        parsed.map(Wiped).map_err(|_| network::unreadable(who))
    }
}
