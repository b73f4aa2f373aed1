//! `jwt`: a token of an OAuth 2.0 server, got with a client's own credentials (RFC 6749, 4.4).
//!
//! The client shows its secret in the header, which each such server has to take (2.3.1), and in the
//! body to one that does not.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Url};
use serde_json::json;
use vaultref_contract::Secret;
use zeroize::Zeroizing;

use super::outside::{json, refusal, send, text_of};
use super::{Method, Proof, Surroundings, Way, member, required, secret, text};
use crate::backend::hcv::server::Server;
use crate::backend::{ReadError, network};
use crate::config::{ConfigError, Fields, Node};
use crate::value::Wiped;

pub(super) const FIELDS: &[&str] = &[
    "oauth2_role_name",
    "oauth2_token_endpoint",
    "oauth2_client_id",
    "oauth2_client_secret",
    "oauth2_audiences",
];

const WHO: &str = "the token endpoint";

struct Jwt {
    http: Client,
    role: String,
    endpoint: Url,
    client_id: Secret,
    client_secret: Secret,
    audiences: Vec<String>,
    /// The endpoint wants the secret in the body.
    in_body: AtomicBool,
}

pub(super) fn take(fields: &mut Fields, around: &Surroundings<'_>) -> Result<Way, ConfigError> {
    let mut field = |name| required(fields, "jwt", name);
    let role = text(&field("oauth2_role_name")?)?;
    let endpoint = endpoint(&field("oauth2_token_endpoint")?)?;
    let client_id = secret(&field("oauth2_client_id")?)?;
    let client_secret = secret(&field("oauth2_client_secret")?)?;
    Ok(Way::Method(Box::new(Jwt {
        http: around.network.client_beside()?,
        role,
        endpoint,
        client_id,
        client_secret,
        audiences: audiences(fields.take("oauth2_audiences"))?,
        in_body: AtomicBool::new(false),
    })))
}

/// Where credentials are sent must be spelled out.
fn endpoint(node: &Node) -> Result<Url, ConfigError> {
    let wrong = || node.error("must be an address that starts with https:// or http://");
    let url = Url::parse(&text(node)?).map_err(|_| wrong())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
        return Err(wrong());
    }
    Ok(url)
}

/// A text with commas or spaces between the audiences, or a list.
fn audiences(node: Option<Node>) -> Result<Vec<String>, ConfigError> {
    let Some(node) = node else {
        return Ok(Vec::new());
    };
    let Ok(text) = node.text() else {
        return node.texts();
    };
    let audiences = text
        .split([',', ' '])
        .filter(|audience| !audience.is_empty());
    Ok(audiences.map(str::to_owned).collect())
}

impl Method for Jwt {
    fn name(&self) -> &'static str {
        "jwt"
    }

    fn proof<'a>(&'a self, _: &'a Server) -> BoxFuture<'a, Result<Proof, ReadError>> {
        Box::pin(async {
            let jwt = member(&self.access_token().await?)?;
            Ok(Proof {
                path: "auth/jwt/login".to_owned(),
                body: Wiped(json!({"role": self.role, "jwt": jwt})),
                http: None,
            })
        })
    }
}

impl Jwt {
    async fn access_token(&self) -> Result<Secret, ReadError> {
        let in_body = self.in_body.load(Ordering::Relaxed);
        let mut response = send(WHO, self.request(in_body)?).await?;
        // `invalid_client`, and what servers say that look for nothing but the body.
        if !in_body && matches!(response.status().as_u16(), 400 | 401) {
            response = send(WHO, self.request(true)?).await?;
            self.in_body.store(true, Ordering::Relaxed);
        }
        if !response.status().is_success() {
            self.in_body.store(false, Ordering::Relaxed);
            return Err(refusal(WHO, response.status(), &response));
        }
        let mut answer = json(WHO, &network::login_body(WHO, response).await?)?;
        text_of(WHO, &mut answer, "access_token")
    }

    fn request(&self, in_body: bool) -> Result<reqwest::RequestBuilder, ReadError> {
        let mut form = Form::new();
        form.add("grant_type", b"client_credentials");
        for audience in &self.audiences {
            form.add("audience", audience.as_bytes());
        }
        let mut request = self
            .http
            .post(self.endpoint.clone())
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded");
        if in_body {
            form.add("client_id", self.client_id.expose());
            form.add("client_secret", self.client_secret.expose());
        } else {
            request = request.header(AUTHORIZATION, self.basic()?);
        }
        Ok(request.body(network::wiped(Secret::new(form.0))))
    }

    /// Both parts are form-encoded before they are joined (RFC 6749, 2.3.1).
    fn basic(&self) -> Result<HeaderValue, ReadError> {
        let mut joined = Zeroizing::new(Vec::with_capacity(4 << 10));
        encode(self.client_id.expose(), &mut joined);
        joined.push(b':');
        encode(self.client_secret.expose(), &mut joined);
        let mut text = Zeroizing::new(String::with_capacity(8 << 10));
        text.push_str("Basic ");
        STANDARD.encode_string(&*joined, &mut text);
        let value = HeaderValue::from_str(&text);
        let mut value = value.map_err(|_| network::unreadable(WHO))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// A body as HTML forms have it. It becomes a secret.
struct Form(Vec<u8>);

impl Form {
    fn new() -> Self {
        // Room for what is usual, so that nothing is left behind by growing.
        Self(Vec::with_capacity(4 << 10))
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'&');
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
        encode(value, &mut self.0);
    }
}

fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(*byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}
