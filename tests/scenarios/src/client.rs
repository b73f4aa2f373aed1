//! An HTTP/1.1 client that sends exactly the bytes it is told, also those that no
//! proper client would: bytes that are no text in a header, a header twice, half a
//! request. It keeps what it receives just as raw.

mod address;
mod connection;

use anyhow::{Context, Result};

pub use self::address::Address;
pub use self::connection::Connection;

/// A request as it goes onto the wire. Headers keep their order, their case and
/// their duplicates; nothing is added but `host`, `content-length` and `connection`
/// where they are not given.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    /// Where the body is cut into chunks; none if it goes out whole.
    chunks: Option<Vec<usize>>,
}

impl Request {
    /// A request with this method and path (and query).
    #[must_use]
    pub fn new(method: &str, path: impl AsRef<[u8]>) -> Self {
        Self {
            method: method.to_owned(),
            path: path.as_ref().to_vec(),
            headers: Vec::new(),
            body: Vec::new(),
            chunks: None,
        }
    }

    /// A GET of this path (and query).
    #[must_use]
    pub fn get(path: impl AsRef<[u8]>) -> Self {
        Self::new("GET", path)
    }

    /// A POST of this body to this path.
    #[must_use]
    pub fn post(path: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        Self::new("POST", path).body(body)
    }

    /// Adds one header line, also one more of a name that is there already.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Sends the body in these chunks, without saying how long it is.
    #[must_use]
    pub fn chunked(self, chunks: &[&[u8]]) -> Self {
        let mut made = self
            .header("transfer-encoding", "chunked")
            .body(chunks.concat());
        made.chunks = Some(chunks.iter().map(|chunk| chunk.len()).collect());
        made
    }

    /// The body in the pieces in which it is sent.
    #[must_use]
    pub fn pieces(&self) -> Vec<&[u8]> {
        let Some(chunks) = &self.chunks else {
            return vec![&self.body];
        };
        let mut rest = self.body.as_slice();
        let mut pieces = Vec::new();
        for length in chunks {
            let (piece, after) = rest.split_at(*length);
            pieces.push(piece);
            rest = after;
        }
        pieces
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path with its query string.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The header lines that were added, in order.
    #[must_use]
    pub fn headers(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.headers
    }

    /// The body.
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Sends it over a connection of its own and reads the answer.
    ///
    /// # Errors
    ///
    /// When nobody listens, or what comes back is no HTTP answer.
    pub fn send(&self, to: impl Into<Address>) -> Result<Response> {
        let to = to.into();
        let mut connection = Connection::open(&to)?;
        let request = if self.has("connection") {
            self.clone()
        } else {
            self.clone().header("connection", "close")
        };
        // A server may answer and close before it has read all of a request that
        // it refuses: then its answer is what counts.
        let sent = connection.send(&request.bytes());
        match connection.response() {
            Ok(response) => Ok(response),
            Err(error) => {
                Err(sent.err().unwrap_or(error)).with_context(|| format!("{} to {to}", self.method))
            }
        }
    }

    /// The bytes that go onto the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        if self.chunks.is_none() {
            bytes.extend_from_slice(&self.body);
            return bytes;
        }
        for piece in self.pieces().into_iter().filter(|piece| !piece.is_empty()) {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }

    /// The same without the body, to be sent in pieces.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(self.method.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(&self.path);
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        if !self.has("host") {
            line(&mut bytes, b"host", b"localhost");
        }
        for (name, value) in &self.headers {
            line(&mut bytes, name, value);
        }
        let has_length = self.has("content-length") || self.has("transfer-encoding");
        if !has_length && (!self.body.is_empty() || self.method == "POST" || self.method == "PUT") {
            line(
                &mut bytes,
                b"content-length",
                self.body.len().to_string().as_bytes(),
            );
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    fn has(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// An answer. Header names are in lower case, values are bytes as they came.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names and values in the order in which they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of this header, as text (what is no UTF-8 is replaced).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The body as text (what is no UTF-8 is replaced).
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!(
                "status {} with a body that is no JSON: {}",
                self.status,
                self.text()
            )
        })
    }

    /// All of it as text, headers and body, to look for what must not be in it.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut text = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value)));
        }
        text.push('\n');
        text.push_str(&self.text());
        text
    }
}

fn line(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}
