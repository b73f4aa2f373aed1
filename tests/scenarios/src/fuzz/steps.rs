//! The words of an input, and what their arguments mean:
//!
//! | step | meaning |
//! | --- | --- |
//! | `gateway KIND` | which gateway it is (the first of them counts) |
//! | `configure JSON` | the filter gets a configuration, with labels (see the oracle) |
//! | `configure-partly JSON` | the same, without a rule for what no other takes |
//! | `configure-struct JSON` | the same as protobuf |
//! | `configure-raw BYTES` | any bytes as a configuration |
//! | `request METHOD HOST PATH BODY (NAME VALUE)…` | a client's request |
//! | `chunk BYTES`, `trailer NAME VALUE` | the next request's body goes on; it has a trailer |
//! | `tick MILLISECONDS` | time passes |
//! | `answer N MOOD` | the Nth open call is answered by the resolver |
//! | `answer-raw N STATUS BODY (NAME VALUE)…` | … by anybody |
//! | `cut N MOOD BYTES` | … and the answer's body is shorter than it promised |
//! | `end N closed\|not-http\|refused\|timeout` | … not at all |
//! | `late N MOOD` | the Nth call of all is answered (once more) |
//! | `stray CONTEXT TOKEN BODY` | an answer that nobody asked for |
//! | `mood MOOD` | how the host's own function answers from now on |
//! | `rotate` | all secrets change |
//! | `response STATUS BODY (NAME VALUE)…` | what the upstream answers from now on; `=name` repeats what it got |
//! | `disconnect N` | the Nth client goes away |
//! | `replace` | the VM is replaced |
//! | `call CALLBACK NUMBER…` | a callback with any numbers |
//! | `fault FUNCTION STATUS TIMES` | a function of the host fails with this status |

use serde_json::Value;
use vaultref_harness::{
    Callback, CalloutAnswer, Fault, Headers, Request, Response, Status, UpstreamRequest,
};

use super::script::Step;

/// The token for the resolver, and the variable that has it.
pub(super) const TOKEN: &str = "T0KEN-of-the-filter";
pub(super) const TOKEN_NAME: &str = "VAULTREF_TOKEN";

/// What begins a value that only a client's request has: it is in no log.
pub(super) const OWN: &str = "0WN-";

/// Upstreams that exist.
pub(super) const UPSTREAMS: [&str; 4] = [
    "resolver:1",
    "vaultref",
    "unix:/run/vaultref/vaultref.sock",
    "127.0.0.1:8205",
];

/// All words.
pub(super) const WORDS: [&str; 21] = [
    "answer",
    "answer-raw",
    "call",
    "chunk",
    "configure",
    "configure-partly",
    "configure-raw",
    "configure-struct",
    "cut",
    "disconnect",
    "end",
    "fault",
    "late",
    "mood",
    "replace",
    "request",
    "response",
    "rotate",
    "stray",
    "tick",
    "trailer",
];

/// Functions that may fail, as imports of the module.
pub(super) const FUNCTIONS: [&str; 20] = [
    "proxy_add_header_map_value",
    "proxy_call_foreign_function",
    "proxy_continue_stream",
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_get_metric",
    "proxy_get_property",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_buffer_bytes",
    "proxy_set_effective_context",
    "proxy_set_property",
    "proxy_set_tick_period_milliseconds",
];

/// What belongs to the next request.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pieces: Vec<Vec<u8>>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pending {
    /// Takes a further piece of the body, or a trailer.
    pub(super) fn take(&mut self, step: &Step) {
        match step.word.as_str() {
            "chunk" => self.pieces.push(step.bytes(0).to_vec()),
            _ => self.trailers.extend(step.pairs(0)),
        }
    }
}

/// A client's request. What no client can send is left out: a server reads no header with a line
/// break in it.
pub(super) fn request(step: &Step, pending: &mut Pending) -> Request {
    let line = |bytes: &[u8]| -> Vec<u8> {
        let bytes = bytes.iter().copied();
        bytes
            .filter(|byte| !matches!(byte, 0 | b'\r' | b'\n'))
            .collect()
    };
    let word = |bytes: &[u8]| -> Vec<u8> {
        let mut word = line(bytes);
        word.retain(|byte| *byte != b' ');
        word
    };
    let mut request = Request::new(word(step.bytes(0)), word(step.bytes(2)));
    request.authority = word(step.bytes(1));
    request.body = step.bytes(3).to_vec();
    let Pending { pieces, trailers } = std::mem::take(pending);
    request.pieces = pieces;
    request.trailers = trailers;
    for (name, value) in step.pairs(4) {
        let mut name = word(&name);
        let is_property = name.starts_with(b"@");
        if is_property {
            let path = String::from_utf8_lossy(&name[1..]).into_owned();
            let path = path.split('.').map(str::to_owned).collect();
            request.properties.push((path, value));
            continue;
        }
        name.retain(|byte| *byte != b':');
        if !name.is_empty() && !name.eq_ignore_ascii_case(b"host") {
            request.headers.push((name, line(&value)));
        }
    }
    request
}

/// An upstream's answer; a value `=name` is what it has got under that name.
pub(super) fn response(step: &Step, got: &UpstreamRequest) -> Response {
    let pairs = step.pairs(2).into_iter();
    let headers = pairs.filter(|(name, _)| !name.is_empty() && !name.contains(&b':'));
    let headers = headers.map(|(name, value)| {
        let echoed = value.strip_prefix(b"=").map(|name| match name {
            b"path" => got.path.clone(),
            _ => {
                let name = String::from_utf8_lossy(name);
                got.headers.first(&*name).unwrap_or_default().to_vec()
            }
        });
        (name, echoed.unwrap_or(value))
    });
    let status = u16::try_from(step.number(0)).unwrap_or(0);
    Response {
        status: if status == 0 { 200 } else { status },
        headers: headers.collect(),
        body: step.bytes(1).to_vec(),
    }
}

/// An answer to a call from anybody.
pub(super) fn answer(step: &Step) -> CalloutAnswer {
    CalloutAnswer::Response {
        status: u16::try_from(step.number(1)).unwrap_or(200),
        headers: Headers::from_iter(step.pairs(3)),
        body: step.bytes(2).to_vec(),
        trailers: Headers::new(),
    }
}

/// A call that gets no answer.
pub(super) fn no_answer(step: &Step) -> CalloutAnswer {
    match step.bytes(1) {
        b"closed" => CalloutAnswer::Closed,
        b"not-http" => CalloutAnswer::NotHttp,
        b"refused" => CalloutAnswer::Refused,
        _ => CalloutAnswer::Timeout,
    }
}

/// A failing function.
pub(super) fn fault(step: &Step) -> Option<Fault> {
    let function = step.text(0);
    let status = match step.number(1) {
        1 => Status::NotFound,
        2 => Status::BadArgument,
        3 => Status::SerializationFailure,
        4 => Status::ParseFailure,
        6 => Status::InvalidMemoryAccess,
        7 => Status::Empty,
        8 => Status::CasMismatch,
        12 => Status::Unimplemented,
        _ => Status::InternalFailure,
    };
    FUNCTIONS
        .contains(&function.as_str())
        .then_some(Fault::HostStatus {
            function,
            status,
            times: u32::try_from(step.number(2)).unwrap_or(1).clamp(1, 64),
        })
}

/// Callbacks that any gateway calls, with how many numbers each takes.
pub(super) const CALLBACKS: [(Callback, usize); 14] = [
    (Callback::Configure, 2),
    (Callback::ContextCreate, 2),
    (Callback::Delete, 1),
    (Callback::Done, 1),
    (Callback::ForeignFunction, 3),
    (Callback::HttpCallResponse, 5),
    (Callback::Log, 1),
    (Callback::RequestBody, 3),
    (Callback::RequestHeaders, 3),
    (Callback::RequestTrailers, 2),
    (Callback::ResponseBody, 3),
    (Callback::ResponseHeaders, 3),
    (Callback::Tick, 1),
    (Callback::VmStart, 2),
];

/// A callback with its numbers.
pub(super) fn callback(step: &Step) -> Option<(Callback, Vec<u32>)> {
    let name = step.text(0);
    let mut known = CALLBACKS.iter();
    let (callback, count) = known.find(|(callback, _)| callback.export() == name)?;
    let number = |at| u32::try_from(step.number(at)).unwrap_or(u32::MAX);
    Some((*callback, (1..=*count).map(number).collect()))
}

/// Whether calling it when no gateway would can take away what a request that waits relies on.
pub(super) fn takes_away(callback: Callback) -> bool {
    matches!(
        callback,
        Callback::Configure
            | Callback::ContextCreate
            | Callback::Delete
            | Callback::HttpCallResponse
            | Callback::RequestBody
            | Callback::RequestHeaders
            | Callback::RequestTrailers
    )
}

/// JSON as the `google.protobuf.Struct` in which Envoy hands over a YAML block; as it is if it is
/// none.
pub(super) fn as_struct(json: &[u8]) -> Vec<u8> {
    match serde_json::from_slice(json) {
        Ok(Value::Object(members)) => object(&members),
        _ => json.to_vec(),
    }
}

fn object(members: &serde_json::Map<String, Value>) -> Vec<u8> {
    let members = members.iter().map(|(name, value)| {
        let member = [field(1, name.as_bytes()), field(2, &self::value(value))];
        field(1, &member.concat())
    });
    members.collect::<Vec<_>>().concat()
}

fn value(json: &Value) -> Vec<u8> {
    match json {
        Value::Null => vec![1 << 3, 0],
        Value::Bool(yes) => vec![4 << 3, u8::from(*yes)],
        Value::Number(number) => {
            let bytes = number.as_f64().unwrap_or(0.0).to_le_bytes();
            [&[(2 << 3) | 1], &bytes[..]].concat()
        }
        Value::String(text) => field(3, text.as_bytes()),
        Value::Object(members) => field(5, &object(members)),
        Value::Array(values) => {
            let values = values.iter().map(|json| field(1, &value(json)));
            field(6, &values.collect::<Vec<_>>().concat())
        }
    }
}

/// A field with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![(number << 3) | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or(0));
    out.extend_from_slice(bytes);
    out
}
