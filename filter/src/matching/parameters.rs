//! Query parameters: what a rule asks of them, read as forms are.

use crate::config::ConfigError;
use crate::query::{is_name, query_of, split_name};

/// Parameters with the values that they must have.
pub(super) type Parameters = Vec<(String, String)>;

/// Compiles `querystring` of the `match` at `place`.
pub(super) fn compile(place: &str, wanted: Parameters) -> Result<Parameters, ConfigError> {
    if wanted.iter().any(|(name, _)| name.is_empty()) {
        let place = format!("{place}/querystring/");
        return Err(ConfigError::new(place, "the query parameter has no name"));
    }
    Ok(wanted)
}

/// Whether each parameter stands once in the query of this path, with its value.
pub(super) fn hold(wanted: &Parameters, path: &[u8]) -> bool {
    hold_in(wanted, query_of(path), |byte| byte == b'&')
}

/// Whether servers differ in whether they do: some also divide at a ';', and to some a query ends at
/// a '#'.
pub(super) fn are_ambiguous(wanted: &Parameters, path: &[u8]) -> bool {
    if wanted.is_empty() {
        return false;
    }
    let query = query_of(path);
    let divided = |byte| matches!(byte, b'&' | b';');
    path.contains(&b'#')
        || (query.contains(&b';') && hold(wanted, path) != hold_in(wanted, query, divided))
}

fn hold_in(wanted: &Parameters, query: &[u8], divides: impl Fn(u8) -> bool) -> bool {
    wanted.iter().all(|(name, value)| {
        let pieces = query.split(|byte| divides(*byte)).map(split_name);
        let mut values = pieces
            .filter(|(written, _)| is_name(written, name))
            .map(|(_, rest)| rest.strip_prefix(b"=").unwrap_or(rest));
        values.next().is_some_and(|written| is_name(written, value)) && values.next().is_none()
    })
}
