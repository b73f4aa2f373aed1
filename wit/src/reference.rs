//! The grammar of one reference:
//! `{vault://<vault>/<resource>[/<key>][/][?<option>=<value>&…][#<version>]}`.
//!
//! It is the grammar of Kong's secrets management, so that references can be taken over as they
//! are, with one difference: the first `}` ends a reference (one in a name is written `%7D`).
//! Parsing decides only what is written; whether a vault exists and an option is allowed is the
//! host's to say.

use std::fmt::{self, Write as _};

use thiserror::Error;

/// The longest reference that is taken, in bytes, braces included.
pub const MAX_REFERENCE_BYTES: usize = 2048;

pub(crate) const OPEN: &str = "{vault://";

/// A parsed reference: what to read, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    vault: String,
    resource: String,
    key: Option<String>,
    version: Option<u64>,
    options: Option<Options>,
}

impl Reference {
    /// Reads a whole reference, with its braces.
    ///
    /// # Errors
    /// Says what is wrong and at which byte of `text`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        use ReferenceErrorKind as Kind;
        let inner = text
            .strip_prefix(OPEN)
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or(Kind::NotAReference.at(0))?;
        if text.len() > MAX_REFERENCE_BYTES {
            return Err(Kind::TooLong.at(MAX_REFERENCE_BYTES));
        }
        let start = OPEN.len();
        if let Some(brace) = inner.find('}') {
            return Err(Kind::BraceInside.at(start + brace));
        }
        if let Some(nested) = inner.find(OPEN) {
            return Err(Kind::Nested.at(start + nested));
        }
        let (rest, version) = match inner.split_once('#') {
            Some((rest, version)) => (rest, Some((start + rest.len() + 1, version))),
            None => (inner, None),
        };
        let (address, query) = match rest.split_once('?') {
            Some((address, query)) => (address, Some((start + address.len() + 1, query))),
            None => (rest, None),
        };
        let (vault, path) = match address.split_once('/') {
            Some((vault, path)) => (vault, Some(path)),
            None => (address, None),
        };
        if vault.is_empty() {
            return Err(Kind::MissingVault.at(start));
        }
        if let Some(odd) = vault.find(|c: char| !is_vault_character(c)) {
            return Err(Kind::InvalidVault.at(start + odd));
        }
        let after_vault = start + vault.len();
        let path = path.ok_or(Kind::MissingPath.at(after_vault))?;
        let (resource, key) = parse_path(path, after_vault + 1)?;
        let version = version
            .map(|(at, text)| parse_version(text, at))
            .transpose()?;
        let options = match query {
            Some((at, query)) if !query.is_empty() => Some(Options::parse(query, at)?),
            _ => None,
        };
        Ok(Self {
            vault: vault.to_owned(),
            resource,
            key,
            version,
            options,
        })
    }

    /// The vault's prefix, or the backend's own name.
    #[must_use]
    pub fn vault(&self) -> &str {
        &self.vault
    }

    /// What is read from the vault, decoded.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The name inside the resource's JSON object, decoded; none means the whole resource.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The version asked for; none means the latest.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// The options; none if the reference has no `?` or nothing after it.
    #[must_use]
    pub fn options(&self) -> Option<&Options> {
        self.options.as_ref()
    }
}

impl fmt::Display for Reference {
    /// Writes the reference so that parsing gives it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPEN}{}/", self.vault)?;
        write_resource(f, &self.resource)?;
        match &self.key {
            Some(key) => {
                f.write_char('/')?;
                encode(f, key, is_path_plain)?;
            }
            None if self.resource.contains('/') => f.write_char('/')?,
            None => {}
        }
        if let Some(options) = &self.options {
            write!(f, "?{options}")?;
        }
        if let Some(version) = self.version {
            write!(f, "#{version}")?;
        }
        f.write_char('}')
    }
}

/// A slash that would be lost to the grammar (a run counts as one, the last one says 'no key') is
/// written as `%2F`; the others stay readable.
fn write_resource(f: &mut fmt::Formatter<'_>, resource: &str) -> fmt::Result {
    let bytes = resource.as_bytes();
    for (at, piece) in resource.split_inclusive('/').scan(0, |end, piece| {
        *end += piece.len();
        Some((*end, piece))
    }) {
        let Some(segment) = piece.strip_suffix('/') else {
            encode(f, piece, is_path_plain)?;
            continue;
        };
        encode(f, segment, is_path_plain)?;
        let lost = segment.is_empty() || matches!(bytes.get(at), None | Some(b'/'));
        f.write_str(if lost { "%2F" } else { "/" })?;
    }
    Ok(())
}

/// The options of a reference, in the order of their first mention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(String, OptionValue)>);

/// What is given for an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// A name with no `=`.
    Flag,
    /// A name that is mentioned more than once, with all its values.
    List(Vec<OptionValue>),
    /// A name with `=` and what follows it, decoded.
    Text(String),
}

impl Options {
    fn parse(query: &str, at: usize) -> Result<Self, ReferenceError> {
        let mut options = Self::default();
        let mut offset = at;
        for pair in query.split('&') {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (
                    name,
                    OptionValue::Text(decode(value, offset + name.len() + 1)?),
                ),
                None => (pair, OptionValue::Flag),
            };
            // A pair without a name says nothing, and form decoders pass over it.
            if !name.is_empty() {
                options.push(decode(name, offset)?, value);
            }
            offset += pair.len() + 1;
        }
        Ok(options)
    }

    fn push(&mut self, name: String, value: OptionValue) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            None => self.0.push((name, value)),
            Some((_, OptionValue::List(values))) => values.push(value),
            Some((_, known)) => {
                let first = std::mem::replace(known, OptionValue::Flag);
                *known = OptionValue::List(vec![first, value]);
            }
        }
    }

    /// The options with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OptionValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there is none: `?=v` has a question mark and no option.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_char('=');
        }
        let pairs = self.iter().flat_map(|(name, value)| {
            let values = match value {
                OptionValue::List(values) => values.as_slice(),
                single => std::slice::from_ref(single),
            };
            values.iter().map(move |value| (name, value))
        });
        for (index, (name, value)) in pairs.enumerate() {
            if index > 0 {
                f.write_char('&')?;
            }
            encode(f, name, is_query_plain)?;
            if let OptionValue::Text(text) = value {
                f.write_char('=')?;
                encode(f, text, is_query_plain)?;
            }
        }
        Ok(())
    }
}

/// Why a text is no reference.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{kind} (at byte {offset} of the reference)")]
pub struct ReferenceError {
    kind: ReferenceErrorKind,
    offset: usize,
}

impl ReferenceError {
    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> ReferenceErrorKind {
        self.kind
    }

    /// The byte of the reference at which it is wrong.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }
}

/// What can be wrong with a reference. No variant repeats a part of the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferenceErrorKind {
    /// `}` before the end.
    #[error("a '}}' inside a reference is written %7D")]
    BraceInside,
    /// `{vault://env/}`
    #[error("the path is empty")]
    EmptyPath,
    /// Percent-decoding gives bytes that are no text.
    #[error("the percent-encoded bytes are not UTF-8")]
    InvalidEncoding,
    /// A vault's name has letters, digits, `-`, `_` and `.` only.
    #[error("the vault's name has a character that no vault's name can have")]
    InvalidVault,
    /// `#` without a number.
    #[error("the version after '#' is not a number")]
    InvalidVersion,
    /// `{vault://env}`
    #[error("the path is missing")]
    MissingPath,
    /// `{vault:///name}`
    #[error("the vault's name is missing")]
    MissingVault,
    /// A reference inside a reference.
    #[error("a reference cannot hold another one")]
    Nested,
    /// Does not start with `{vault://` and end with `}`.
    #[error("not a reference: it must start with '{{vault://' and end with '}}'")]
    NotAReference,
    /// A path that consists of slashes.
    #[error("the path has only slashes")]
    OnlySlashes,
    /// Over [`MAX_REFERENCE_BYTES`].
    #[error("the reference is longer than {MAX_REFERENCE_BYTES} bytes")]
    TooLong,
}

impl ReferenceErrorKind {
    pub(crate) fn at(self, offset: usize) -> ReferenceError {
        ReferenceError { kind: self, offset }
    }
}

fn is_vault_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// The resource and the key of a path that begins at `at`.
fn parse_path(path: &str, at: usize) -> Result<(String, Option<String>), ReferenceError> {
    if path.is_empty() {
        return Err(ReferenceErrorKind::EmptyPath.at(at));
    }
    let mut offset = at;
    let mut segments = Vec::new();
    for segment in path.split('/') {
        if !segment.is_empty() {
            segments.push(decode(segment, offset)?);
        }
        offset += segment.len() + 1;
    }
    let key = if path.ends_with('/') || segments.len() < 2 {
        None
    } else {
        segments.pop()
    };
    if segments.is_empty() {
        return Err(ReferenceErrorKind::OnlySlashes.at(at));
    }
    Ok((segments.join("/"), key))
}

fn parse_version(text: &str, at: usize) -> Result<u64, ReferenceError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // `parse` alone would take a sign as well.
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or(ReferenceErrorKind::InvalidVersion.at(at))
}

/// `+` is a space, `%41` a byte; a `%` that no two hexadecimal digits follow stands for itself.
fn decode(text: &str, at: usize) -> Result<String, ReferenceError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => match (hexadecimal(*high), hexadecimal(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high * 16 + low);
                    rest = tail;
                }
                _ => bytes.push(first),
            },
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
    }
    String::from_utf8(bytes).map_err(|_| ReferenceErrorKind::InvalidEncoding.at(at))
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn is_path_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '%' | '+' | '/' | '?' | '#' | '{' | '}' | ' ')
}

fn is_query_plain(c: char) -> bool {
    (is_path_plain(c) || c == '/') && !matches!(c, '&' | '=')
}

fn encode(f: &mut fmt::Formatter<'_>, text: &str, is_plain: fn(char) -> bool) -> fmt::Result {
    for c in text.chars() {
        if is_plain(c) {
            f.write_char(c)?;
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}
