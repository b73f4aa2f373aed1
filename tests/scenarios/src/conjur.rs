//! A stand-in for CyberArk's Conjur: no server can be had from a registry.
//!
//! What it answers is what Conjur's REST API documentation says (Authenticate, Retrieve a
//! secret, Batch secret retrieval:
//! <https://docs.cyberark.com/conjur-enterprise/latest/en/content/developer/lp_rest_api.htm>)
//! and, where that leaves a question, what the open source server and its feature files
//! do (cyberark/conjur: `secrets_controller.rb`, `secrets_batch.feature`, `secrets.feature`,
//! `authenticate.feature`). CyberArk's own Python client logs in and reads here, too.
//!
//! - A token is JSON with `protected`, `payload` and `signature`; with `Accept-Encoding: base64`
//!   it comes as base64 text. A wrong API key, and a token that is not taken, are 401.
//! - A variable's id is percent-decoded once. One that is missing, has no value, has no such
//!   version, or is not visible to the role, is 404; one that it may see and not fetch, 403.
//! - A batch is answered whole or not at all: 404, 403, 400 for an id twice, 422 for an empty
//!   one, 406 for a value that is no text and was not asked for in base64. The list is split
//!   at commas after decoding. Base64 there comes in lines of 60 characters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::upstream::{Received, Reply, Upstream};

/// The organisation's account.
pub const ACCOUNT: &str = "myorg";

/// Who logs in: a host, whose name has a slash in it.
pub const LOGIN: &str = "host/gateway";

/// How many versions of a variable are kept.
const KEPT: usize = 20;

/// A running stand-in.
#[derive(Debug)]
pub struct Conjur {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    api_key: String,
    /// Values by id, the oldest first; the number of the first is how many are gone.
    variables: BTreeMap<String, (usize, Vec<Vec<u8>>)>,
    forbidden: BTreeSet<String>,
    hidden: BTreeSet<String>,
    tokens: BTreeSet<String>,
    logins: u64,
}

impl Conjur {
    /// Starts one without any variable.
    ///
    /// # Errors
    ///
    /// When the machine has no free port.
    pub fn start() -> Result<Self> {
        let state = Arc::new(Mutex::new(State {
            api_key: "3xcvq9d2hsjxcw1fkmfg93rzgk5w14wmyez1zvxy7n1yw1r2r2gk1bq".to_owned(),
            ..State::default()
        }));
        let answering = Arc::clone(&state);
        let upstream = Upstream::answering(move |request| lock(&answering).answer(request))?;
        Ok(Self { upstream, state })
    }

    /// Where it speaks HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// The API key of [`LOGIN`].
    #[must_use]
    pub fn api_key(&self) -> String {
        self.state().api_key.clone()
    }

    /// The `config` of a `conjur` vault that reads from it.
    #[must_use]
    pub fn vault_config(&self) -> Value {
        json!({
            "endpoint_url": format!("http://{}", self.address()),
            "account": ACCOUNT,
            "login": LOGIN,
            "api_key": self.api_key(),
            "auth_method": "api_key",
        })
    }

    /// Adds a value to a variable, and makes it if there is none; returns the version.
    pub fn put(&self, id: &str, value: &[u8]) -> u64 {
        let mut state = self.state();
        let (gone, values) = state.variables.entry(id.to_owned()).or_default();
        values.push(value.to_vec());
        if values.len() > KEPT {
            values.remove(0);
            *gone += 1;
        }
        (*gone + values.len()) as u64
    }

    /// Makes a variable that has no value.
    pub fn declare(&self, id: &str) {
        self.state().variables.entry(id.to_owned()).or_default();
    }

    /// Takes a variable away.
    pub fn delete(&self, id: &str) {
        self.state().variables.remove(id);
    }

    /// Makes a variable one that we may see and not fetch.
    pub fn forbid(&self, id: &str) {
        self.state().forbidden.insert(id.to_owned());
    }

    /// Makes a variable one that we may not even see.
    pub fn hide(&self, id: &str) {
        self.state().hidden.insert(id.to_owned());
    }

    /// Takes none of the tokens any more that it has given.
    pub fn revoke_tokens(&self) {
        self.state().tokens.clear();
    }

    /// Another API key for [`LOGIN`]; the tokens that were given stay good.
    pub fn change_api_key(&self, key: &str) {
        self.state().api_key = key.to_owned();
    }

    /// How many logins it has taken.
    #[must_use]
    pub fn logins(&self) -> u64 {
        self.state().logins
    }

    /// The requests so far, without the logins: the paths with their queries.
    #[must_use]
    pub fn reads(&self) -> Vec<String> {
        let requests = self.upstream.requests().into_iter();
        let reads = requests.filter(|request| request.method == "GET");
        reads.map(|request| request.path).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn answer(&mut self, request: &Received) -> Reply {
        let (path, query) = match request.path.split_once('?') {
            Some((path, query)) => (path, query),
            None => (&*request.path, ""),
        };
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), &*parts) {
            ("POST", ["authn", account, login, "authenticate"]) => {
                self.authenticate(&decoded(account), &decoded(login), request)
            }
            ("GET", _) if !self.takes(request) => Reply::status(401),
            ("GET", ["secrets"]) => self.batch(&parameter(query, "variable_ids"), request),
            ("GET", ["secrets", account, "variable", id @ ..]) if !id.is_empty() => {
                let id = decoded(&id.join("/"));
                self.show(&decoded(account), &id, &parameter(query, "version"))
            }
            _ => Reply::status(404),
        }
    }

    fn authenticate(&mut self, account: &str, login: &str, request: &Received) -> Reply {
        let is_known = account == ACCOUNT && login == LOGIN;
        if !is_known || request.body != self.api_key.as_bytes() {
            return Reply::status(401);
        }
        self.logins += 1;
        let claims = json!({ "sub": LOGIN, "iat": 1_700_000_000 + self.logins });
        let token = json!({
            "protected": STANDARD.encode(r#"{"alg":"conjur.org/slosilo/v2","kid":"0123"}"#),
            "payload": STANDARD.encode(claims.to_string()),
            "signature": STANDARD.encode(format!("signature {}", self.logins)),
        })
        .to_string();
        let encoded = STANDARD.encode(&token);
        self.tokens.insert(encoded.clone());
        if !wants_base64(request) {
            let reply = Reply::status(200).header("content-type", "application/json");
            return reply.body(token);
        }
        Reply::status(200)
            .header("content-type", "text/plain")
            .header("content-encoding", "base64")
            .body(encoded)
    }

    fn takes(&self, request: &Received) -> bool {
        let given = request.header("authorization").unwrap_or_default();
        let token = given.strip_prefix("Token token=\"");
        token
            .and_then(|token| token.strip_suffix('"'))
            .is_some_and(|token| self.tokens.contains(token))
    }

    fn show(&self, account: &str, id: &str, version: &str) -> Reply {
        if account != ACCOUNT {
            return missing(id);
        }
        match self.value(id, version) {
            Ok(value) => Reply::status(200)
                .header("content-type", "application/octet-stream")
                .body(value),
            Err(reply) => reply,
        }
    }

    fn batch(&self, list: &str, request: &Received) -> Reply {
        let ids: Vec<_> = list.split(',').collect();
        if ids.iter().any(|id| id.is_empty()) {
            return error(422, "argument_error", "variable_ids");
        }
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            return error(400, "bad_request", "CONJ00160E duplicate variable ids");
        }
        let base64 = wants_base64(request);
        let mut values = serde_json::Map::new();
        for full_id in ids {
            let prefix = format!("{ACCOUNT}:variable:");
            let Some(id) = full_id.strip_prefix(&prefix) else {
                return missing(full_id);
            };
            let value = match self.value(id, "") {
                Ok(value) => value,
                Err(reply) => return reply,
            };
            let text = match String::from_utf8(value.clone()) {
                _ if base64 => in_lines(&value),
                Ok(text) => text,
                Err(_) => return error(406, "not_acceptable", "CONJ00073E bad encoding"),
            };
            values.insert(full_id.to_owned(), text.into());
        }
        let mut reply = Reply::status(200).header("content-type", "application/json");
        if base64 {
            reply = reply.header("content-encoding", "base64");
        }
        reply.body(Value::Object(values).to_string())
    }

    fn value(&self, id: &str, version: &str) -> std::result::Result<Vec<u8>, Reply> {
        let Some((gone, values)) = self.variables.get(id) else {
            return Err(missing(id));
        };
        if self.hidden.contains(id) {
            return Err(missing(id));
        }
        if self.forbidden.contains(id) {
            return Err(Reply::status(403));
        }
        let index = match version {
            "" => values.len().checked_sub(1),
            version => version
                .parse()
                .ok()
                .and_then(|version: usize| version.checked_sub(gone + 1)),
        };
        let value = index.and_then(|index| values.get(index));
        value.cloned().ok_or_else(|| missing(id))
    }
}

fn missing(id: &str) -> Reply {
    let message = format!("CONJ00076E Variable {ACCOUNT}:variable:{id} is empty or not found.");
    error(404, "not_found", &message)
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::status(status)
        .header("content-type", "application/json")
        .body(json!({ "error": { "code": code, "message": message } }).to_string())
}

fn wants_base64(request: &Received) -> bool {
    let accepted = request.header("accept-encoding").unwrap_or_default();
    accepted.eq_ignore_ascii_case("base64")
}

fn in_lines(value: &[u8]) -> String {
    let text = STANDARD.encode(value);
    let lines = text.as_bytes().chunks(60);
    let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    lines.collect()
}

fn parameter(query: &str, name: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(candidate, _)| *candidate == name);
    let value = values.next().map_or("", |(_, value)| value);
    decoded(&value.replace('+', " "))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
