//! Where a vault is: its server, its namespace and mounts, and the paths below them.
//!
//! Whatever is spelled in two ways gets one form here, and what a client, a server or something
//! between them could read as another path is refused.

use std::net::Ipv6Addr;

use reqwest::Url;

use crate::config::{ConfigError, Fields, Node};

/// Scheme, host and port, in the one form in which two vaults on one server are equal.
///
/// # Errors
/// A field is no such thing.
pub(super) fn address(fields: &mut Fields) -> Result<Url, ConfigError> {
    let protocol = match fields.take("protocol") {
        None => "http",
        Some(node) => node.word(&["http", "https"])?,
    };
    let port = match fields.take("port") {
        None => 8200,
        Some(node) => node.integer(1..=65_535)?,
    };
    let node = fields.take("host");
    let wrong = || {
        let problem = "must be a host's name or address, without scheme, port and path";
        match &node {
            Some(node) => node.error(problem),
            None => fields.error(problem),
        }
    };
    let host = match &node {
        None => "127.0.0.1".to_owned(),
        Some(node) => node.text()?,
    };
    let bracketed = match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host,
    };
    if bracketed.contains(|c: char| c.is_control() || c.is_whitespace() || "/\\?#@%".contains(c)) {
        return Err(wrong());
    }
    if !bracketed.starts_with('[') && bracketed.contains(':') {
        return Err(wrong());
    }
    let bracketed = bracketed.trim_end_matches('.');
    let url = Url::parse(&format!("{protocol}://{bracketed}:{port}/")).map_err(|_| wrong())?;
    match url.host_str() {
        None | Some("") => Err(wrong()),
        Some(_) => Ok(url),
    }
}

/// A mount or a namespace: names between slashes, of which those at the ends mean nothing.
///
/// # Errors
/// It is none, or could be read as another.
pub(super) fn segments(node: &Node) -> Result<String, ConfigError> {
    let text = node.text()?;
    let text = text.trim().trim_matches('/');
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || !is_path(text) {
        return Err(node.error(
            "must be visible ASCII characters, with no empty name, '.' or '..' between slashes",
        ));
    }
    Ok(text.to_owned())
}

/// A path that means the same to every library and server on its way.
pub(super) fn is_path(path: &str) -> bool {
    !path.chars().any(char::is_control)
        && path
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."))
}
