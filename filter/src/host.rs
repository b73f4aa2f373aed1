//! What the logic needs from a gateway, as one small trait.
//!
//! Behind it stands the ABI in the module, and a recording fake in the tests. Every status is data:
//! gateways answer with statuses and bytes that nobody listed, and a filter that panics about one
//! takes its VM, and the requests in it, along. Nothing here is read as UTF-8, for the same reason.

use std::fmt;

/// What a host function answered if it was not 'ok'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// An argument is not acceptable; for a callout: an unknown or warming cluster.
    BadArgument,
    /// There is nothing to give.
    Empty,
    /// The host failed.
    InternalFailure,
    /// There is no such thing.
    NotFound,
    /// Any other number.
    Other(u32),
}

impl Status {
    /// The status of a number of the ABI; none for 0, which is 'ok'.
    #[must_use]
    pub fn from_abi(number: u32) -> Option<Self> {
        match number {
            0 => None,
            1 => Some(Self::NotFound),
            2 => Some(Self::BadArgument),
            7 => Some(Self::Empty),
            10 => Some(Self::InternalFailure),
            other => Some(Self::Other(other)),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadArgument => f.write_str("bad argument"),
            Self::Empty => f.write_str("empty"),
            Self::InternalFailure => f.write_str("internal failure"),
            Self::NotFound => f.write_str("not found"),
            Self::Other(number) => write!(f, "status {number}"),
        }
    }
}

/// How loud a log line is; the numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// Something changed as it should.
    Info = 2,
    /// Something fails and is asked for again.
    Warn = 3,
    /// Somebody must act.
    Error = 4,
}

/// Which callbacks a module exports: what it can do hangs on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callbacks {
    /// All that the logic has a method for.
    Every,
    /// Those that headers and query strings need. Envoy makes each request pay for every callback
    /// there is.
    Headers,
}

/// What a metric does; the numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MetricKind {
    /// Only grows.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
}

/// A header's name and value as the host holds them.
pub type HeaderPair = (Vec<u8>, Vec<u8>);

/// The functions of a gateway. Which request they act on is the host's current context.
#[allow(clippy::missing_errors_doc)] // each error is the host's status
pub trait Host {
    /// Writes a line to the gateway's log.
    fn log(&self, level: Level, message: &str);

    /// The gateway's clock, in nanoseconds since 1970. It may jump in both directions.
    fn now(&self) -> u64;

    /// An environment variable that the gateway lets the module see.
    fn environment(&self, name: &str) -> Option<String>;

    /// The configuration, of which the host said that it has `size` bytes.
    fn configuration(&self, size: usize) -> Result<Vec<u8>, Status>;

    /// Has `on_tick` called in this period. A second call traps in nginx.
    fn set_tick_period(&self, milliseconds: u32) -> Result<(), Status>;

    /// The (first) value of a request header.
    fn request_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status>;

    /// All request headers, repeated ones as often as they stand.
    fn request_headers(&self) -> Result<Vec<HeaderPair>, Status>;

    /// Replaces a request header (in nginx: its first occurrence), or adds it.
    fn set_request_header(&self, name: &str, value: &[u8]) -> Result<(), Status>;

    /// Adds one more value of a request header.
    fn add_request_header(&self, name: &str, value: &[u8]) -> Result<(), Status>;

    /// Removes a request header. In nginx this does not reach the upstream.
    fn remove_request_header(&self, name: &str) -> Result<(), Status>;

    /// The request's body, of which the host said that it has `size` bytes. Only while the body is
    /// handed over; in Envoy also later, while it is held.
    fn request_body(&self, size: usize) -> Result<Vec<u8>, Status>;

    /// Puts another body in the place of the one of `size` bytes. Anywhere but in the callback of the
    /// body this traps in nginx.
    fn set_request_body(&self, size: usize, body: &[u8]) -> Result<(), Status>;

    /// A property, addressed by its path.
    fn property(&self, path: &[&str]) -> Result<Vec<u8>, Status>;

    /// Sets a property. In nginx setting one that does not exist ends the request.
    fn set_property(&self, path: &[&str], value: &[u8]) -> Result<(), Status>;

    /// Starts an HTTP call and gives its token. The timeout is in milliseconds.
    fn dispatch(
        &self,
        upstream: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
        timeout: u32,
    ) -> Result<u32, Status>;

    /// A header of the call's answer. Only while that answer is being handed over.
    fn callout_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status>;

    /// The body of the call's answer. Only while that answer is being handed over.
    fn callout_body(&self, size: usize) -> Result<Vec<u8>, Status>;

    /// Calls a function of the host by name. An unknown one traps in nginx.
    fn call_foreign_function(&self, name: &str, argument: &[u8]) -> Result<Vec<u8>, Status>;

    /// Answers the request in the upstream's place.
    fn send_local_response(
        &self,
        status: u32,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Result<(), Status>;

    /// The (first) value of a header of the response.
    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status>;

    /// All headers of the response, repeated ones as often as they stand.
    fn response_headers(&self) -> Result<Vec<HeaderPair>, Status>;

    /// Puts this value in the place of all values of a header of the response. (What nginx does with
    /// a header that stands more than once is not known.)
    fn set_response_header(&self, name: &str, value: &[u8]) -> Result<(), Status>;

    /// Adds one more value of a header of the response.
    fn add_response_header(&self, name: &str, value: &[u8]) -> Result<(), Status>;

    /// Defines a metric and gives its number. In nginx this may trap, as do the next three.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<u32, Status>;

    /// What a counter or a gauge shows; all VMs of a gateway have one.
    fn metric(&self, number: u32) -> Result<u64, Status>;

    /// Adds to a counter or a gauge.
    fn increment_metric(&self, number: u32, change: i64) -> Result<(), Status>;

    /// Sets a gauge.
    fn record_metric(&self, number: u32, value: u64) -> Result<(), Status>;

    /// Lets a paused request go on.
    fn resume_request(&self) -> Result<(), Status>;

    /// Makes another context the current one. Does nothing in nginx.
    fn set_effective_context(&self, context: u32) -> Result<(), Status>;
}
