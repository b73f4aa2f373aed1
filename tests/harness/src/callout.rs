//! Callouts on real sockets: one request over HTTP/1.1, in a thread of its own.
//!
//! The thread only does the I/O. Its result goes over a channel to the event
//! loop, which decides, by profile, what the filter gets to see of it and when.
//! Time limits are not kept here: they belong to the clock in the test's hand.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::headers::Headers;

mod read;

/// No socket is waited for longer than this, whatever the test does.
const SOCKET_LIMIT: Duration = Duration::from_secs(60);

/// How a callout ended, before a profile has made of it what its gateway does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CalloutAnswer {
    /// The connection was closed before a status line came.
    Closed,
    /// Bytes came that are no HTTP/1.1.
    NotHttp,
    /// No connection: refused, or the socket file is missing.
    Refused,
    /// A whole response.
    Response {
        /// The status code.
        status: u16,
        /// Headers, without `:status`.
        headers: Headers,
        /// The body, with chunks already put together.
        body: Vec<u8>,
        /// What came after the last chunk.
        trailers: Headers,
    },
    /// The time limit passed before there were headers.
    Timeout,
    /// The headers came, and then less of the body than they had promised.
    Truncated {
        /// The status code.
        status: u16,
        /// Headers, without `:status`.
        headers: Headers,
        /// What the headers promised, in bytes, where they did.
        declared: Option<usize>,
        /// What came.
        body: Vec<u8>,
    },
}

impl CalloutAnswer {
    /// A whole response with these headers and this body.
    pub fn response<const N: usize>(
        status: u16,
        headers: [(&str, &str); N],
        body: impl Into<Vec<u8>>,
    ) -> Self {
        Self::Response {
            status,
            headers: headers.into(),
            body: body.into(),
            trailers: Headers::new(),
        }
    }

    /// The same answer with its body cut to `keep` bytes while its headers
    /// still promise the whole; anything but a response stays as it is.
    pub fn truncated(self, keep: usize) -> Self {
        match self {
            Self::Response {
                status,
                headers,
                mut body,
                ..
            } => {
                let declared = Some(body.len());
                body.truncate(keep);
                Self::Truncated {
                    status,
                    headers,
                    declared,
                    body,
                }
            }
            other => other,
        }
    }
}

/// Where a callout really goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What the thread of a callout has to say to the event loop.
#[derive(Debug)]
pub(crate) enum News {
    /// How it ended.
    Answer(CalloutAnswer),
    /// It was connected, has sent its request, or was sent some bytes of the answer.
    Progress,
}

/// A request that is on its way; dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Flight {
    socket: Arc<Mutex<Option<Socket>>>,
}

impl Flight {
    /// Sends `request` to `target`; `tell` is called with all that comes of it, the answer last.
    pub(crate) fn start(
        target: Target,
        request: Vec<u8>,
        head: bool,
        tell: impl Fn(News) + Send + 'static,
    ) -> Self {
        let socket = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&socket);
        thread::spawn(move || {
            let answer = exchange(&target, &request, head, &shared, &tell);
            tell(News::Answer(answer));
        });
        Self { socket }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let socket = self
            .socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(socket) = socket {
            socket.hang_up();
        }
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn connect(target: &Target) -> io::Result<Self> {
        let socket = match target {
            Target::Tcp(address) => Self::Tcp(TcpStream::connect_timeout(address, SOCKET_LIMIT)?),
            Target::Unix(path) => Self::Unix(UnixStream::connect(path)?),
        };
        match &socket {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(SOCKET_LIMIT))?;
                stream.set_write_timeout(Some(SOCKET_LIMIT))?;
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(SOCKET_LIMIT))?;
                stream.set_write_timeout(Some(SOCKET_LIMIT))?;
            }
        }
        Ok(socket)
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    fn hang_up(&self) {
        // The peer may have closed first; there is nothing to do about it.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
        }
    }
}

fn exchange(
    target: &Target,
    request: &[u8],
    head: bool,
    shared: &Mutex<Option<Socket>>,
    tell: &impl Fn(News),
) -> CalloutAnswer {
    let Ok(mut socket) = Socket::connect(target) else {
        return CalloutAnswer::Refused;
    };
    let Ok(clone) = socket.try_clone() else {
        return CalloutAnswer::Refused;
    };
    *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(clone);
    tell(News::Progress);
    // A server may answer and close before it has read everything.
    let _ = socket.write_all(request);
    tell(News::Progress);
    let answer = read::read_answer(BufReader::new(Watched { socket, tell }), head);
    shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    answer
}

/// A socket that tells of each part of the answer.
struct Watched<'a, T> {
    socket: Socket,
    tell: &'a T,
}

impl<T: Fn(News)> Read for Watched<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.socket.read(buffer)?;
        if size > 0 {
            (self.tell)(News::Progress);
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests;
