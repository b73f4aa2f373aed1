//! What guest and host say to each other: the types of `vaultref.wit`, and their JSON.
//!
//! The same bytes travel over HTTP and through the foreign function. Types that hold a value have
//! no `Serialize`: an answer becomes JSON through [`encode_reply`] alone, into a buffer that is
//! wiped.

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::Secret;

mod json;

pub use json::{ReplyError, decode_reply, encode_reply};

/// The path of the HTTP form; the method is POST.
pub const RESOLVE_PATH: &str = "/v1/resolve";

/// The name of the foreign function.
pub const RESOLVE_FUNCTION: &str = "vaultref.resolve";

/// The header that every answer of the daemon carries, with [`MARKER_VALUE`]. Gateways make answers
/// of their own (502, 503, 504), which must not be taken for the daemon's.
pub const MARKER_HEADER: &str = "x-vaultref-contract";

/// The version of this contract, as the value of [`MARKER_HEADER`].
pub const MARKER_VALUE: &str = "1";

/// The most references that one request may hold.
pub const MAX_REFERENCES: usize = 1024;

/// The largest body of a request, in bytes: [`MAX_REFERENCES`] of the longest references and their
/// revisions fit in.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// Names one value of one reference. Opaque to the guest.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Revision(pub String);

/// Asks for the values of up to [`MAX_REFERENCES`] references.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// References as they are written.
    pub references: Vec<String>,
    /// The revision that the guest holds of each, in the same order; empty if it holds none.
    #[serde(default)]
    pub known: Vec<Option<Revision>>,
    /// How long the host may wait for backends, in milliseconds.
    #[serde(default)]
    pub wait_ms: u32,
    /// Which of the references, counted from 0, are to be read anew although their time is not over.
    /// Written only if there are some: a host that is older does not know it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refresh: Vec<u32>,
}

/// One outcome a reference, in the order of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveResponse {
    /// The outcomes.
    pub results: Vec<Outcome>,
}

/// What came of one reference.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has no value.
    Failure(Failure),
    /// It has one.
    Secret(SecretValue),
    /// The revision that the guest holds is the current one.
    Unchanged(Lifetime),
}

/// A value and what is known of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretValue {
    /// The value.
    pub value: Value,
    /// Its name, to be sent with the next request.
    pub revision: Revision,
    /// For how long it holds.
    pub lifetime: Lifetime,
}

/// The bytes of a secret.
#[derive(Debug)]
pub enum Value {
    /// Bytes that are no UTF-8; base64 in JSON.
    Bytes(Secret),
    /// Text.
    Text(Secret),
}

impl Value {
    /// Chooses by whether the bytes are UTF-8.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        if secret.expose_text().is_some() {
            Self::Text(secret)
        } else {
            Self::Bytes(secret)
        }
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Bytes(secret) | Self::Text(secret) => secret,
        }
    }

    /// The secret, taken out.
    #[must_use]
    pub fn into_secret(self) -> Secret {
        match self {
            Self::Bytes(secret) | Self::Text(secret) => secret,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Written {
            Bytes(String),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Ok(Self::Text(text.into())),
            Written::Bytes(text) => json::decode_bytes(&text.into())
                .map(Self::Bytes)
                .ok_or_else(|| de::Error::custom("'bytes' is not base64")),
        }
    }
}

/// For how long an answer holds, counted from its arrival.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetime {
    /// Seconds until the value is due to be read again.
    pub fresh_for: u64,
    /// Seconds for which the value may be used if the host can no longer be asked.
    pub usable_for: u64,
    /// The value is past its ttl and stands in for one that cannot be read now.
    pub stale: bool,
}

/// Why a reference has no value. Data only, never free text, which could echo a value.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// The same question may be answered later.
    pub retryable: bool,
    /// Seconds to wait before it is asked again.
    #[serde(default)]
    pub retry_after: Option<u32>,
}

/// What can go wrong with one reference.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The client may not read this object.
    Denied,
    /// The text is no reference, or has an option that is not allowed.
    InvalidReference,
    /// The object exists, but has no such key.
    KeyNotFound,
    /// The object does not exist, or is gone.
    NotFound,
    /// It is being read; ask again.
    Pending,
    /// The backend cannot be reached, refuses the login, or took too long.
    Unavailable,
    /// No vault of that name is configured.
    UnknownVault,
    /// The value has a type that cannot be used as a string.
    WrongType,
}

impl FailureKind {
    /// All kinds, in alphabetical order.
    pub const ALL: [Self; 8] = [
        Self::Denied,
        Self::InvalidReference,
        Self::KeyNotFound,
        Self::NotFound,
        Self::Pending,
        Self::Unavailable,
        Self::UnknownVault,
        Self::WrongType,
    ];

    /// The name in the contract, in logs and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::InvalidReference => "invalid-reference",
            Self::KeyNotFound => "key-not-found",
            Self::NotFound => "not-found",
            Self::Pending => "pending",
            Self::Unavailable => "unavailable",
            Self::UnknownVault => "unknown-vault",
            Self::WrongType => "wrong-type",
        }
    }
}

impl std::fmt::Display for FailureKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a whole request was not answered.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// What kind of refusal.
    pub kind: RefusalKind,
    /// For the person who reads the log. Repeats nothing of the request.
    pub message: String,
}

/// The kinds of [`Refusal`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request is not what the contract says.
    BadRequest,
    /// The call came through a proxy, or over a way this client may not use.
    Forbidden,
    /// The host failed; the request was right.
    Internal,
    /// The body is larger than [`MAX_REQUEST_BYTES`].
    TooLarge,
    /// The client is not known to the host.
    Unauthorized,
}

impl RefusalKind {
    /// All kinds, in alphabetical order.
    pub const ALL: [Self; 5] = [
        Self::BadRequest,
        Self::Forbidden,
        Self::Internal,
        Self::TooLarge,
        Self::Unauthorized,
    ];
}
