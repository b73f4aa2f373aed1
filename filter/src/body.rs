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

/// Why a body cannot be edited. Says nothing of what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// A field that is named stands there twice: which one counts depends on who reads it.
    Ambiguous,
    /// It is not what its content type says.
    Malformed,
    /// Where a field is to be written stands something that cannot have it.
    Mismatch,
    /// It is nested deeper than [`scan::MAX_DEPTH`].
    TooDeep,
}

impl BodyError {
    /// For the log.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Ambiguous => "a field that is named stands in the body twice",
            Self::Malformed => "the body is not what its content type says",
            Self::Mismatch => "the body has something else where a field is to be written",
            Self::TooDeep => "the body is nested too deep",
        }
    }
}
