//! `conjur`: CyberArk Conjur (Secrets Manager), variables by their id.
//!
//! Spoken to as its REST API is documented (Retrieve a secret, Batch secret retrieval, Authenticate:
//! <https://docs.cyberark.com/conjur-enterprise/latest/en/content/developer/lp_rest_api.htm>). An id
//! goes into one segment of a path, so whatever is in it cannot lead out of the account.
//!
//! Several variables are read in one call where they can be. The server answers such a call as a
//! whole: if one of them is missing or forbidden, each is asked for by itself.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use vaultref_contract::Secret;
use zeroize::Zeroizing;

use super::endpoint::{Endpoint, encoded};
use super::network::{self, Network};
use super::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading, Spelling, USUAL_TTL};
use crate::config::{ConfigError, Fields, Node};
use crate::environment::Environment;
use crate::value::Wiped;
use login::Account;

mod login;

pub(super) const KIND: Kind = Kind {
    name: "conjur",
    build,
    ttl: USUAL_TTL,
    reference_options: &[],
    spelling: Spelling::EXACT,
};

/// What errors call it.
const SERVER: &str = "Conjur";

/// How many variables are asked for in one call.
const BATCH: usize = 50;

/// How long the list of a call may be, in bytes: servers and proxies take addresses of 8 KiB.
const MAX_LIST: usize = 6000;

/// How many are asked for at a time where a call for all of them has failed.
const SINGLY: usize = 8;

struct Conjur {
    http: reqwest::Client,
    endpoint: Endpoint,
    account: Account,
    scope: String,
}

fn build(
    fields: &mut Fields,
    environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    if let Some(method) = fields.take("auth_method") {
        method.word(&["api_key"])?;
    }
    let endpoint = Endpoint::read(&fields.require("endpoint_url")?)?;
    let name = account_name(&fields.require("account")?)?;
    let account = Account::take(name, fields)?;
    let network = Network::take(fields, environment)?;
    Ok(Arc::new(Conjur {
        http: network.client(endpoint.is_tls())?,
        scope: format!("{}/secrets/{}/variable/", endpoint.place(), account.name),
        account,
        endpoint,
    }))
}

fn account_name(node: &Node) -> Result<String, ConfigError> {
    let text = node.text()?;
    // A colon or comma would make another of the ids that are asked for in one call.
    let is_name = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b":,/?#".contains(&byte))
        && !matches!(text.as_str(), "." | "..");
    if !is_name {
        return Err(
            node.error("must be visible ASCII characters without ':', ',', '/', '?' and '#'")
        );
    }
    Ok(text)
}

impl Backend for Conjur {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.scope)
    }

    fn objects_are_texts(&self) -> bool {
        true
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        if !is_id(asked.resource) {
            return Err(ReadError::new(
                ReadErrorKind::InvalidName,
                "an id has no control character and no empty name, '.' or '..' between slashes",
            ));
        }
        // The server's numbers end there.
        let is_version = |version| i32::try_from(version).is_ok_and(|version| version > 0);
        if !asked.version.is_none_or(is_version) {
            return Err(ReadError::new(
                ReadErrorKind::NotFound,
                "versions are counted from 1",
            ));
        }
        Ok(Object {
            scope: self.scope.clone(),
            path: asked.resource.to_owned(),
            version: asked.version,
            alias: None,
        })
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        Box::pin(self.one(object))
    }

    fn batch(&self) -> usize {
        BATCH
    }

    fn read_batch<'a>(
        &'a self,
        objects: &'a [Object],
    ) -> BoxFuture<'a, Vec<Result<Reading, ReadError>>> {
        Box::pin(async move {
            let mut results: Vec<_> = objects.iter().map(|_| None).collect();
            for list in self.lists(objects) {
                self.together(objects, &list, &mut results).await;
            }
            // (A loop, since a closure that makes these futures is not general enough for a box.)
            let mut singly = Vec::new();
            for (object, result) in objects.iter().zip(results) {
                singly.push(self.settled(object, result));
            }
            stream::iter(singly).buffered(SINGLY).collect().await
        })
    }
}

type Outcome = Option<Result<Reading, ReadError>>;

impl Conjur {
    /// The result, or the variable read by itself if there is none.
    async fn settled(&self, object: &Object, result: Outcome) -> Result<Reading, ReadError> {
        match result {
            Some(result) => result,
            None => self.one(object).await,
        }
    }

    async fn one(&self, object: &Object) -> Result<Reading, ReadError> {
        let id = encoded(&object.path);
        let mut url = format!(
            "{}/secrets/{}/variable/{id}",
            self.endpoint,
            encoded(&self.account.name)
        );
        if let Some(version) = object.version {
            url.push_str(&format!("?version={version}"));
        }
        let answer = self.ask(|| self.http.get(&url)).await?;
        match answer.status() {
            StatusCode::OK => {
                let body = network::body(SERVER, answer).await?;
                Ok(Reading::new(body))
            }
            StatusCode::NOT_FOUND => Err(ReadError::new(
                ReadErrorKind::NotFound,
                "Conjur answers 404: no such variable, no value or version, or not to be seen by us",
            )),
            status => Err(network::status(SERVER, status.as_u16(), answer.headers())),
        }
    }

    /// Which are asked for in which call. The server has no versions there, and takes a comma for
    /// the end of an id.
    fn lists(&self, objects: &[Object]) -> Vec<Vec<usize>> {
        let mut lists = Vec::new();
        let mut list = Vec::new();
        let mut length = 0;
        for (index, object) in objects.iter().enumerate() {
            if object.version.is_some() || object.path.contains(',') {
                continue;
            }
            let more = encoded(&self.full_id(object)).len() + 3;
            if length + more > MAX_LIST {
                lists.push(std::mem::take(&mut list));
                length = 0;
            }
            length += more;
            list.push(index);
        }
        lists.push(list);
        // One alone is asked for as such.
        lists.retain(|list| list.len() > 1);
        lists
    }

    fn full_id(&self, object: &Object) -> String {
        format!("{}:variable:{}", self.account.name, object.path)
    }

    /// Fills in the results that one call gives.
    async fn together(&self, objects: &[Object], list: &[usize], results: &mut [Outcome]) {
        let listed = || {
            list.iter()
                .filter_map(|index| Some((*index, objects.get(*index)?)))
        };
        let ids: Vec<_> = listed().map(|(_, object)| self.full_id(object)).collect();
        let answer = self.batch_of(&ids).await;
        for ((index, _), id) in listed().zip(&ids) {
            let Some(result) = results.get_mut(index) else {
                continue;
            };
            *result = match &answer {
                Ok(Some(values)) => values.reading(id),
                // Some are not to be had; which, the server does not say.
                Ok(None) => None,
                Err(error) => Some(Err(error.clone())),
            };
        }
    }

    /// None if the server refuses the call as such.
    async fn batch_of(&self, ids: &[String]) -> Result<Option<Values>, ReadError> {
        let url = format!(
            "{}/secrets?variable_ids={}",
            self.endpoint,
            encoded(&ids.join(","))
        );
        let request = || self.http.get(&url).header(ACCEPT_ENCODING, "base64");
        let answer = self.ask(request).await?;
        let status = answer.status();
        let stands = matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS
        );
        if status.is_client_error() && !stands {
            return Ok(None);
        }
        if status != StatusCode::OK {
            return Err(network::status(SERVER, status.as_u16(), answer.headers()));
        }
        // Older servers know nothing of it.
        let encoding = answer.headers().get(CONTENT_ENCODING);
        let is_base64 =
            encoding.is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"base64"));
        let body = match network::body(SERVER, answer).await {
            // All together are too long for one answer; each alone may not be.
            Err(error) if error.kind == ReadErrorKind::WrongType => return Ok(None),
            body => body?,
        };
        let document = serde_json::from_slice(body.expose()).map(Wiped);
        let document = document.map_err(|_| network::unreadable(SERVER))?;
        if !document.0.is_object() {
            return Err(network::unreadable(SERVER));
        }
        Ok(Some(Values {
            document,
            is_base64,
        }))
    }

    /// Asks with the current token; if that is not taken any more, once again with a new one.
    async fn ask(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, ReadError> {
        let send = async |token: &Secret| {
            let answer = self.account.authorize(request(), token)?.send().await;
            answer.map_err(|error| network::unreachable(SERVER, &error))
        };
        let login = self.account.current(&self.http, &self.endpoint).await?;
        let answer = send(&login.token).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || !self.account.forget(&login).await {
            return Ok(answer);
        }
        let login = self.account.current(&self.http, &self.endpoint).await?;
        send(&login.token).await
    }
}

/// The answer to a call for several variables.
struct Values {
    document: Wiped,
    is_base64: bool,
}

impl Values {
    /// The value of one; none if the server has left it out.
    fn reading(&self, id: &str) -> Outcome {
        let Value::String(text) = self.document.0.get(id)? else {
            return Some(Err(network::unreadable(SERVER)));
        };
        if !self.is_base64 {
            return Some(Ok(Reading::new(Secret::from(text.clone()))));
        }
        // In lines of 60 characters.
        let joined: Zeroizing<Vec<u8>> = Zeroizing::new(
            text.bytes()
                .filter(|byte| !byte.is_ascii_whitespace())
                .collect(),
        );
        let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(joined.len())]);
        let length = STANDARD.decode_slice(&joined, &mut bytes);
        let value = length.ok().and_then(|length| bytes.get(..length));
        Some(match value {
            Some(value) => Ok(Reading::new(Secret::new(value.to_vec()))),
            None => Err(network::unreadable(SERVER)),
        })
    }
}

/// An id that means the same to every server and proxy on its way.
fn is_id(id: &str) -> bool {
    !id.chars().any(char::is_control)
        && id
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests;
