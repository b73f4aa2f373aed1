//! Parameters in a rule's references: `{vault://tenants/$(header:x-tenant)/api-key}`.
//!
//! A parameter stands for a piece of a path and can become nothing else: its value has no character
//! that means something in a reference or a path, and what comes out is read anew and held to the
//! rule's `allow`. A value of which there is more than one reading is refused, not interpreted.

use vaultref_contract::ReferenceText;

use super::Unfit;
use crate::compile::Kind;
use crate::config::ConfigError;
use crate::matching::{Facts, NGINX_PAIRS, normal_path, property_path};
use crate::query::{self, encode};
use crate::{HeaderPair, Host};

const OPEN: &str = "$(";

/// The longest value, in bytes.
const MAX_VALUE: usize = 256;

/// A reference with parameters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parametric {
    /// Where it stands in the configuration.
    pub(super) place: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Parameter(Source),
    /// As it is written.
    Text(String),
}

/// Where the value of a parameter comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// In lower case.
    Header(String),
    /// A segment, counted from 0.
    Path(usize),
    Property(Vec<String>),
    Query(String),
}

impl Parametric {
    /// Reads the reference at `place`; none if it has no parameters.
    #[inline(never)] // once is enough in the module
    pub(crate) fn parse(
        place: &str,
        written: &str,
        gateway: Kind,
    ) -> Result<Option<Self>, ConfigError> {
        let error = |message: &str| ConfigError::new(place, message);
        let mut pieces = Vec::new();
        let mut rest = written;
        while let Some((before, after)) = rest.split_once(OPEN) {
            let Some((inside, after)) = after.split_once(')') else {
                return Err(error(
                    "a parameter has no ')'; a literal '$(' in a reference is written '%24('",
                ));
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Parameter(Source::parse(place, inside, gateway)?));
            rest = after;
        }
        if pieces.is_empty() {
            return Ok(None);
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let parametric = Self {
            place: place.to_owned(),
            pieces,
        };
        parametric.check()?;
        Ok(Some(parametric))
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Whether each parameter stands in the path, and the rest is as good as any reference.
    fn check(&self) -> Result<(), ConfigError> {
        let error = |message: String| Err(ConfigError::new(self.place.as_str(), message));
        let mut before = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => before.push_str(text),
                Piece::Parameter(_) => {
                    let address = before.strip_prefix("{vault://").unwrap_or_default();
                    if !address.contains('/') {
                        return error("a parameter cannot be the name of the vault".to_owned());
                    }
                    if before.contains(['?', '#']) {
                        let message = "a parameter cannot stand in an option or a version";
                        return error(message.to_owned());
                    }
                    before.push('x');
                }
            }
        }
        match ReferenceText::parse(&before) {
            Err(why) => error(why.to_string()),
            Ok(reference) if super::is_plain(reference.reference()) => Ok(()),
            Ok(_) => error(
                "has a segment that is empty, '.' or '..', a backslash or a control character"
                    .to_owned(),
            ),
        }
    }

    /// The reference for the request at hand.
    pub(super) fn make<'a, H: Host>(
        &'a self,
        request: &mut Sources<'a, H>,
    ) -> Result<ReferenceText, Unfit> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Parameter(source) => {
                    let value = encode(request.value(source)?.as_bytes());
                    // Percent-encoded it is ASCII.
                    text.push_str(std::str::from_utf8(&value).map_err(|_| Unfit::Malformed)?);
                }
            }
        }
        ReferenceText::parse(&text).map_err(|_| Unfit::Malformed)
    }
}

impl Source {
    fn parse(place: &str, text: &str, gateway: Kind) -> Result<Self, ConfigError> {
        let error = |message: &str| Err(ConfigError::new(place, message));
        let (kind, name) = text.split_once(':').unwrap_or_default();
        if name.is_empty() {
            return error(
                "a parameter is $(header:name), $(query:name), $(path:1) or $(property:a.b)",
            );
        }
        match kind {
            "header" => {
                let name = crate::compile::header_name(place, name)?;
                if name == "host" {
                    return error("the host cannot be a parameter: gateways differ in its name");
                }
                Ok(Self::Header(name))
            }
            "path" => match name.parse().ok().and_then(|at: usize| at.checked_sub(1)) {
                Some(at) => Ok(Self::Path(at)),
                None => error("a segment of the path is a number from 1"),
            },
            "property" => property_path(place, name, gateway).map(Self::Property),
            "query" => Ok(Self::Query(name.to_owned())),
            _ => error("a parameter comes from 'header', 'path', 'property' or 'query'"),
        }
    }
}

/// The request at hand.
pub(super) struct Sources<'a, H> {
    facts: Facts<'a, H>,
    kind: Kind,
}

impl<'a, H: Host> Sources<'a, H> {
    pub(super) fn new(host: &'a H, kind: Kind) -> Self {
        Self {
            facts: Facts::new(host, kind),
            kind,
        }
    }

    /// All headers; unfit if nginx keeps some of them to itself.
    pub(super) fn pairs(&mut self) -> Result<&[HeaderPair], Unfit> {
        let pairs = self.facts.pairs()?;
        if self.kind == Kind::Nginx && pairs.len() >= NGINX_PAIRS {
            return Err(Unfit::Malformed);
        }
        Ok(pairs)
    }

    /// Path and query, as the client sent them.
    fn target(&mut self) -> Result<&[u8], Unfit> {
        if self.facts.target().is_empty() {
            self.facts.read_target()?;
        }
        Ok(self.facts.target())
    }

    /// The value of a parameter, if it is one that can stand in a path.
    fn value(&mut self, source: &'a Source) -> Result<String, Unfit> {
        let value = match source {
            Source::Header(name) => {
                let pairs = self.pairs()?.iter();
                let same = pairs.filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
                only(same.map(|(_, value)| value.clone()))?
            }
            Source::Path(at) => {
                let path = normal_path(self.target()?).ok_or(Unfit::Malformed)?;
                let mut segments = path.split(|byte| *byte == b'/').skip(1);
                let segment = segments.nth(*at).ok_or(Unfit::Malformed)?;
                // To some servers the segment ends there.
                if segment.contains(&b';') {
                    return Err(Unfit::Malformed);
                }
                segment.to_vec()
            }
            Source::Property(path) => {
                let value = self.facts.property(path)?.unwrap_or_default();
                value.to_vec()
            }
            Source::Query(name) => {
                let target = self.target()?;
                // Some servers also divide at a ';', and to some a query ends at a '#'.
                let query = query::query_of(target);
                if query.contains(&b';') || target.contains(&b'#') {
                    return Err(Unfit::Malformed);
                }
                only(query::values(query, name).map(query::decode))?
            }
        };
        let value = String::from_utf8(value).map_err(|_| Unfit::Malformed)?;
        let is_odd =
            |c: char| c.is_control() || matches!(c, '/' | '\\' | '%' | '{' | '}' | '#' | '?');
        let is_fit = (1..=MAX_VALUE).contains(&value.len())
            && !matches!(value.as_str(), "." | "..")
            && !value.contains(is_odd);
        is_fit.then_some(value).ok_or(Unfit::Malformed)
    }
}

/// The value, if there is one and no second.
fn only(mut values: impl Iterator<Item = Vec<u8>>) -> Result<Vec<u8>, Unfit> {
    let value = values.next().ok_or(Unfit::Malformed)?;
    values
        .next()
        .is_none()
        .then_some(value)
        .ok_or(Unfit::Malformed)
}
