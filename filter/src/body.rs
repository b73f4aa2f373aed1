//! A request's body: reading named fields of it, and writing them.
//!
//! Pure functions over bytes; when a body is there and what becomes of it is decided in `vm`. Fields
//! of JSON are named by JSON pointers, fields of a form by their names. Only the bytes of a field that
//! is written change: numbers, the order of members and members that nobody named stay as they were
//! sent. A body is edited whole or not at all.

pub(crate) mod form;
pub(crate) mod json;
pub(crate) mod media;
pub(crate) mod pointer;
mod scan;
pub(crate) mod text;
mod write;

pub(crate) use write::write;

/// Why a body cannot be edited. Says nothing of what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// There is none, and a secret was to be written into it.
    Absent,
    /// A field that is named stands there twice, or a form has a `;`: which field counts depends on who
    /// reads it.
    Ambiguous,
    /// Its bytes are compressed.
    Encoded,
    /// It is not what its content type says.
    Malformed,
    /// Where a field is to be written stands something that cannot have it.
    Mismatch,
    /// nginx has put it into a file, where it can be neither read nor replaced.
    Spooled,
    /// It is nested deeper than [`scan::MAX_DEPTH`].
    TooDeep,
    /// It has more bytes than the rule takes.
    TooLarge,
    /// It ends with trailers, and Envoy does not always send on what is written then.
    Trailers,
    /// It is not of the kind that the rule is for, or its content type does not say clearly what it is.
    Type,
    /// The gateway does not hand it over.
    Unreadable,
}

impl BodyError {
    /// For the log.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Absent => "there is no body to write a secret into",
            Self::Ambiguous => {
                "a field that is named stands in the body twice, or a form has a ';'"
            }
            Self::Encoded => "the body is compressed (content-encoding)",
            Self::Malformed => "the body is not what its content type says",
            Self::Mismatch => "the body has something else where a field is to be written",
            Self::Spooled => {
                "the body is larger than nginx's client_body_buffer_size, so it cannot be written"
            }
            Self::TooDeep => "the body is nested too deep",
            Self::TooLarge => "the body is larger than 'max_bytes'",
            Self::Trailers => {
                "the body ends with trailers, with which Envoy may lose what is written"
            }
            Self::Type => "the content type is not that of the body's fields in the rule",
            Self::Unreadable => "the gateway does not hand the body over",
        }
    }
}
