//! Free loopback ports for servers that cannot be told to choose one themselves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};
use tokio::net::TcpSocket;

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

/// An address on 127.0.0.1 that nobody else is given, whether somebody listens there or not. Only one who
/// is told the address can listen on it, any number of times one after the other.
#[derive(Debug)]
pub struct Reserved {
    address: SocketAddr,
    /// Bound, and never listening: the system gives its port to nobody who asks for any.
    _socket: TcpSocket,
}

impl Reserved {
    /// Reserves one until it is dropped.
    ///
    /// # Errors
    ///
    /// When the machine has no free port.
    pub fn new() -> Result<Self> {
        let socket = TcpSocket::new_v4().context("a socket")?;
        // Servers set it as well, and then may listen beside it.
        socket.set_reuseaddr(true).context("a socket")?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(any).context("a free loopback port")?;
        Ok(Self {
            address: socket
                .local_addr()
                .context("the address of a free loopback port")?,
            _socket: socket,
        })
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_reserved_address_is_listened_on_again_and_again_and_refuses_in_between() {
        let reserved = Reserved::new().expect("an address");
        let refuses = || {
            let refused = TcpStream::connect(reserved.address()).expect_err("nobody is there");
            refused.kind() == ErrorKind::ConnectionRefused
        };
        for _ in 0..3 {
            assert!(refuses());
            let server = TcpListener::bind(reserved.address()).expect("a server");
            TcpStream::connect(reserved.address()).expect("a connection");
            assert_eq!(server.accept().expect("it").1.ip(), Ipv4Addr::LOCALHOST);
        }
        assert!(refuses());
        // Who does not share is not let in, as with any port that is taken.
        let other = TcpSocket::new_v4().expect("a socket");
        assert!(other.bind(reserved.address()).is_err());
    }
}
