//! Free loopback ports for servers that cannot be told to choose one themselves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};

/// How often a server is started anew when somebody else took its port.
const ATTEMPTS: usize = 5;

/// An address on 127.0.0.1 that nobody listened on a moment ago.
///
/// # Errors
///
/// When the machine has no free port.
pub fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free loopback port")?;
    listener
        .local_addr()
        .context("the address of a free loopback port")
}

/// Starts a server by `start`, with other ports again when its log says that
/// somebody was faster.
///
/// # Errors
///
/// What the last attempt failed with.
pub fn retry_when_taken<T>(mut start: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = start();
    for _ in 1..ATTEMPTS {
        match &last {
            Err(error)
                if format!("{error:#}")
                    .to_lowercase()
                    .contains("address already in use") =>
            {
                last = start()
            }
            _ => break,
        }
    }
    last
}
