//! What goes in and out of a gateway: requests, responses, and what became of them.

use crate::headers::Headers;

/// Names a request for as long as its gateway lives.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub(crate) u64);

/// Names a callout for as long as its gateway lives; they count from 0 over
/// all workers in the order of dispatch.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CalloutId(pub(crate) usize);

/// What a client sends.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, unless said otherwise.
    pub method: Vec<u8>,
    /// `http`, unless said otherwise.
    pub scheme: Vec<u8>,
    /// The client's Host, with its port where it sent one.
    pub authority: Vec<u8>,
    /// Path and query, as sent.
    pub path: Vec<u8>,
    /// Further headers, in order; the gateway makes what it needs of the fields above.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// Further pieces of the body, which arrive after it one by one (in Envoy; nginx reads all first).
    pub pieces: Vec<Vec<u8>>,
    /// Trailers; empty for none (Envoy only).
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Properties of this request alone: the parts of the path, and the value.
    pub properties: Vec<(Vec<String>, Vec<u8>)>,
}

impl Request {
    /// A request with this method and this path.
    pub fn new(method: impl Into<Vec<u8>>, path: impl Into<Vec<u8>>) -> Self {
        Self {
            method: method.into(),
            scheme: b"http".to_vec(),
            authority: b"example.com".to_vec(),
            path: path.into(),
            ..Self::default()
        }
    }

    /// A GET.
    pub fn get(path: impl Into<Vec<u8>>) -> Self {
        Self::new("GET", path)
    }

    /// A POST with a body and its `content-length`.
    pub fn post(path: impl Into<Vec<u8>>, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = body.len().to_string();
        Self {
            body,
            ..Self::new("POST", path)
        }
        .header("content-length", length)
    }

    /// The client's Host.
    #[must_use]
    pub fn authority(mut self, authority: impl Into<Vec<u8>>) -> Self {
        self.authority = authority.into();
        self
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// One more property of this request.
    #[must_use]
    pub fn property(mut self, path: &[&str], value: impl Into<Vec<u8>>) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        self.properties.push((path, value.into()));
        self
    }
}

/// What an upstream or the gateway itself answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers, without `:status`.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A response with this status, these headers and this body.
    pub fn new<const N: usize>(
        status: u16,
        headers: [(&str, &str); N],
        body: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            status,
            headers: headers.into(),
            body: body.into(),
        }
    }
}

/// A request as the upstream gets it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UpstreamRequest {
    /// The method.
    pub method: Vec<u8>,
    /// The authority (Envoy) or the client's Host (nginx).
    pub authority: Vec<u8>,
    /// Path and query.
    pub path: Vec<u8>,
    /// Headers in order, without the pseudo headers.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Headers,
}

impl UpstreamRequest {
    /// The first value of a header, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.text(name)
    }

    /// Whether `needle` occurs in any part that goes over the wire.
    pub fn contains_bytes(&self, needle: impl AsRef<[u8]>) -> bool {
        let needle = needle.as_ref();
        self.headers.contains_bytes(needle)
            || self.trailers.contains_bytes(needle)
            || [&self.method, &self.authority, &self.path, &self.body]
                .into_iter()
                .any(|part| crate::headers::contains(part, needle))
    }
}

/// What has become of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Answered by the filter or by the gateway; it never left.
    Local(Response),
    /// The connection was closed without an answer: the worker died, the
    /// filter closed the stream, or the client went away.
    Reset,
    /// It went to the upstream.
    Upstream(UpstreamRequest),
    /// It is held by a filter (or by a worker that no longer serves).
    Waiting,
}

impl Outcome {
    /// The request as the upstream got it.
    pub fn upstream(&self) -> Option<&UpstreamRequest> {
        match self {
            Self::Upstream(request) => Some(request),
            _ => None,
        }
    }

    /// The response that was made here.
    pub fn local(&self) -> Option<&Response> {
        match self {
            Self::Local(response) => Some(response),
            _ => None,
        }
    }

    /// Whether the request is still held.
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting)
    }
}
