//! Callouts on real sockets: one request over HTTP/1.1, in a thread of its own.
//!
//! The thread only does the I/O. Its result goes over a channel to the event
//! loop, which decides, by profile, what the filter gets to see of it and when.
//! Time limits are not kept here: they belong to the clock in the test's hand.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::headers::Headers;

/// No socket is waited for longer than this, whatever the test does.
const SOCKET_LIMIT: Duration = Duration::from_secs(60);
const MAX_HEADER_BYTES: usize = 256 * 1024;

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

/// A request that is on its way; dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Flight {
    socket: Arc<Mutex<Option<Socket>>>,
}

impl Flight {
    /// Sends `request` to `target`; `deliver` makes the event of the answer.
    pub(crate) fn start<E: Send + 'static>(
        target: Target,
        request: Vec<u8>,
        head: bool,
        events: Sender<E>,
        deliver: impl FnOnce(CalloutAnswer) -> E + Send + 'static,
    ) -> Self {
        let socket = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&socket);
        thread::spawn(move || {
            let answer = exchange(&target, &request, head, &shared);
            // Nobody listens once the gateway is gone; that is no error.
            let _ = events.send(deliver(answer));
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
) -> CalloutAnswer {
    let Ok(mut socket) = Socket::connect(target) else {
        return CalloutAnswer::Refused;
    };
    let Ok(clone) = socket.try_clone() else {
        return CalloutAnswer::Refused;
    };
    *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(clone);
    // A server may answer and close before it has read everything.
    let _ = socket.write_all(request);
    let answer = read_answer(BufReader::new(socket), head);
    shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    answer
}

fn read_answer(mut reader: impl BufRead, head: bool) -> CalloutAnswer {
    let (status, headers) = loop {
        match read_head(&mut reader) {
            Ok((status, _)) if (100..200).contains(&status) => {}
            Ok(head) => break head,
            Err(answer) => return answer,
        }
    };
    if head || status == 204 || status == 304 {
        return CalloutAnswer::Response {
            status,
            headers,
            body: Vec::new(),
            trailers: Headers::new(),
        };
    }
    let chunked = headers
        .all("transfer-encoding")
        .iter()
        .any(|value| value.to_ascii_lowercase().ends_with(b"chunked"));
    let mut body = Vec::new();
    if chunked {
        return match read_chunks(&mut reader, &mut body) {
            Ok(trailers) => CalloutAnswer::Response {
                status,
                headers,
                body,
                trailers,
            },
            Err(_) => CalloutAnswer::Truncated {
                status,
                headers,
                declared: None,
                body,
            },
        };
    }
    let declared = match headers.first("content-length") {
        None => None,
        Some(text) => match std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
        {
            None => return CalloutAnswer::NotHttp,
            Some(length) => Some(length),
        },
    };
    let limit = declared.map_or(u64::MAX, |length: usize| length as u64);
    let read = reader.take(limit).read_to_end(&mut body);
    if read.is_err() || declared.is_some_and(|length| body.len() < length) {
        return CalloutAnswer::Truncated {
            status,
            headers,
            declared,
            body,
        };
    }
    CalloutAnswer::Response {
        status,
        headers,
        body,
        trailers: Headers::new(),
    }
}

fn read_head(reader: &mut impl BufRead) -> Result<(u16, Headers), CalloutAnswer> {
    let line = match read_line(reader) {
        Ok(Some(line)) => line,
        Ok(None) => return Err(CalloutAnswer::Closed),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(CalloutAnswer::NotHttp);
        }
        Err(_) => return Err(CalloutAnswer::Closed),
    };
    let status = std::str::from_utf8(&line)
        .ok()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or(CalloutAnswer::NotHttp)?;
    match read_fields(reader) {
        Ok(headers) => Ok((status, headers)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(CalloutAnswer::NotHttp),
        Err(_) => Err(CalloutAnswer::Closed),
    }
}

fn read_fields(reader: &mut impl BufRead) -> io::Result<Headers> {
    let mut headers = Headers::new();
    loop {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or(io::ErrorKind::InvalidData)?;
        headers.add(
            line[..colon].to_ascii_lowercase(),
            line[colon + 1..].trim_ascii(),
        );
    }
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<Headers> {
    loop {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size)
            .ok()
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        if size == 0 {
            return read_fields(reader);
        }
        if reader.by_ref().take(size).read_to_end(body)? as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !read_line(reader)?.is_some_and(|line| line.is_empty()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// One line without its end; `None` where the stream ends before one begins.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader
        .by_ref()
        .take(MAX_HEADER_BYTES as u64)
        .read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        let kind = if line.starts_with(b"HTTP/1.") {
            io::ErrorKind::UnexpectedEof
        } else {
            io::ErrorKind::InvalidData
        };
        return Err(kind.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> CalloutAnswer {
        read_answer(bytes, false)
    }

    #[test]
    fn answers_are_told_apart() {
        let none = [];
        let table: [(&[u8], CalloutAnswer); 8] = [
            (b"", CalloutAnswer::Closed),
            (b"garbage\r\n\r\n", CalloutAnswer::NotHttp),
            (b"garbage without an end", CalloutAnswer::NotHttp),
            (b"HTTP/1.1 200 OK\r\ncontent-le", CalloutAnswer::NotHttp),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokmore",
                CalloutAnswer::response(200, [("content-length", "2")], "ok"),
            ),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                CalloutAnswer::response(200, [("transfer-encoding", "chunked")], "ok"),
            ),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
                CalloutAnswer::response(204, none, ""),
            ),
            (
                b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
                CalloutAnswer::response(200, [], "until the end"),
            ),
        ];
        for (bytes, expected) in table {
            assert_eq!(read(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn less_body_than_promised_is_truncated() {
        let answer = read(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
        let CalloutAnswer::Truncated { declared, body, .. } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!((declared, body.as_slice()), (Some(9), &b"half"[..]));
        assert!(matches!(
            read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf"),
            CalloutAnswer::Truncated { .. }
        ));
    }
}
