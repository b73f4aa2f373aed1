//! A configured vault: a backend, the name under which references reach it, and for how long its
//! values hold.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::backend::{Backend, Kind, ReadError, USUAL_TTL};
use crate::config::Files;

mod circuit;
mod dependent;
mod pace;

use circuit::Circuit;
pub(crate) use dependent::Dependent;
use pace::Pace;

/// How many reads of one vault run at a time. What is over it waits its turn within its own time, so
/// that one slow vault keeps neither others nor the daemon from working.
const CONCURRENT_READS: usize = 32;

/// A vault that references can name.
pub struct Vault {
    name: String,
    kind: Kind,
    source: Source,
    settings: Settings,
    definition: Option<Definition>,
    pub(crate) reads: Semaphore,
    pub(crate) circuit: Circuit,
    pub(crate) pace: Pace,
}

/// What a vault was made of, as far as the configuration says it.
struct Definition {
    /// A hash of its fields.
    fields: u64,
    files: Files,
}

/// Where a vault's backend comes from.
enum Source {
    /// From fields that stand in the configuration.
    Given(Arc<dyn Backend>),
    /// From fields of which some are read from other vaults.
    Dependent(Box<Dependent>),
}

impl Vault {
    /// Puts a vault together.
    #[must_use]
    pub fn new(name: String, kind: Kind, backend: Arc<dyn Backend>, settings: Settings) -> Self {
        Self::from_source(name, kind, Source::Given(backend), settings)
    }

    /// A vault that can be read once the references in its fields are.
    pub(crate) fn dependent(name: String, dependent: Dependent, settings: Settings) -> Self {
        let kind = dependent.kind();
        Self::from_source(name, kind, Source::Dependent(Box::new(dependent)), settings)
    }

    fn from_source(name: String, kind: Kind, source: Source, settings: Settings) -> Self {
        Self {
            name,
            kind,
            source,
            pace: Pace::new(settings.rate_limit),
            settings,
            definition: None,
            reads: Semaphore::new(CONCURRENT_READS),
            circuit: Circuit::new(),
        }
    }

    /// What references say: the prefix, or the backend's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of its backend.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What reads it.
    ///
    /// # Errors
    /// A field of the vault is a reference that could not be read (yet).
    pub fn backend(&self) -> Result<Arc<dyn Backend>, ReadError> {
        match &self.source {
            Source::Given(backend) => Ok(Arc::clone(backend)),
            Source::Dependent(dependent) => dependent.backend(),
        }
    }

    /// The same vault with a hash of the fields that it was made of, and the files.
    pub(crate) fn defined_by(self, fields: u64, files: Files) -> Self {
        Self {
            definition: Some(Definition { fields, files }),
            ..self
        }
    }

    /// Whether it was made of the fields with this hash, and of files that still say the same. Waits
    /// for the file system.
    pub(crate) fn is_defined_by(&self, fields: u64) -> bool {
        let definition = self.definition.as_ref();
        definition.is_some_and(|known| known.fields == fields && known.files.are_same())
            && self
                .as_dependent()
                .is_none_or(|vault| vault.files().are_same())
    }

    /// What it takes to make the backend, if some of its fields are references.
    pub(crate) fn as_dependent(&self) -> Option<&Dependent> {
        match &self.source {
            Source::Given(_) => None,
            Source::Dependent(dependent) => Some(dependent),
        }
    }

    /// For how long its values hold.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({} of {})", self.name, self.kind.name)
    }
}

/// The fields that every vault has.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a value is fresh; none: it is never read again on its own.
    pub ttl: Option<Duration>,
    /// How long a failure is remembered.
    pub neg_ttl: Duration,
    /// How long after its ttl a value bridges an outage.
    pub resurrect_ttl: Duration,
    /// The least ttl that a reference or the backend can bring about.
    pub min_ttl: Duration,
    /// The largest ttl that the backend can bring about; none: the vault's own ttl.
    pub max_ttl: Option<Duration>,
    /// Values are base64 text.
    pub base64_decode: bool,
    /// How long one read may take.
    pub timeout: Duration,
    /// How many reads may begin in a second; none: as many as are due.
    pub rate_limit: Option<u32>,
    /// The fields that a reference may set.
    pub allow_options: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Some(USUAL_TTL),
            neg_ttl: Duration::from_secs(5),
            resurrect_ttl: Duration::from_secs(86_400),
            min_ttl: Duration::from_secs(1),
            max_ttl: None,
            base64_decode: false,
            timeout: Duration::from_secs(5),
            rate_limit: Some(500),
            allow_options: Vec::new(),
        }
    }
}

/// The vaults of a configuration by name.
#[derive(Clone, Debug, Default)]
pub struct Vaults(BTreeMap<String, Arc<Vault>>);

impl Vaults {
    /// Adds a vault, unless its name is taken. Says whether it was added.
    #[must_use]
    pub fn add(&mut self, vault: impl Into<Arc<Vault>>) -> bool {
        let vault = vault.into();
        let free = !self.0.contains_key(vault.name());
        if free {
            self.0.insert(vault.name().to_owned(), vault);
        }
        free
    }

    /// The vault of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Vault>> {
        self.0.get(name)
    }

    /// Whether one of them has references in its own fields.
    #[must_use]
    pub fn have_dependents(&self) -> bool {
        self.0.values().any(|vault| vault.as_dependent().is_some())
    }

    /// All of them, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Vault>> {
        self.0.values()
    }
}
