//! Which rule a request gets.
//!
//! Matching chooses a credential, so it must see a request as the upstream will: a path that two
//! parties could read differently (dot segments, encoded slashes, empty segments) is refused rather
//! than interpreted, and percent-encoding is undone before anything is compared.

use crate::compile::Kind;
use crate::config::{ConfigError, MatchConfig, push_member};
use crate::{HeaderPair, Host, Status};

mod host;
mod parameters;
mod path;
mod properties;

use host::Hosts;
use parameters::Parameters;
use path::PathMatcher;
use properties::Property;

pub(crate) use path::{hexadecimal, normal as normal_path};
pub(crate) use properties::path as property_path;

/// nginx hands out no more headers than this, without a word.
pub(crate) const NGINX_PAIRS: usize = 100;

/// What a rule asks of a request; everything that is given must hold.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    /// Nothing is given.
    takes_all: bool,
    hosts: Hosts,
    path: PathMatcher,
    methods: Vec<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    parameters: Parameters,
    properties: Vec<Property>,
}

impl Matcher {
    /// Whether it is for every request.
    pub(crate) fn takes_all(&self) -> bool {
        self.takes_all
    }

    pub(crate) fn looks_at_host(&self) -> bool {
        !self.hosts.is_empty()
    }

    pub(crate) fn looks_at_path(&self) -> bool {
        self.path.is_given()
    }

    pub(crate) fn looks_at_query(&self) -> bool {
        !self.parameters.is_empty()
    }

    /// Whether servers differ in whether path and query are what it asks for.
    pub(crate) fn is_ambiguous<H: Host>(&self, facts: &Facts<'_, H>) -> bool {
        facts
            .path
            .as_ref()
            .is_some_and(|path| self.path.is_ambiguous(path))
            || parameters::are_ambiguous(&self.parameters, &facts.target)
    }

    pub(crate) fn header_names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }

    /// Whether it is for this request.
    pub(crate) fn matches<'a, H: Host>(&'a self, facts: &mut Facts<'a, H>) -> Result<bool, Status> {
        if !self.hosts.is_empty() && !self.hosts.contain(facts.host()?) {
            return Ok(false);
        }
        if !self.methods.is_empty() {
            let method = facts.method()?;
            if !self.methods.iter().any(|wanted| wanted == method) {
                return Ok(false);
            }
        }
        if self.path.is_given()
            && !facts
                .path
                .as_ref()
                .is_some_and(|path| self.path.holds(path))
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
        if !self.parameters.is_empty() && !parameters::hold(&self.parameters, &facts.target) {
            return Ok(false);
        }
        for property in &self.properties {
            if facts.property(&property.path)? != Some(property.wanted.as_slice()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Compiles what stands under `match` of the rule at `rule`.
pub(crate) fn compile(rule: &str, config: MatchConfig, kind: Kind) -> Result<Matcher, ConfigError> {
    let place = format!("{rule}/match");
    let hosts = Hosts::compile(&place, config.host)?;
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
    let path = PathMatcher::compile(
        &place,
        config.path.as_deref(),
        config.path_prefix.as_deref(),
        config.path_regex.as_deref(),
    )?;
    let parameters = parameters::compile(&place, config.querystring)?;
    let properties = properties::compile(&place, config.properties, kind)?;
    Ok(Matcher {
        takes_all: hosts.is_empty()
            && !path.is_given()
            && methods.is_empty()
            && headers.is_empty()
            && parameters.is_empty()
            && properties.is_empty(),
        hosts,
        path,
        methods,
        headers,
        parameters,
        properties,
    })
}

/// What matching knows of a request, read when it is first asked for.
pub(crate) struct Facts<'a, H> {
    host: &'a H,
    kind: Kind,
    pairs: Option<Vec<HeaderPair>>,
    authority: Option<Vec<u8>>,
    method: Option<Vec<u8>>,
    /// Path and query as the client sent them; empty if there is none.
    target: Vec<u8>,
    path: Option<Vec<u8>>,
    properties: Vec<(&'a [String], Option<Vec<u8>>)>,
}

impl<'a, H: Host> Facts<'a, H> {
    pub(crate) fn new(host: &'a H, kind: Kind) -> Self {
        Self {
            host,
            kind,
            pairs: None,
            authority: None,
            method: None,
            target: Vec::new(),
            path: None,
            properties: Vec::new(),
        }
    }

    /// Reads path and query.
    pub(crate) fn read_target(&mut self) -> Result<(), Status> {
        // In nginx `:path` is already decoded and cleared of dot segments, while what goes upstream
        // is not: what counts is what the client sent.
        let sent = match self.kind {
            Kind::Envoy => None,
            Kind::Nginx => self.host.property(&["ngx", "request_uri"]).ok(),
        };
        self.target = match sent.filter(|path| !path.is_empty()) {
            Some(path) => path,
            // CONNECT has none, and nothing that is asked of a path or a query holds for it.
            None => match self.host.request_header(":path")? {
                // One that is there and empty is no path.
                Some(path) if path.is_empty() => b"?".to_vec(),
                path => path.unwrap_or_default(),
            },
        };
        Ok(())
    }

    /// What [`Facts::read_target`] has read.
    pub(crate) fn target(&self) -> &[u8] {
        &self.target
    }

    /// Reads the path out of what [`Facts::read_target`] has read; false if it is ambiguous.
    pub(crate) fn judge_path(&mut self) -> bool {
        if self.target.is_empty() || self.target == b"*" {
            return true;
        }
        self.path = path::normal(&self.target);
        self.path.is_some()
    }

    fn host(&mut self) -> Result<&[u8], Status> {
        if self.authority.is_none() {
            let name = match self.kind {
                Kind::Envoy => ":authority",
                Kind::Nginx => "host",
            };
            let value = self.host.request_header(name)?.unwrap_or_default();
            let value = host::normal(&value);
            // nginx chooses its server by a host in the request line before the header.
            if self.kind == Kind::Nginx
                && let Ok(chosen) = self.host.property(&["ngx", "host"])
                && !chosen.is_empty()
                && host::normal(&chosen) != value
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

    /// A property; none if the gateway does not have it, or not as bytes.
    pub(crate) fn property(&mut self, path: &'a [String]) -> Result<Option<&[u8]>, Status> {
        const SERIALIZATION_FAILURE: u32 = 3;
        let known = self.properties.iter().position(|(other, _)| *other == path);
        let at = match known {
            Some(at) => at,
            None => {
                let segments: Vec<&str> = path.iter().map(String::as_str).collect();
                let value = match self.host.property(&segments) {
                    Ok(value) => Some(value),
                    Err(Status::NotFound | Status::Other(SERIALIZATION_FAILURE)) => None,
                    Err(status) => return Err(status),
                };
                self.properties.push((path, value));
                self.properties.len().saturating_sub(1)
            }
        };
        let found = self.properties.get(at);
        Ok(found.and_then(|(_, value)| value.as_deref()))
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

#[cfg(test)]
mod tests;
