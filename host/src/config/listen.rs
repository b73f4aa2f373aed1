//! Where the daemon listens.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::node::{ConfigError, Node};

/// One listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listen {
    /// TCP on a loopback address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// The socket's file.
        path: PathBuf,
        /// The permissions of the file.
        mode: u32,
        /// The group that the file is given to, by name.
        group: Option<String>,
    },
}

pub(super) fn listen(node: Option<Node>) -> Result<Vec<Listen>, ConfigError> {
    let items = node.map(Node::list).transpose()?.unwrap_or_default();
    items.into_iter().map(listener).collect()
}

fn listener(node: Node) -> Result<Listen, ConfigError> {
    if !node.is_mapping() {
        return tcp(&node);
    }
    let mut fields = node.fields()?;
    let unix = fields.require("unix")?;
    let path = PathBuf::from(unix.text()?);
    if path.as_os_str().is_empty() || path.to_string_lossy().contains('\0') {
        return Err(unix.error("must be the path of a socket"));
    }
    let mode = fields.take("mode").map_or(Ok(0o600), |node| {
        let text = node.text().unwrap_or_default();
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| node.error("must be octal digits in quotes, such as \"0660\""))
    })?;
    let group = fields.take("group").map(|node| node.text()).transpose()?;
    fields.finish()?;
    Ok(Listen::Unix { path, mode, group })
}

fn tcp(node: &Node) -> Result<Listen, ConfigError> {
    let text = node.text().unwrap_or_default();
    let address = text.strip_prefix("tcp://").ok_or_else(|| {
        node.error("must be a mapping with 'unix', or text such as \"tcp://127.0.0.1:8205\"")
    })?;
    let parsed = match address.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse(),
        None => address.parse::<SocketAddr>(),
    };
    let address =
        parsed.map_err(|_| node.error("must be tcp://, an IP address, ':' and a port"))?;
    if !address.ip().is_loopback() {
        return Err(node.error(
            "is no loopback address: secrets go over this connection without TLS, so it must not leave the host",
        ));
    }
    Ok(Listen::Tcp(address))
}
