//! One address that is the vault, and all of a cloud that a login asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::{Router, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::Outside;
use crate::backend::hcv::Engine;
use crate::backend::{Asked, Backend as _, ReadError};
use crate::config::fields;
use crate::environment::Environment;

/// 2027-01-15 08:00:00 UTC.
pub(super) const NOW: u64 = 1_800_000_000;

/// What came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().expect("text"))
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

type Answers = HashMap<&'static str, (u16, String)>;

/// Answers by the path without its query, and remembers what came.
pub(super) struct Fake {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// The vault takes every login below `auth/`, and its tokens are good for one read, so that each
    /// read logs in.
    pub(super) async fn start(answers: &[(&'static str, u16, &str)]) -> Self {
        let answers = answers.iter();
        let answers = answers.map(|(path, status, body)| (*path, (*status, (*body).to_owned())));
        let answers: Answers = answers.collect();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let (log, answers) = (Arc::clone(&seen), Arc::new(answers));
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let seen = Seen {
                method,
                path: uri.to_string(),
                headers,
                body: body.to_vec(),
            };
            let (status, answer) = respond(&answers, &seen, uri.path(), &log);
            log.lock().expect("no panic").push(seen);
            async move { (StatusCode::from_u16(status).expect("a status"), answer) }
        };
        tokio::spawn(async move { serve(listener, Router::new().fallback(handler)).await });
        Self { address, seen }
    }

    /// All that came to a path that starts like this.
    pub(super) fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen.lock().expect("no panic");
        let matching = seen.iter().filter(|seen| seen.path.starts_with(path));
        matching.cloned().collect()
    }

    /// What the last login showed.
    pub(super) fn shown(&self, path: &str) -> Value {
        self.seen(path).pop().expect("a login").json()
    }

    pub(super) fn engine(&self, config: &str, environment: Environment) -> Engine {
        let port = self.address.rsplit(':').next().expect("a port");
        let mut fields = fields(&format!("{{port: {port}, {config}}}"));
        let here = format!("http://{}", self.address);
        let outside = Outside {
            google_metadata: here.clone(),
            google_credentials: here.clone(),
            link_local: here,
            now: || -> SystemTime { UNIX_EPOCH + Duration::from_secs(NOW) },
        };
        let engine = Engine::take(&mut fields, &Arc::new(environment), &outside);
        let engine = engine.expect("a vault");
        fields.finish().expect("no other field");
        engine
    }

    /// Reads once, with a login.
    pub(super) async fn read(&self, config: &str) -> Result<(), ReadError> {
        read(&self.engine(config, Environment::default())).await
    }
}

pub(super) async fn read(engine: &Engine) -> Result<(), ReadError> {
    let object = engine.object(&Asked::current("app")).expect("a path");
    engine.read(&object).await.map(drop)
}

fn respond(answers: &Answers, seen: &Seen, path: &str, log: &Mutex<Vec<Seen>>) -> (u16, String) {
    if let Some((status, body)) = answers.get(path) {
        return (*status, body.clone());
    }
    if path.starts_with("/v1/auth/") && seen.method == Method::POST {
        let log = log.lock().expect("no panic");
        let logins = log.iter().filter(|seen| seen.path == path).count();
        let auth = json!({
            "client_token": format!("token-{logins}"),
            "lease_duration": 3600,
            "num_uses": 1,
            "metadata": {"nonce": "of-the-server"},
        });
        return (200, json!({ "auth": auth }).to_string());
    }
    let token = seen.header("x-vault-token");
    let log = log.lock().expect("no panic");
    let is_used_up = log.iter().any(|seen| seen.header("x-vault-token") == token);
    if path != "/v1/secret/app" || token.is_empty() || is_used_up {
        return (403, json!({"errors": ["permission denied"]}).to_string());
    }
    (200, json!({"data": {"k": "v"}}).to_string())
}
