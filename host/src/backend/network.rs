//! How the servers of a vault are reached: its own CA, the proxy, and what an error says.
//!
//! One place for all backends that speak HTTP, so that `ca_cert`, `HTTPS_PROXY` and `NO_PROXY` mean
//! the same everywhere and nothing is taken from the process environment. A proxy is used for
//! `https` only: through it goes a tunnel, in which it sees no credential. No redirect is followed,
//! since a credential would go along.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, redirect};
use vaultref_contract::Secret;
use zeroize::Zeroizing;

use super::{ReadError, ReadErrorKind};
use crate::config::{ConfigError, Fields, Node};
use crate::environment::Environment;

/// The largest answer that is taken, in bytes: several secrets at once, each in base64.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// How the servers of one vault are reached.
#[derive(Debug)]
pub(crate) struct Network {
    ca: Option<Ca>,
    proxy: Option<Proxy>,
}

#[derive(Debug)]
struct Ca {
    node: Node,
    pem: Vec<u8>,
}

/// A proxy for `https`. The address may hold a password.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// `http://user:password@host:port`.
    pub(crate) address: Secret,
    /// Hosts that are reached without it, as `NO_PROXY` lists them.
    pub(crate) except: String,
}

impl Network {
    /// Takes the field `ca_cert` (a file, or the PEM text itself) and the variables `HTTPS_PROXY` and
    /// `NO_PROXY` (also in lower case).
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate; the proxy's address is none.
    pub(crate) fn take(
        fields: &mut Fields,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let ca = fields.take("ca_cert").map(Ca::read).transpose()?;
        Ok(Self {
            ca,
            proxy: Proxy::of(environment)?,
        })
    }

    /// The vault's own CA certificates as PEM; none means the system's.
    pub(crate) fn ca_pem(&self) -> Option<&[u8]> {
        self.ca.as_ref().map(|ca| &*ca.pem)
    }

    /// The proxy, for clients that are not made by [`Network::client`].
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// A client for servers at `https` addresses, or with `tls` false for `http` ones.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub(crate) fn client(&self, tls: bool) -> Result<reqwest::Client, ConfigError> {
        self.client_with(tls, |builder| builder)
    }

    /// The same, with something more set.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub(crate) fn client_with(
        &self,
        tls: bool,
        more: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<reqwest::Client, ConfigError> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_rustls()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .tcp_keepalive(Duration::from_secs(30));
        // The vault's own CA and no other: nobody else's certificate is meant.
        if let Some(ca) = &self.ca {
            builder = builder.tls_certs_only(ca.certificates()?);
        } else if !tls {
            // Without TLS there is no need for the system's certificates, which may be missing.
            builder = builder.tls_certs_only(Vec::new());
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.for_reqwest()?);
        }
        more(builder).build().map_err(|_| match &self.ca {
            Some(ca) => ca.node.error("holds a certificate that cannot be used"),
            None => ConfigError::new("", "the system's CA certificates cannot be used"),
        })
    }
}

impl Ca {
    fn read(node: Node) -> Result<Self, ConfigError> {
        let text = node.text()?;
        let pem = if text.trim_start().starts_with("-----BEGIN") {
            text.into_bytes()
        } else {
            std::fs::read(&text)
                .map_err(|error| node.error(format!("{text} cannot be read: {}", error.kind())))?
        };
        let ca = Self { node, pem };
        ca.certificates()?;
        Ok(ca)
    }

    fn certificates(&self) -> Result<Vec<reqwest::Certificate>, ConfigError> {
        let certificates = reqwest::Certificate::from_pem_bundle(&self.pem).unwrap_or_default();
        if certificates.is_empty() {
            return Err(self.node.error("holds no PEM certificate"));
        }
        Ok(certificates)
    }
}

impl Proxy {
    fn of(environment: &Environment) -> Result<Option<Self>, ConfigError> {
        let value = |names: [&str; 2]| {
            let mut values = names
                .into_iter()
                .map(|name| (name, environment.value(name)));
            values.find_map(|(name, value)| Some((name.to_owned(), value?)))
        };
        let Some((name, address)) = value(["HTTPS_PROXY", "https_proxy"]) else {
            return Ok(None);
        };
        if address.is_empty() {
            return Ok(None);
        }
        let except = value(["NO_PROXY", "no_proxy"])
            .and_then(|(_, value)| value.expose_text())
            .unwrap_or_default();
        let proxy = Self {
            address: address.duplicate(),
            except: except.to_owned(),
        };
        proxy
            .for_reqwest()
            .map_err(|_| ConfigError::new(&name, "is no address of a proxy"))?;
        Ok(Some(proxy))
    }

    fn for_reqwest(&self) -> Result<reqwest::Proxy, ConfigError> {
        let wrong = || ConfigError::new("HTTPS_PROXY", "is no address of a proxy");
        let address = self.address.expose_text().ok_or_else(wrong)?;
        let proxy = reqwest::Proxy::https(address).map_err(|_| wrong())?;
        Ok(proxy.no_proxy(reqwest::NoProxy::from_string(&self.except)))
    }
}

/// What a status that is no success means, unless the backend knows better. Its answer's text is not
/// repeated: it may hold anything.
pub(crate) fn status(who: &str, code: u16, headers: &HeaderMap) -> ReadError {
    let (kind, cause) = match code {
        401 | 403 => (
            ReadErrorKind::Denied,
            format!("{who} answers {code}: these credentials may not read it"),
        ),
        404 => (ReadErrorKind::NotFound, format!("{who} answers 404")),
        429 => (
            ReadErrorKind::Unavailable,
            format!("{who} answers 429: too many requests"),
        ),
        300..=399 => (
            ReadErrorKind::Unavailable,
            format!(
                "{who} answers {code}; a redirect is not followed, since credentials would go along"
            ),
        ),
        _ => (ReadErrorKind::Unavailable, format!("{who} answers {code}")),
    };
    ReadError {
        retry_after: retry_after(headers),
        transient: matches!(code, 429 | 500..=599),
        ..ReadError::new(kind, cause)
    }
}

/// The header `Retry-After`, in seconds or as a date, which is taken against the answer's own `Date`.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    date.duration_since(now).ok()
}

/// The body of an answer, in memory that is wiped.
pub(crate) async fn body(
    who: &str,
    response: &mut Response,
) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let announced = response.content_length().unwrap_or_default();
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    let mut body = Zeroizing::new(Vec::with_capacity(announced.min(MAX_ANSWER_BYTES)));
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| {
            ReadError::transient(format!("{who} broke off its answer: {}", root(&error)))
        })?;
        let Some(chunk) = chunk else {
            return Ok(body);
        };
        let length = body.len() + chunk.len();
        if length > MAX_ANSWER_BYTES {
            return Err(unreadable(who));
        }
        if length > body.capacity() {
            // A vector that grows by itself leaves what it held behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(length * 2));
            larger.extend_from_slice(&body);
            body = larger;
        }
        body.extend_from_slice(&chunk);
    }
}

/// Why a request got no answer.
pub(crate) fn unreachable(who: &str, error: &(dyn Error + 'static)) -> ReadError {
    ReadError::transient(format!("{who} cannot be reached: {}", root(error)))
}

/// The error at the bottom: the others name the address again, or nothing.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

/// An answer that is none of such a server.
pub(crate) fn unreadable(who: &str) -> ReadError {
    ReadError::new(
        ReadErrorKind::Unavailable,
        format!("the answer is none of {who}"),
    )
}
