//! A vault whose own fields hold references: its backend is made when they have been read, and made
//! anew when one of them has changed.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use vaultref_contract::ReferenceText;
use vaultref_contract::wire::{FailureKind, Revision, SecretValue};

use crate::backend::{Backend, Kind, ReadError, ReadErrorKind};
use crate::config::{ConfigError, Fields, Files};
use crate::environment::Environment;

/// Stands for what a reference will give while a configuration is checked.
const STAND_IN: &str = "reference";

/// The fields of such a vault, and the backend made of them last.
pub(crate) struct Dependent {
    kind: Kind,
    fields: Fields,
    references: Vec<ReferenceText>,
    environment: Arc<Environment>,
    made: RwLock<Made>,
}

struct Made {
    /// The revisions of the values that it was made of, in the order of the references.
    of: Vec<Revision>,
    backend: Result<Arc<dyn Backend>, ReadError>,
    /// The files that were read for it.
    files: Files,
}

impl Dependent {
    /// Checks what can be checked before the references are read.
    ///
    /// # Errors
    /// A field that holds no reference is wrong.
    pub(crate) fn new(
        kind: Kind,
        fields: Fields,
        references: Vec<ReferenceText>,
        environment: &Arc<Environment>,
    ) -> Result<Self, ConfigError> {
        // Any text will do for this: what is wrong about a field that will come from a vault is
        // found out later, all else now.
        let mut trial = fields.filled(|_| Some(STAND_IN));
        let built = (kind.build)(&mut trial, environment).map(drop);
        match built.and_then(|()| trial.finish()) {
            Err(error) if !fields.has_references_at(error.place()) => return Err(error),
            _ => {}
        }
        Ok(Self {
            kind,
            fields,
            references,
            environment: Arc::clone(environment),
            made: RwLock::new(Made {
                of: Vec::new(),
                backend: Err(ReadError::new(
                    ReadErrorKind::Unavailable,
                    "the references in the vault's own fields have not been read yet",
                )),
                files: Files::default(),
            }),
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The references in its fields.
    pub(crate) fn references(&self) -> &[ReferenceText] {
        &self.references
    }

    pub(crate) fn backend(&self) -> Result<Arc<dyn Backend>, ReadError> {
        self.made().backend.clone()
    }

    /// The files that were read for the backend.
    pub(crate) fn files(&self) -> Files {
        self.made().files.clone()
    }

    /// Whether the backend is made of these values, which are in the order of the references.
    pub(crate) fn is_made_of(&self, values: &[SecretValue]) -> bool {
        let of = values.iter().map(|value| &value.revision);
        self.made().of.iter().eq(of)
    }

    /// Makes the backend anew unless it is made of these values; says whether it is another now.
    pub(crate) fn make(&self, values: &[SecretValue]) -> bool {
        if self.is_made_of(values) {
            return false;
        }
        let of: Vec<_> = values.iter().map(|value| value.revision.clone()).collect();
        let mut files = Files::default();
        let backend = self.build(values, &mut files).map_err(|error| {
            ReadError::new(
                ReadErrorKind::Unavailable,
                format!("the vault cannot be used: {error}"),
            )
        });
        self.put(Made { of, backend, files });
        true
    }

    /// Notes that a reference could not be read. A backend that is made already stays in use while
    /// that is an outage only. Says whether there is none any more.
    pub(crate) fn fail(&self, reference: &ReferenceText, kind: FailureKind) -> bool {
        let bridged = matches!(kind, FailureKind::Pending | FailureKind::Unavailable);
        // Looked at and changed under one lock: another request may be making a backend right now.
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        let was_made = made.backend.is_ok();
        if bridged && was_made {
            return false;
        }
        let cause = format!("the vault's own field needs {}: {kind}", reference.as_str());
        *made = Made {
            of: Vec::new(),
            backend: Err(ReadError::new(ReadErrorKind::Unavailable, cause)),
            files: Files::default(),
        };
        was_made
    }

    fn build(
        &self,
        values: &[SecretValue],
        files: &mut Files,
    ) -> Result<Arc<dyn Backend>, ConfigError> {
        let value = |written: &str| {
            let mut pairs = self.references.iter().zip(values);
            let (_, value) = pairs.find(|(reference, _)| reference.as_str() == written)?;
            value.value.secret().expose_text()
        };
        let mut fields = self.fields.filled(value);
        let built = (self.kind.build)(&mut fields, &self.environment);
        *files = fields.files();
        let backend = built?;
        fields.finish()?;
        Ok(backend)
    }

    fn made(&self) -> RwLockReadGuard<'_, Made> {
        // It is replaced whole, so what is there is good whoever panicked.
        self.made.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, made: Made) {
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = made;
    }
}
