//! A request on its way through the chain of filters.

use std::collections::BTreeMap;

use crate::headers::Headers;
use crate::message::{Outcome, Request, Response, UpstreamRequest};
use crate::profile::Profile;
use crate::state::State;

/// Where in the chain a request stands; numbers are places in the chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    Finished,
    /// Gone to the upstream, which has not answered.
    Out,
    RequestBody(usize),
    RequestHeaders(usize),
    ResponseBody(usize),
    ResponseHeaders(usize),
}

/// One filter of the chain, with the context that this request has in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg {
    pub(crate) plugin: usize,
    pub(crate) vm: u64,
    pub(crate) context: u32,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) worker: usize,
    pub(crate) legs: Vec<Option<Leg>>,
    pub(crate) stage: Stage,
    pub(crate) paused: bool,

    /// The filter's view, with pseudo headers.
    pub(crate) request: Headers,
    /// nginx: what goes over the wire, which a removal does not touch.
    pub(crate) wire: Headers,
    pub(crate) client_path: Vec<u8>,
    pub(crate) trailers: Headers,
    /// The body that the next filter gets, in the pieces in which it arrives.
    pub(crate) body: Vec<Vec<u8>>,
    /// What the filter at hand has let pass.
    pub(crate) passed: Vec<u8>,
    /// What the filter at hand sees as the body.
    pub(crate) buffer: Option<Vec<u8>>,
    pub(crate) buffering: bool,
    /// Envoy's `allow_on_headers_stop_iteration`: this filter holds the headers
    /// while it is given the body.
    pub(crate) held_by: Option<usize>,
    /// How many filters have had the whole body.
    pub(crate) body_done: usize,

    pub(crate) sent: Option<UpstreamRequest>,
    pub(crate) response: Option<Headers>,
    pub(crate) response_body: Vec<u8>,
    pub(crate) is_local: bool,
    pub(crate) outcome: Outcome,
    pub(crate) client_response: Option<Response>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) upstream_uri: Vec<u8>,
}

impl Stream {
    pub(crate) fn in_response(&self) -> bool {
        matches!(
            self.stage,
            Stage::Finished | Stage::Out | Stage::ResponseBody(_) | Stage::ResponseHeaders(_)
        )
    }
}

/// The request as it stands when it comes in.
pub(crate) fn new_stream(state: &State, worker: usize, request: Request) -> Stream {
    let sent: Headers = request.headers.into_iter().collect();
    let method = if request.method.is_empty() {
        b"GET".to_vec()
    } else {
        request.method
    };
    let scheme = if request.scheme.is_empty() {
        b"http".to_vec()
    } else {
        request.scheme
    };
    let mut headers = Headers::new();
    let mut wire = Headers::new();
    match &state.profile {
        Profile::Envoy => {
            headers.add(":authority", request.authority);
            headers.add(":path", request.path.clone());
            headers.add(":method", method);
            headers.add(":scheme", scheme);
            for (name, value) in sent.lowercased().pairs() {
                headers.add(name.clone(), value.clone());
            }
        }
        Profile::Nginx(options) => {
            wire.add("host", request.authority);
            for (name, value) in sent.pairs() {
                wire.add(name.clone(), value.clone());
            }
            headers.add(":path", nginx_path(&request.path));
            headers.add(":method", method);
            headers.add(":scheme", scheme);
            headers.add(":authority", options.server.clone());
            for (name, value) in wire.pairs() {
                headers.add(name.clone(), value.clone());
            }
        }
    }
    let properties = request.properties.into_iter();
    Stream {
        worker,
        legs: vec![None; state.plugins.len()],
        stage: Stage::RequestHeaders(0),
        paused: false,
        request: headers,
        wire,
        client_path: request.path.clone(),
        trailers: request.trailers.into_iter().collect(),
        body: std::iter::once(request.body)
            .chain(request.pieces)
            .filter(|piece| !piece.is_empty())
            .collect(),
        passed: Vec::new(),
        buffer: None,
        buffering: false,
        held_by: None,
        body_done: 0,
        sent: None,
        response: None,
        response_body: Vec::new(),
        is_local: false,
        outcome: Outcome::Waiting,
        client_response: None,
        properties: properties
            .map(|(path, value)| (path.join("\0").into_bytes(), value))
            .collect(),
        upstream_uri: request.path,
    }
}

/// What nginx makes of a path before anybody sees it: decoded, with dot segments resolved and runs
/// of slashes merged. The query stays as it is.
fn nginx_path(sent: &[u8]) -> Vec<u8> {
    let mark = sent.iter().position(|byte| *byte == b'?');
    let (path, query) = sent.split_at(mark.unwrap_or(sent.len()));
    let mut decoded = Vec::new();
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(raw) if byte == b'%' => {
                decoded.push(raw);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut pieces = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(piece) = pieces.next() {
        let is_last = pieces.peek().is_none();
        match piece {
            b".." => drop(segments.pop()),
            b"." => {}
            b"" if !is_last => {}
            other => segments.push(other),
        }
    }
    let mut out = segments.iter().fold(Vec::new(), |mut out, segment| {
        out.push(b'/');
        out.extend_from_slice(segment);
        out
    });
    if out.is_empty() {
        out = path.get(..1).unwrap_or_default().to_vec();
    }
    out.extend_from_slice(query);
    out
}

/// Envoy sends what the filters' view has come to.
pub(crate) fn envoy_upstream(stream: &Stream) -> UpstreamRequest {
    let pseudo = |name: &str| stream.request.first(name).unwrap_or_default().to_vec();
    UpstreamRequest {
        method: pseudo(":method"),
        authority: pseudo(":authority"),
        path: pseudo(":path"),
        headers: stream.request.without_pseudo(),
        ..UpstreamRequest::default()
    }
}

/// nginx sends the original URI, or what Kong's variable holds by then; a
/// changed `:path` does not arrive, and what was removed does.
pub(crate) fn nginx_upstream(stream: &Stream, kong: bool) -> UpstreamRequest {
    let path = if kong {
        &stream.upstream_uri
    } else {
        &stream.client_path
    };
    UpstreamRequest {
        method: stream.request.first(":method").unwrap_or_default().to_vec(),
        authority: stream.wire.first("host").unwrap_or_default().to_vec(),
        path: path.clone(),
        headers: stream.wire.clone(),
        ..UpstreamRequest::default()
    }
}
