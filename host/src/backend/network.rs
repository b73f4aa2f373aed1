//! How the servers of a vault are reached: its own CA, the proxy, and what an error says.
//!
//! One place for all backends that speak HTTP, so that `ca_cert`, `HTTPS_PROXY` and `NO_PROXY` mean
//! the same everywhere and nothing is taken from the process environment. A proxy is used for
//! `https` only: through it goes a tunnel, in which it sees no credential. No redirect is followed,
//! since a credential would go along.

use std::error::Error;
use std::time::Duration;

use hyper::body::Bytes;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::redirect;
use vaultref_contract::Secret;
use zeroize::Zeroizing;

use super::{ReadError, ReadErrorKind};
use crate::config::{ConfigError, Fields, Node};
use crate::environment::Environment;

/// How long a server on this machine's own network may take to accept a connection: where there is
/// none, packets to it get lost.
const NEARBY: Duration = Duration::from_secs(2);

/// The most that an answer may have: more than any vault keeps in one object.
const LARGEST: usize = 16 << 20;

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
        let node = fields.take("ca_cert");
        let ca = node.map(|node| Ca::read(node, fields)).transpose()?;
        Ok(Self {
            ca,
            proxy: Proxy::of(environment)?,
        })
    }

    /// A client for servers at `https` addresses, or with `tls` false for `http` ones.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub(crate) fn client(&self, tls: bool) -> Result<reqwest::Client, ConfigError> {
        self.client_with(tls, |builder| builder)
    }

    /// A client for servers of others, which a login needs: they may have certificates of the
    /// vault's CA, and of those that the system knows.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub(crate) fn client_beside(&self) -> Result<reqwest::Client, ConfigError> {
        let mut builder = Self::builder();
        if let Some(ca) = &self.ca {
            builder = builder.tls_certs_merge(ca.certificates()?);
        }
        self.finish(builder)
    }

    /// A client for addresses of this machine's own network: no proxy, no TLS.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn client_nearby() -> Result<reqwest::Client, ConfigError> {
        let builder = Self::builder().tls_certs_only(Vec::new());
        let built = builder.connect_timeout(NEARBY).build();
        built.map_err(|_| ConfigError::new("", "no HTTP client can be made"))
    }

    /// The same as [`Network::client`], with something more set.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub(crate) fn client_with(
        &self,
        tls: bool,
        more: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<reqwest::Client, ConfigError> {
        let mut builder = Self::builder();
        // The vault's own CA and no other: nobody else's certificate is meant.
        if let Some(ca) = &self.ca {
            builder = builder.tls_certs_only(ca.certificates()?);
        } else if !tls {
            // Without TLS there is no need for the system's certificates, which may be missing.
            builder = builder.tls_certs_only(Vec::new());
        }
        self.finish(more(builder))
    }

    fn builder() -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .tls_backend_rustls()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .tcp_keepalive(Duration::from_secs(30))
    }

    fn finish(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::Client, ConfigError> {
        let builder = match &self.proxy {
            Some(proxy) => builder.proxy(proxy.for_reqwest()?),
            None => builder,
        };
        builder.build().map_err(|_| match &self.ca {
            Some(ca) => ca.node.error("holds a certificate that cannot be used"),
            None => ConfigError::new("", "the system's CA certificates cannot be used"),
        })
    }
}

impl Ca {
    fn read(node: Node, fields: &mut Fields) -> Result<Self, ConfigError> {
        let text = node.text()?;
        let pem = if text.trim_start().starts_with("-----BEGIN") {
            text.into_bytes()
        } else {
            fields
                .read_file(&text)
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

/// A request's body that is wiped when it has been sent.
pub(crate) fn wiped(body: Secret) -> Bytes {
    struct Body(Secret);

    impl AsRef<[u8]> for Body {
        fn as_ref(&self) -> &[u8] {
            self.0.expose()
        }
    }

    Bytes::from_owner(Body(body))
}

/// An answer's body, of which no copy is left behind.
pub(crate) async fn body(who: &str, mut response: reqwest::Response) -> Result<Secret, ReadError> {
    let told = response.content_length().map(usize::try_from);
    let most = told.and_then(Result::ok).unwrap_or(16 << 10);
    let mut bytes = Zeroizing::new(Vec::with_capacity(most.min(LARGEST)));
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|_| ReadError::transient(format!("{who} breaks off its answer")))?
    {
        if bytes.len() + chunk.len() > LARGEST {
            let cause = format!("the answer of {who} is too long");
            return Err(ReadError::new(ReadErrorKind::WrongType, cause));
        }
        if bytes.len() + chunk.len() > bytes.capacity() {
            // Growing in place would leave what is there behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * (bytes.len() + chunk.len())));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Secret::new(std::mem::take(&mut *bytes)))
}

/// The same of the answer to a login.
pub(crate) async fn login_body(
    who: &str,
    response: reqwest::Response,
) -> Result<Secret, ReadError> {
    body(who, response).await.map_err(of_login)
}

/// What an error says that a login has met. An answer that is too long is none of a login, and says
/// nothing about any secret: no value is dropped for it.
pub(crate) fn of_login(error: ReadError) -> ReadError {
    match error.kind {
        ReadErrorKind::WrongType => ReadError {
            kind: ReadErrorKind::Unavailable,
            ..error
        },
        _ => error,
    }
}

/// Why a request got no answer.
pub(crate) fn unreachable(who: &str, error: &(dyn Error + 'static)) -> ReadError {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    ReadError::transient(format!("{who} cannot be reached: {cause}"))
}

/// An answer that is none of such a server.
pub(crate) fn unreadable(who: &str) -> ReadError {
    ReadError::new(
        ReadErrorKind::Unavailable,
        format!("the answer is none of {who}"),
    )
}
