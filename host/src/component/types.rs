//! The types of `vaultref.wit`, as wasmtime gives them to a guest. Written by hand like those of the
//! contract, which they are made of; wasmtime holds them to the WIT whenever a component is linked.

use vaultref_contract::wire;
use wasmtime::component::{ComponentType, Lower, Resource};
use zeroize::Zeroize as _;

use super::OpaqueSecret;

/// What `get` gives.
pub(super) type Got = Result<Resource<OpaqueSecret>, Error>;

#[derive(ComponentType, Lower)]
#[component(variant)]
pub(super) enum Error {
    #[component(name = "failure")]
    Failure(Failure),
    #[component(name = "too-many")]
    TooMany,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct Failure {
    kind: FailureKind,
    retryable: bool,
    #[component(name = "retry-after")]
    retry_after: Option<u32>,
}

impl From<wire::Failure> for Failure {
    fn from(failure: wire::Failure) -> Self {
        use wire::FailureKind as Kind;
        Self {
            kind: match failure.kind {
                Kind::Denied => FailureKind::Denied,
                Kind::InvalidReference => FailureKind::InvalidReference,
                Kind::KeyNotFound => FailureKind::KeyNotFound,
                Kind::NotFound => FailureKind::NotFound,
                Kind::Pending => FailureKind::Pending,
                Kind::Unavailable => FailureKind::Unavailable,
                Kind::UnknownVault => FailureKind::UnknownVault,
                Kind::WrongType => FailureKind::WrongType,
            },
            retryable: failure.retryable,
            retry_after: failure.retry_after,
        }
    }
}

#[derive(Clone, ComponentType, Copy, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum FailureKind {
    #[component(name = "denied")]
    Denied,
    #[component(name = "invalid-reference")]
    InvalidReference,
    #[component(name = "key-not-found")]
    KeyNotFound,
    #[component(name = "not-found")]
    NotFound,
    #[component(name = "pending")]
    Pending,
    #[component(name = "unavailable")]
    Unavailable,
    #[component(name = "unknown-vault")]
    UnknownVault,
    #[component(name = "wrong-type")]
    WrongType,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct Lifetime {
    #[component(name = "fresh-for")]
    fresh_for: u64,
    #[component(name = "usable-for")]
    usable_for: u64,
    stale: bool,
}

impl From<wire::Lifetime> for Lifetime {
    fn from(lifetime: wire::Lifetime) -> Self {
        Self {
            fresh_for: lifetime.fresh_for,
            usable_for: lifetime.usable_for,
            stale: lifetime.stale,
        }
    }
}

/// A value on its way into a guest that may read it. What wasmtime copies it from is wiped after.
#[derive(ComponentType, Lower)]
#[component(variant)]
pub(super) enum Value {
    #[component(name = "bytes")]
    Bytes(Vec<u8>),
    #[component(name = "text")]
    Text(String),
}

impl Value {
    pub(super) fn new(secret: &vaultref_contract::Secret) -> Self {
        match secret.expose_text() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(secret.expose().to_vec()),
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        match self {
            Self::Bytes(bytes) => bytes.zeroize(),
            Self::Text(text) => text.zeroize(),
        }
    }
}
