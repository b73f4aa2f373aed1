//! The numbers of ABI 0.2.1.

use std::fmt;

/// What a host function answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Status {
    /// 2
    BadArgument = 2,
    /// 8
    CasMismatch = 8,
    /// 7
    Empty = 7,
    /// 10
    InternalFailure = 10,
    /// 6
    InvalidMemoryAccess = 6,
    /// 1
    NotFound = 1,
    /// 0
    Ok = 0,
    /// 4
    ParseFailure = 4,
    /// 3
    SerializationFailure = 3,
    /// 12
    Unimplemented = 12,
}

/// A function that a filter exports and a gateway calls.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Callback {
    /// `proxy_on_configure`
    Configure,
    /// `proxy_on_context_create`
    ContextCreate,
    /// `proxy_on_delete`
    Delete,
    /// `proxy_on_done`
    Done,
    /// `proxy_on_foreign_function`
    ForeignFunction,
    /// `proxy_on_http_call_response`
    HttpCallResponse,
    /// `_initialize`, or `_start` where that is missing
    Initialize,
    /// `proxy_on_log`
    Log,
    /// `proxy_on_queue_ready`
    QueueReady,
    /// `proxy_on_request_body`
    RequestBody,
    /// `proxy_on_request_headers`
    RequestHeaders,
    /// `proxy_on_request_trailers`
    RequestTrailers,
    /// `proxy_on_response_body`
    ResponseBody,
    /// `proxy_on_response_headers`
    ResponseHeaders,
    /// `proxy_on_response_trailers`
    ResponseTrailers,
    /// `proxy_on_tick`
    Tick,
    /// `proxy_on_vm_start`
    VmStart,
}

impl Callback {
    /// The name of the export.
    pub fn export(self) -> &'static str {
        match self {
            Self::Configure => "proxy_on_configure",
            Self::ContextCreate => "proxy_on_context_create",
            Self::Delete => "proxy_on_delete",
            Self::Done => "proxy_on_done",
            Self::ForeignFunction => "proxy_on_foreign_function",
            Self::HttpCallResponse => "proxy_on_http_call_response",
            Self::Initialize => "_initialize",
            Self::Log => "proxy_on_log",
            Self::QueueReady => "proxy_on_queue_ready",
            Self::RequestBody => "proxy_on_request_body",
            Self::RequestHeaders => "proxy_on_request_headers",
            Self::RequestTrailers => "proxy_on_request_trailers",
            Self::ResponseBody => "proxy_on_response_body",
            Self::ResponseHeaders => "proxy_on_response_headers",
            Self::ResponseTrailers => "proxy_on_response_trailers",
            Self::Tick => "proxy_on_tick",
            Self::VmStart => "proxy_on_vm_start",
        }
    }

    pub(crate) fn is_response(self) -> bool {
        matches!(
            self,
            Self::Delete
                | Self::Done
                | Self::Log
                | Self::ResponseBody
                | Self::ResponseHeaders
                | Self::ResponseTrailers
        )
    }

    pub(crate) fn is_starting(self) -> bool {
        matches!(
            self,
            Self::Configure | Self::ContextCreate | Self::Initialize | Self::VmStart
        )
    }
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.export())
    }
}

/// How grave a log line is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogLevel {
    /// 0
    Trace,
    /// 1
    Debug,
    /// 2
    Info,
    /// 3
    Warn,
    /// 4
    Error,
    /// 5
    Critical,
}

impl LogLevel {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MapKind {
    CallHeaders,
    CallTrailers,
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
}

impl MapKind {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            6 => Self::CallHeaders,
            7 => Self::CallTrailers,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BufferKind {
    CallBody,
    ForeignArguments,
    PluginConfiguration,
    RequestBody,
    ResponseBody,
    VmConfiguration,
}

impl BufferKind {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestBody,
            1 => Self::ResponseBody,
            4 => Self::CallBody,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            8 => Self::ForeignArguments,
            _ => return None,
        })
    }
}
