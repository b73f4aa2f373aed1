//! Which rule a request gets.
//!
//! Matching chooses a credential, so it must see a request as the upstream will: a path that two
//! parties could read differently (dot segments, encoded slashes, empty segments) is refused rather
//! than interpreted, and percent-encoding is undone before anything is compared.

use std::borrow::Cow;

use crate::compile::Kind;
use crate::config::{ConfigError, MatchConfig, push_member};
use crate::{HeaderPair, Host, Status};

/// nginx hands out no more headers than this, without a word.
const NGINX_PAIRS: usize = 100;

/// What a rule asks of a request; everything that is given must hold.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    hosts: Vec<Vec<u8>>,
    /// Decoded, without a slash at the end; empty for `/`.
    path_prefix: Option<Vec<u8>>,
    methods: Vec<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Matcher {
    /// Whether it is for every request.
    pub(crate) fn takes_all(&self) -> bool {
        self.hosts.is_empty()
            && self.path_prefix.is_none()
            && self.methods.is_empty()
            && self.headers.is_empty()
    }

    pub(crate) fn looks_at_host(&self) -> bool {
        !self.hosts.is_empty()
    }

    pub(crate) fn looks_at_path(&self) -> bool {
        self.path_prefix.is_some()
    }

    /// Whether servers differ in whether the path is below this prefix.
    pub(crate) fn is_ambiguous<H: Host>(&self, facts: &Facts<'_, H>) -> bool {
        let (Some(prefix), Some(path)) = (&self.path_prefix, facts.path()) else {
            return false;
        };
        is_below(path, prefix) != is_below(&without_parameters(path), prefix)
    }

    pub(crate) fn header_names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }

    /// Whether it is for this request.
    pub(crate) fn matches<H: Host>(&self, facts: &mut Facts<'_, H>) -> Result<bool, Status> {
        if !self.hosts.is_empty() {
            let host = facts.host()?;
            if !self.hosts.iter().any(|wanted| wanted == host) {
                return Ok(false);
            }
        }
        if !self.methods.is_empty() {
            let method = facts.method()?;
            if !self.methods.iter().any(|wanted| wanted == method) {
                return Ok(false);
            }
        }
        if let Some(prefix) = &self.path_prefix
            && !facts.path().is_some_and(|path| is_below(path, prefix))
        {
            return Ok(false);
        }
        for (name, wanted) in &self.headers {
            let mut values = facts
                .pairs()?
                .iter()
                .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
            let single = values.next().map(|(_, value)| value);
            if single != Some(wanted) || values.next().is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Compiles what stands under `match` of the rule at `rule`.
pub(crate) fn compile(rule: &str, config: MatchConfig) -> Result<Matcher, ConfigError> {
    let place = format!("{rule}/match");
    let mut hosts = Vec::new();
    for (index, host) in config.host.into_iter().enumerate() {
        let normal = normal_host(host.as_bytes());
        let plain = normal.len() == host.trim_end_matches('.').len();
        if !plain || normal.is_empty() || !normal.iter().all(u8::is_ascii_graphic) {
            let message = "must be a host's name or address, without a port";
            return Err(ConfigError::new(format!("{place}/host/{index}"), message));
        }
        hosts.push(normal);
    }
    let mut methods = Vec::new();
    for (index, method) in config.methods.into_iter().enumerate() {
        let plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_lowercase();
        if method.is_empty() || !method.bytes().all(plain) {
            let message = "must be a method in capitals, as it is sent";
            return Err(ConfigError::new(
                format!("{place}/methods/{index}"),
                message,
            ));
        }
        methods.push(method.into_bytes());
    }
    let mut headers = Vec::new();
    for (name, value) in config.headers {
        let mut place = format!("{place}/headers");
        push_member(&mut place, &name);
        let name = crate::compile::header_name(&place, &name)?;
        if name == "host" {
            return Err(ConfigError::new(place, "the host is matched by 'host'"));
        }
        if headers.iter().any(|(known, _)| *known == name) {
            return Err(ConfigError::new(
                place,
                format!("'{name}' stands here twice"),
            ));
        }
        headers.push((name, value.into_bytes()));
    }
    let path_prefix = config
        .path_prefix
        .map(|prefix| prefix_of(&format!("{place}/path_prefix"), &prefix))
        .transpose()?;
    Ok(Matcher {
        hosts,
        path_prefix,
        methods,
        headers,
    })
}

fn prefix_of(place: &str, prefix: &str) -> Result<Vec<u8>, ConfigError> {
    if !prefix.starts_with('/') || prefix.contains(['?', '#']) {
        let message = "must begin with '/' and hold no '?' and no '#'";
        return Err(ConfigError::new(place, message));
    }
    let decoded = normal_path(prefix.as_bytes()).ok_or_else(|| {
        let message =
            "is ambiguous: no dot segments, no empty ones, no encoded slashes, letters or digits";
        ConfigError::new(place, message)
    })?;
    Ok(decoded.strip_suffix(b"/").unwrap_or(&decoded).to_vec())
}

/// What matching knows of a request, read when it is first asked for.
pub(crate) struct Facts<'a, H> {
    host: &'a H,
    kind: Kind,
    pairs: Option<Vec<HeaderPair>>,
    authority: Option<Vec<u8>>,
    method: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
}

impl<'a, H: Host> Facts<'a, H> {
    pub(crate) fn new(host: &'a H, kind: Kind) -> Self {
        Self {
            host,
            kind,
            pairs: None,
            authority: None,
            method: None,
            path: None,
        }
    }

    /// Reads the path; false if it is ambiguous.
    pub(crate) fn read_path(&mut self) -> Result<bool, Status> {
        // In nginx `:path` is already decoded and cleared of dot segments, while what goes upstream
        // is not: what counts is what the client sent.
        let sent = match self.kind {
            Kind::Envoy => None,
            Kind::Nginx => self.host.property(&["ngx", "request_uri"]).ok(),
        };
        let path = match sent.filter(|path| !path.is_empty()) {
            Some(path) => Some(path),
            None => self.host.request_header(":path")?,
        };
        let Some(path) = path else {
            return Ok(true); // CONNECT has none, and no prefix matches it
        };
        if path == b"*" {
            return Ok(true);
        }
        self.path = normal_path(&path);
        Ok(self.path.is_some())
    }

    fn path(&self) -> Option<&[u8]> {
        self.path.as_deref()
    }

    fn host(&mut self) -> Result<&[u8], Status> {
        if self.authority.is_none() {
            let name = match self.kind {
                Kind::Envoy => ":authority",
                Kind::Nginx => "host",
            };
            let value = self.host.request_header(name)?.unwrap_or_default();
            let value = normal_host(&value);
            // nginx chooses its server by a host in the request line before the header.
            if self.kind == Kind::Nginx
                && let Ok(chosen) = self.host.property(&["ngx", "host"])
                && !chosen.is_empty()
                && normal_host(&chosen) != value
            {
                return Err(Status::BadArgument);
            }
            self.authority = Some(value);
        }
        Ok(self.authority.as_deref().unwrap_or_default())
    }

    fn method(&mut self) -> Result<&[u8], Status> {
        if self.method.is_none() {
            self.method = Some(self.host.request_header(":method")?.unwrap_or_default());
        }
        Ok(self.method.as_deref().unwrap_or_default())
    }

    /// All headers.
    pub(crate) fn pairs(&mut self) -> Result<&[HeaderPair], Status> {
        if self.pairs.is_none() {
            self.pairs = Some(self.host.request_headers()?);
        }
        Ok(self.pairs.as_deref().unwrap_or_default())
    }

    /// Whether the request has a header of this name more than once.
    pub(crate) fn is_repeated(&mut self, name: &str) -> Result<bool, Status> {
        let pairs = self.pairs()?;
        if pairs.len() >= NGINX_PAIRS {
            // The list is cut there, and what is behind cannot be seen.
            return Ok(true);
        }
        let pairs = pairs.iter();
        let same = pairs.filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        Ok(same.take(2).count() == 2)
    }
}

/// A host in lower case, without port and without a dot at the end.
fn normal_host(value: &[u8]) -> Vec<u8> {
    let end = match value.first() {
        Some(b'[') => value
            .iter()
            .position(|byte| *byte == b']')
            .map(|at| at.saturating_add(1)),
        _ => value.iter().position(|byte| *byte == b':'),
    };
    let (host, port) = value
        .split_at_checked(end.unwrap_or(value.len()))
        .unwrap_or_default();
    let is_port = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    if !port.is_empty() && !port.strip_prefix(b":").is_some_and(is_port) {
        // No host of a rule looks like that.
        return value.to_ascii_lowercase();
    }
    let host = host.strip_suffix(b".").unwrap_or(host);
    host.to_ascii_lowercase()
}

/// The path without its query, decoded; none if two parties could read it differently.
fn normal_path(path: &[u8]) -> Option<Vec<u8>> {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#'));
    let path = path.get(..end.unwrap_or(path.len()))?;
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let raw = if byte == b'%' {
            let (high, low) = (hexadecimal(*tail.first()?)?, hexadecimal(*tail.get(1)?)?);
            rest = tail.get(2..)?;
            high << 4 | low
        } else {
            byte
        };
        let encoded = byte == b'%';
        if raw < 0x20 || raw == 0x7f || raw == b'\\' || (encoded && raw == b'/') {
            return None;
        }
        // Nobody has to encode these; a router that compares what is written sees another path.
        if encoded && (raw.is_ascii_alphanumeric() || b"-._".contains(&raw)) {
            return None;
        }
        decoded.push(raw);
    }
    let mut segments = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        // Some servers cut off what follows a ';' before they look for dots.
        let name = segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        if matches!(name, b"." | b"..") || (segment.is_empty() && segments.peek().is_some()) {
            return None;
        }
    }
    Some(decoded)
}

pub(crate) fn hexadecimal(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// The path without what follows a ';' in each segment, as some servers read it.
fn without_parameters(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b';') {
        return Cow::Borrowed(path);
    }
    let segments = path.split(|byte| *byte == b'/');
    let names = segments.map(|segment| segment.split(|byte| *byte == b';').next());
    Cow::Owned(
        names
            .map(Option::unwrap_or_default)
            .collect::<Vec<_>>()
            .join(&b'/'),
    )
}

/// Whether the path is the prefix, or goes on below it.
fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

#[cfg(test)]
mod tests;
