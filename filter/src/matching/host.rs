//! Hosts: how one is read, and which names a rule means.

use crate::config::ConfigError;

/// The hosts of a rule.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    names: Vec<Vec<u8>>,
    /// What stood behind a `*`, with its dot.
    suffixes: Vec<Vec<u8>>,
}

impl Hosts {
    /// Compiles `host` of the `match` at `place`.
    pub(super) fn compile(place: &str, hosts: Vec<String>) -> Result<Self, ConfigError> {
        let mut compiled = Self::default();
        for (index, host) in hosts.into_iter().enumerate() {
            let suffix = host.strip_prefix("*.");
            let name = suffix.unwrap_or(&host);
            let normal = normal(name.as_bytes());
            let plain = normal.len() == name.trim_end_matches('.').len();
            let is_name = plain && !normal.is_empty() && normal.iter().all(u8::is_ascii_graphic);
            if !is_name || normal.contains(&b'*') || (suffix.is_some() && !are_labels(&normal)) {
                let message = "must be a host's name or address, without a port; or '*.' and the \
                               end of a name";
                return Err(ConfigError::new(format!("{place}/host/{index}"), message));
            }
            match suffix {
                None => compiled.names.push(normal),
                Some(_) => compiled.suffixes.push([b".", normal.as_slice()].concat()),
            }
        }
        Ok(compiled)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.suffixes.is_empty()
    }

    /// Whether a host, which was read by [`normal`], is one of them.
    pub(super) fn contain(&self, host: &[u8]) -> bool {
        self.names.iter().any(|name| name == host)
            || self.suffixes.iter().any(|suffix| {
                // What stands before must be labels: a whole one or more, and nothing that another
                // reader would end the name at.
                host.strip_suffix(suffix.as_slice()).is_some_and(are_labels)
            })
    }
}

/// Whether this is a name, or a part of one, in lower case.
fn are_labels(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    let mut labels = text.split(|byte| *byte == b'.');
    labels.all(|label| !label.is_empty() && label.iter().all(is_plain))
}

/// A host in lower case, without port and without a dot at the end.
pub(super) fn normal(value: &[u8]) -> Vec<u8> {
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
