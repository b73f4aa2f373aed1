//! Paths: how one is read, and what a rule asks of it.

use std::borrow::Cow;

use regex_lite::{Regex, RegexBuilder};

use crate::config::ConfigError;

/// The longest path that a regular expression is run on, in bytes. Its time grows with the length of
/// both, and the path's is the client's choice.
const MAX_REGEX_PATH: usize = 2048;

/// The longest regular expression, in bytes.
const MAX_PATTERN: usize = 512;

/// How large a compiled regular expression may be, in bytes: `.{1000}` is short when written.
const MAX_COMPILED: usize = 16 * 1024;

/// What a rule asks of the path; everything that is given must hold.
#[derive(Debug, Default)]
pub(super) struct PathMatcher {
    exact: Option<Vec<u8>>,
    /// Without a slash at the end; empty for `/`.
    prefix: Option<Vec<u8>>,
    regex: Option<Regex>,
}

impl PathMatcher {
    /// Compiles `path`, `path_prefix` and `path_regex` of the `match` at `place`.
    pub(super) fn compile(
        place: &str,
        exact: Option<&str>,
        prefix: Option<&str>,
        regex: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let exact = exact.map(|path| written(&format!("{place}/path"), path));
        let prefix = prefix
            .map(|prefix| written(&format!("{place}/path_prefix"), prefix))
            .transpose()?
            .map(|prefix| prefix.strip_suffix(b"/").unwrap_or(&prefix).to_vec());
        let regex = regex.map(|pattern| pattern_of(&format!("{place}/path_regex"), pattern));
        Ok(Self {
            exact: exact.transpose()?,
            prefix,
            regex: regex.transpose()?,
        })
    }

    pub(super) fn is_given(&self) -> bool {
        self.exact.is_some() || self.prefix.is_some() || self.regex.is_some()
    }

    /// Whether a path, which was read by [`normal`], is what the rule asks for.
    pub(super) fn holds(&self, path: &[u8]) -> bool {
        if self.exact.as_ref().is_some_and(|exact| exact != path) {
            return false;
        }
        if self
            .prefix
            .as_ref()
            .is_some_and(|prefix| !is_below(path, prefix))
        {
            return false;
        }
        match &self.regex {
            None => true,
            Some(regex) => std::str::from_utf8(path).is_ok_and(|path| regex.is_match(path)),
        }
    }

    /// Whether servers differ in whether the path is what the rule asks for, or it cannot be told.
    pub(super) fn is_ambiguous(&self, path: &[u8]) -> bool {
        if self.regex.is_some()
            && (path.len() > MAX_REGEX_PATH || std::str::from_utf8(path).is_err())
        {
            return true;
        }
        match without_parameters(path) {
            Cow::Borrowed(_) => false,
            Cow::Owned(short) => self.is_given() && self.holds(path) != self.holds(&short),
        }
    }
}

fn written(place: &str, path: &str) -> Result<Vec<u8>, ConfigError> {
    if !path.starts_with('/') || path.contains(['?', '#']) {
        let message = "must begin with '/' and hold no '?' and no '#'";
        return Err(ConfigError::new(place, message));
    }
    normal(path.as_bytes()).ok_or_else(|| {
        let message =
            "is ambiguous: no dot segments, no empty ones, no encoded slashes, letters or digits";
        ConfigError::new(place, message)
    })
}

fn pattern_of(place: &str, pattern: &str) -> Result<Regex, ConfigError> {
    if pattern.is_empty() || pattern.len() > MAX_PATTERN {
        let message = format!("must have 1 to {MAX_PATTERN} bytes");
        return Err(ConfigError::new(place, message));
    }
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(MAX_COMPILED)
            .build()
            .map_err(|error| ConfigError::new(place, format!("cannot be used: {error}")))
    };
    // By itself first: what is no expression alone could be one with what is put around it.
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}

/// The path without its query, decoded; none if two parties could read it differently.
pub(crate) fn normal(path: &[u8]) -> Option<Vec<u8>> {
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
