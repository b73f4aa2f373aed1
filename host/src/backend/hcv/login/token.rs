//! `token`: a token that somebody else got.

use vaultref_contract::Secret;

use super::{Surroundings, Way, required};
use crate::config::{ConfigError, Fields, Node};

pub(super) const FIELDS: &[&str] = &["token"];

pub(super) fn take(fields: &mut Fields, _: &Surroundings<'_>) -> Result<Way, ConfigError> {
    Ok(Way::Given(header(&required(fields, "token", "token")?)?))
}

/// A token: what can be the value of a header.
pub(super) fn header(node: &Node) -> Result<Secret, ConfigError> {
    let given = node.secret()?;
    let token = given.expose().trim_ascii();
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(node.error("must be one or more visible ASCII characters"));
    }
    Ok(Secret::new(token.to_vec()))
}
