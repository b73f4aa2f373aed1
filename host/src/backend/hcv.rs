//! `hcv`: HashiCorp Vault and OpenBao, key-value engines v1 and v2, with a token.
//!
//! It goes through `vaultrs`, with every setting given: what is left open there is read from
//! `VAULT_*` variables, one of which turns TLS checks off. The HTTP client is our own, so that no
//! redirect and no proxy of the environment gets to see the token. Paths are checked here, since a
//! client that drops or folds parts of a path would read another object than the one that policy
//! was asked about.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::redirect;
use rustify::clients::reqwest::Client as HttpClient;
use rustify::errors::ClientError as RestError;
use serde_json::Value;
use vaultref_contract::Secret;
use vaultrs::api::EndpointMiddleware;
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};
use vaultrs::error::ClientError;
use vaultrs::{kv1, kv2};

use super::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading, Spelling, USUAL_TTL};
use crate::config::{ConfigError, Fields, Node};
use crate::environment::Environment;
use crate::value::Wiped;

pub(super) const KIND: Kind = Kind {
    name: "hcv",
    build,
    ttl: USUAL_TTL,
    reference_options: &[],
    spelling: Spelling::EXACT,
};

struct Server {
    client: VaultClient,
    mount: String,
    engine: Engine,
    scope: String,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Engine {
    V1,
    V2,
}

fn build(
    fields: &mut Fields,
    _environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    if let Some(method) = fields.take("auth_method")
        && method.text()? != "token"
    {
        return Err(method.error("only 'token' is supported yet"));
    }
    let address = address(fields)?;
    let mount = match fields.take("mount") {
        None => "secret".to_owned(),
        Some(node) => segments(&node)?,
    };
    let engine = match fields.take("kv") {
        None => Engine::V1,
        Some(node) => match node.word(&["v1", "v2"])? {
            "v2" => Engine::V2,
            _ => Engine::V1,
        },
    };
    let namespace = fields.take("namespace").map(|node| segments(&node));
    let namespace = namespace.transpose()?;
    let token = token(&fields.require("token")?)?;
    let http = http_client(&address, fields.take("ca_cert"))?;
    let data = if engine == Engine::V2 { "data/" } else { "" };
    let within = namespace.iter().map(|namespace| format!("{namespace}/"));
    let place = one_name(&address);
    let scope = format!("{place}/v1/{}{mount}/{data}", within.collect::<String>());
    let client = client(&address, http, &token, namespace)
        .ok_or_else(|| fields.error("the vault cannot be used with these fields"))?;
    Ok(Arc::new(Server {
        client,
        mount,
        engine,
        scope,
    }))
}

/// Scheme, host and port with one name for this machine, so that a `deny` holds whichever of its
/// names a vault uses.
fn one_name(address: &str) -> String {
    let Ok(url) = reqwest::Url::parse(address) else {
        return address.to_owned();
    };
    let is_here = url
        .host_str()
        .is_some_and(|host| host == "localhost" || host == "[::1]" || host.starts_with("127."));
    match url.port_or_known_default() {
        Some(port) if is_here => format!("{}://localhost:{port}", url.scheme()),
        _ => address.to_owned(),
    }
}

/// Scheme, host and port, in the one form in which two vaults on one server are equal.
fn address(fields: &mut Fields) -> Result<String, ConfigError> {
    let protocol = match fields.take("protocol") {
        None => "http",
        Some(node) => node.word(&["http", "https"])?,
    };
    let port = match fields.take("port") {
        None => 8200,
        Some(node) => node.integer(1..=65_535)?,
    };
    let Some(node) = fields.take("host") else {
        return Ok(format!("{protocol}://127.0.0.1:{port}"));
    };
    let host = node.text()?;
    let wrong = || node.error("must be a host's name or address, without scheme, port and path");
    let bracketed = match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host,
    };
    if bracketed.contains(|c: char| c.is_control() || c.is_whitespace() || "/\\?#@%".contains(c)) {
        return Err(wrong());
    }
    if !bracketed.starts_with('[') && bracketed.contains(':') {
        return Err(wrong());
    }
    let url = reqwest::Url::parse(&format!("{protocol}://{bracketed}:{port}/"));
    let url = url.map_err(|_| wrong())?;
    let host = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(wrong)?;
    Ok(format!(
        "{protocol}://{}:{port}",
        host.trim_end_matches('.')
    ))
}

/// A mount or a namespace: names between slashes, of which those at the ends mean nothing.
fn segments(node: &Node) -> Result<String, ConfigError> {
    let text = node.text()?;
    let text = text.trim().trim_matches('/');
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || !is_path(text) {
        return Err(node.error(
            "must be visible ASCII characters, with no empty name, '.' or '..' between slashes",
        ));
    }
    Ok(text.to_owned())
}

fn token(node: &Node) -> Result<Secret, ConfigError> {
    let given = node.secret()?;
    let token = given.expose().trim_ascii();
    // What is no header's value would end the process in the library.
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(node.error("must be one or more visible ASCII characters"));
    }
    Ok(Secret::new(token.to_vec()))
}

fn http_client(address: &str, ca_cert: Option<Node>) -> Result<reqwest::Client, ConfigError> {
    let builder = reqwest::Client::builder()
        .tls_backend_rustls()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .tcp_keepalive(Duration::from_secs(30));
    let (builder, node) = match ca_cert {
        // The vault's own CA and no other: nobody else's certificate is meant.
        Some(node) => (builder.tls_certs_only(certificates(&node)?), Some(node)),
        // Without TLS there is no need for the system's certificates, which may be missing.
        None if address.starts_with("http:") => (builder.tls_certs_only(Vec::new()), None),
        None => (builder, None),
    };
    builder.build().map_err(|_| match node {
        Some(node) => node.error("holds a certificate that cannot be used"),
        None => ConfigError::new(address, "the system's CA certificates cannot be used"),
    })
}

fn certificates(node: &Node) -> Result<Vec<reqwest::Certificate>, ConfigError> {
    let path = node.text()?;
    let pem = std::fs::read(&path)
        .map_err(|error| node.error(format!("{path} cannot be read: {}", error.kind())))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(node.error(format!("{path} holds no PEM certificate")));
    }
    Ok(certificates)
}

/// Every setting is given, so that nothing is taken from the environment.
fn client(
    address: &str,
    http: reqwest::Client,
    token: &Secret,
    namespace: Option<String>,
) -> Option<VaultClient> {
    let token = token.expose_text()?;
    let mut settings = VaultClientSettingsBuilder::default();
    settings
        .address(reqwest::Url::parse(address).ok()?)
        .ca_certs(Vec::new())
        .identity(None)
        .timeout(None)
        .token(token)
        .verify(true)
        .version(1)
        .wrapping(false)
        .namespace(namespace.clone());
    Some(VaultClient {
        http: HttpClient::new(address, http),
        middle: EndpointMiddleware {
            token: token.to_owned(),
            version: "v1".to_owned(),
            wrap: None,
            namespace,
        },
        settings: settings.build().ok()?,
    })
}

impl Backend for Server {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.scope)
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        if !is_path(asked.resource) {
            return Err(ReadError::new(
                ReadErrorKind::InvalidName,
                "a path has no control character and no empty name, '.' or '..' between slashes",
            ));
        }
        // Zero is the engine's own word for the latest.
        let version = asked.version.filter(|version| *version > 0);
        if version.is_some() && self.engine == Engine::V1 {
            return Err(ReadError::new(
                ReadErrorKind::NotFound,
                "the key-value engine v1 has no versions",
            ));
        }
        Ok(Object {
            scope: self.scope.clone(),
            path: asked.resource.to_owned(),
            version,
            alias: None,
        })
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        Box::pin(async move {
            let read = match self.engine {
                Engine::V1 => self.read_v1(&object.path).await,
                Engine::V2 => self.read_v2(&object.path, object.version).await,
            };
            let (data, ttl) = read.map_err(|error| failed(&error))?;
            let data = Wiped(data);
            match &data.0 {
                Value::Object(_) => {}
                Value::Null => return Err(status(404)),
                _ => return Err(unreadable()),
            }
            let text = serde_json::to_vec(&data.0).map_err(|_| unreadable())?;
            Ok(Reading {
                content: Secret::new(text),
                ttl,
            })
        })
    }
}

impl Server {
    async fn read_v1(&self, path: &str) -> Result<(Value, Option<Duration>), ClientError> {
        let answer = kv1::get_raw(&self.client, &self.mount, path).await?;
        // The engine's lease is the secret's own `ttl`; without one it is a number of no meaning.
        let ttl = answer
            .data
            .get("ttl")
            .and(u64::try_from(answer.lease_duration).ok());
        Ok((answer.data, ttl.map(Duration::from_secs)))
    }

    async fn read_v2(
        &self,
        path: &str,
        version: Option<u64>,
    ) -> Result<(Value, Option<Duration>), ClientError> {
        let data = match version {
            Some(version) => kv2::read_version(&self.client, &self.mount, path, version).await?,
            None => kv2::read(&self.client, &self.mount, path).await?,
        };
        Ok((data, None))
    }
}

/// A path that means the same to every library and server on its way.
fn is_path(path: &str) -> bool {
    !path.chars().any(char::is_control)
        && path
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."))
}

fn failed(error: &ClientError) -> ReadError {
    match error {
        ClientError::APIError { code, .. } => status(*code),
        // A deleted version is a 404 whose body is no list of errors.
        ClientError::RestClientError {
            source: RestError::ServerResponseError { code, .. },
        } => status(*code),
        ClientError::ResponseDataEmptyError => status(404),
        ClientError::RestClientError {
            source: RestError::RequestError { source, .. },
        } => unavailable(format!("cannot be reached: {}", source.root_cause())),
        ClientError::RestClientError {
            source: RestError::ResponseError { source },
        } => unavailable(format!("broke off its answer: {}", source.root_cause())),
        _ => unreadable(),
    }
}

fn status(code: u16) -> ReadError {
    match code {
        403 => ReadError::new(
            ReadErrorKind::Denied,
            "the vault answers 403: the token is not valid, or its policy does not allow the path",
        ),
        404 => ReadError::new(
            ReadErrorKind::NotFound,
            "the vault answers 404: no such secret, version, mount or namespace",
        ),
        300..=399 => unavailable(format!(
            "the vault answers {code}; a redirect is not followed, since the token would go along"
        )),
        503 => unavailable("the vault answers 503: it is sealed or in maintenance".to_owned()),
        _ => unavailable(format!("the vault answers {code}")),
    }
}

fn unreadable() -> ReadError {
    unavailable("the answer is none of a vault".to_owned())
}

fn unavailable(cause: String) -> ReadError {
    ReadError::new(ReadErrorKind::Unavailable, cause)
}

#[cfg(test)]
mod tests;
