//! What every vault can do: name one object in its canonical form, and read it.
//!
//! A backend knows nothing of caching, of policy or of references; it is asked for one object and
//! reads it once, or for several where the server has a call for that. It does not retry: the
//! resolver does, within the vault's timeout, for all alike. One backend is one file here, and one
//! line in [`KINDS`].

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use vaultref_contract::Secret;
use vaultref_contract::wire::FailureKind;

use crate::config::{ConfigError, Fields};
use crate::environment::Environment;

#[cfg(feature = "amazon")]
pub(crate) mod amazon;
#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "conjur")]
mod conjur;
#[cfg(any(feature = "conjur", feature = "gcp", feature = "hcv"))]
pub(crate) mod endpoint;
#[cfg(feature = "env")]
mod env;
#[cfg(feature = "fs")]
mod fs;
#[cfg(feature = "gcp")]
mod gcp;
#[cfg(feature = "hcv")]
mod hcv;
#[cfg(any(feature = "gcp", feature = "hcv"))]
pub(crate) mod jws;
#[cfg(test)]
pub(crate) mod kit;
#[cfg(feature = "http")]
pub(crate) mod network;
#[cfg(feature = "http")]
pub(crate) mod session;

/// The backends of this build, in alphabetical order.
pub const KINDS: &[Kind] = &[
    #[cfg(feature = "aws")]
    aws::KIND,
    #[cfg(feature = "azure")]
    azure::SECRETS,
    #[cfg(feature = "azure")]
    azure::CERTIFICATES,
    #[cfg(feature = "conjur")]
    conjur::KIND,
    #[cfg(feature = "env")]
    env::KIND,
    #[cfg(feature = "fs")]
    fs::KIND,
    #[cfg(feature = "gcp")]
    gcp::KIND,
    #[cfg(feature = "hcv")]
    hcv::KIND,
];

/// How long a value is fresh where neither the vault nor its backend says otherwise.
pub const USUAL_TTL: Duration = Duration::from_secs(300);

/// A backend by name.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The name, as in `name: hcv` and `{vault://hcv/…}`.
    pub name: &'static str,
    /// Makes a vault of its fields; takes out of `Fields` what it knows.
    pub build: Build,
    /// How long a value is fresh where the vault does not say.
    pub ttl: Duration,
    /// Fields that a reference may set (`?prefix=`) where the vault's `allow_options` lists them.
    /// Never one that says where to look or how to log in.
    pub reference_options: &'static [&'static str],
    /// How its objects are spelled in policies.
    pub spelling: Spelling,
}

/// How a policy's patterns are held against the paths of objects.
#[derive(Clone, Copy, Debug)]
pub struct Spelling {
    /// A pattern in the spelling of canonical paths.
    pub pattern: fn(&str) -> String,
    /// A pattern or a path in a spelling that is the same for all that a `deny` should not tell
    /// apart.
    pub loosely: fn(&str) -> String,
}

impl Spelling {
    /// Objects have one spelling only, and case counts.
    pub const EXACT: Self = Self {
        pattern: str::to_owned,
        loosely: str::to_owned,
    };
}

/// Makes a backend of the fields of a vault.
pub type Build = fn(&mut Fields, &Arc<Environment>) -> Result<Arc<dyn Backend>, ConfigError>;

impl Kind {
    /// The backend of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        KINDS.iter().find(|kind| kind.name == name).copied()
    }
}

/// A vault that can be read.
pub trait Backend: Send + Sync {
    /// Where the vault looks, in a form that is the same for every vault of this backend that looks
    /// there. Put before an object's path it names the object among all vaults of the backend.
    fn scope(&self) -> Cow<'_, str>;

    /// The same, unless it is not known at the moment: the place is not there. What a policy forbids
    /// there is then forbidden wherever it could be.
    fn scope_if_known(&self) -> Option<Cow<'_, str>> {
        Some(self.scope())
    }

    /// Finds out what [`Backend::object`] needs to know of these resources, and [`Backend::scope`] of
    /// the vault, where that means to wait: for a file system. It need not be waited for to its end:
    /// what was not found out is what it was last. None: there is nothing to find out. Says whether
    /// there were news.
    fn look(&self, _resources: &[&str]) -> Option<BoxFuture<'static, bool>> {
        None
    }

    /// The object that is meant, in its canonical form. Reads no secret and does not wait; an error
    /// that is transient says that [`Backend::look`] was not done yet.
    ///
    /// # Errors
    /// The resource or version cannot exist in this backend, or lies outside the vault.
    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError>;

    /// Reads the object once. The caller bounds the time.
    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>>;

    /// How many objects one call to the server can read; 1 if there is no such call.
    fn batch(&self) -> usize {
        1
    }

    /// Reads several objects, at most [`Backend::batch`], in one call to the server. The results are
    /// in the order of the objects. The caller bounds the time.
    fn read_batch<'a>(
        &'a self,
        objects: &'a [Object],
    ) -> BoxFuture<'a, Vec<Result<Reading, ReadError>>> {
        Box::pin(join_all(objects.iter().map(|object| self.read(object))))
    }

    /// Whether objects are texts by nature, of which some may happen to be JSON, and not made of keys.
    /// A `*` in a `deny` then stands for names, and for keys only behind a `/`: else `*secret*` would
    /// deny each object as a whole, since any could have such a key.
    fn objects_are_texts(&self) -> bool {
        false
    }

    /// A number that changes when something in the vault may have, where the backend is told of
    /// changes. What was read under another number is read anew before its ttl is over.
    fn generation(&self) -> u64 {
        0
    }
}

/// What a reference asks of a backend.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The resource, decoded.
    pub resource: &'a str,
    /// The version; none means the current one.
    pub version: Option<u64>,
    /// Options of the reference that are among [`Kind::reference_options`] and were allowed.
    pub options: &'a [(String, String)],
}

impl<'a> Asked<'a> {
    /// The current version of a resource, without options.
    #[must_use]
    pub fn current(resource: &'a str) -> Self {
        Self {
            resource,
            version: None,
            options: &[],
        }
    }
}

/// One object of a backend, however it was spelled.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Object {
    /// [`Backend::scope`] at the time of asking.
    pub scope: String,
    /// The canonical name beneath the scope.
    pub path: String,
    /// The version, if the backend has versions and one was asked for.
    pub version: Option<u64>,
    /// Another path by which a `deny` of the object may be written: what it is a version of
    /// (`env`: `NAME_PREVIOUS`), or the link that leads to it (`fs`).
    pub alias: Option<String>,
}

/// What was read.
#[derive(Debug)]
pub struct Reading {
    /// The object's bytes; JSON text where the backend keeps objects.
    pub content: Secret,
    /// How long the backend says that it holds.
    pub ttl: Option<Duration>,
}

impl Reading {
    /// A reading of which the backend says no ttl.
    #[must_use]
    pub fn new(content: Secret) -> Self {
        Self { content, ttl: None }
    }
}

/// Why nothing was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadError {
    /// What kind of failure.
    pub kind: ReadErrorKind,
    /// For the operator's log: a phrase that says the cause and repeats nothing that was read.
    pub cause: Cow<'static, str>,
    /// How long the backend asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Asking again at once, or nearly so, may help: a connection that was lost, a server that is
    /// busy or starts.
    pub transient: bool,
}

/// The kinds of [`ReadError`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadErrorKind {
    /// The backend, or the bounds of the vault, forbid it.
    Denied,
    /// No object can have such a name.
    InvalidName,
    /// The object does not exist, or is gone.
    NotFound,
    /// The backend cannot be reached, is sealed, or took too long.
    Unavailable,
    /// The object is none that can be used: a directory, too large.
    WrongType,
}

impl ReadError {
    /// An error without advice about when to come back.
    pub fn new(kind: ReadErrorKind, cause: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            cause: cause.into(),
            retry_after: None,
            transient: false,
        }
    }

    /// An outage that may be over in a moment.
    pub fn transient(cause: impl Into<Cow<'static, str>>) -> Self {
        Self {
            transient: true,
            ..Self::new(ReadErrorKind::Unavailable, cause)
        }
    }
}

impl ReadErrorKind {
    /// The name in the contract.
    #[must_use]
    pub fn failure_kind(self) -> FailureKind {
        match self {
            Self::Denied => FailureKind::Denied,
            Self::InvalidName => FailureKind::InvalidReference,
            Self::NotFound => FailureKind::NotFound,
            Self::Unavailable => FailureKind::Unavailable,
            Self::WrongType => FailureKind::WrongType,
        }
    }
}
