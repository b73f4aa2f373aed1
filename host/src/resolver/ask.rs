//! What one reference asks for, once its vault, its object and its options are known and allowed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use vaultref_contract::wire::FailureKind;
use vaultref_contract::{OptionValue, Reference};

use super::cache::EntryKey;
use super::terms::Terms;
use crate::backend::{Asked, Backend, Object};
use crate::policy::Access;
use crate::value::Selector;
use crate::vault::{Vault, Vaults};

/// A reference that may be answered.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) backend: Arc<dyn Backend>,
    /// [`Backend::generation`] at the time of asking.
    pub(super) generation: u64,
    pub(super) key: EntryKey,
    pub(super) selector: Selector,
    pub(super) terms: Terms,
}

/// A reference that is not looked for at all.
#[derive(Clone, Debug)]
pub(super) struct NotAsked {
    pub(super) kind: FailureKind,
    pub(super) cause: Cow<'static, str>,
    /// It cannot be told yet: references in the vault's own fields have to be read before, or the
    /// object has to be looked up.
    pub(super) is_unsettled: bool,
}

/// A reference whose vault and options are known.
pub(super) struct Draft {
    pub(super) vault: Arc<Vault>,
    reference: Reference,
    options: Options,
}

impl Draft {
    pub(super) fn new(vaults: &Vaults, text: &str) -> Result<Self, NotAsked> {
        let reference = Reference::parse(text)
            .map_err(|error| refused(FailureKind::InvalidReference, error.to_string()))?;
        let vault = vaults.find(reference.vault()).ok_or_else(|| {
            refused(
                FailureKind::UnknownVault,
                "no vault of that name is configured",
            )
        })?;
        Ok(Self {
            options: Options::read(&reference, vault)?,
            vault: Arc::clone(vault),
            reference,
        })
    }

    pub(super) fn resource(&self) -> &str {
        self.reference.resource()
    }

    /// What is asked for, if this client may.
    pub(super) fn ask(&self, access: &Access) -> Result<Ask, NotAsked> {
        let (vault, reference, options) = (&self.vault, &self.reference, &self.options);
        let backend = vault.backend().map_err(|error| NotAsked {
            is_unsettled: true,
            ..refused(error.kind.failure_kind(), error.cause)
        })?;
        let asked = Asked {
            resource: reference.resource(),
            version: reference.version(),
            options: &options.backend,
        };
        let object = backend.object(&asked).map_err(|error| NotAsked {
            is_unsettled: error.transient,
            ..refused(error.kind.failure_kind(), error.cause)
        })?;
        if !access.permits(vault, &object, reference.key()) {
            return Err(refused(FailureKind::Denied, "this client may not read it"));
        }
        Ok(Ask {
            key: EntryKey {
                vault: Arc::clone(vault),
                // One entry, however it was spelled.
                object: Object {
                    alias: None,
                    ..object
                },
            },
            selector: Selector {
                key: reference.key().map(str::to_owned),
                base64_decode: options.base64_decode,
            },
            terms: options.terms,
            generation: backend.generation(),
            backend,
        })
    }
}

impl Ask {
    /// What a reference asks for, as far as that is known now.
    pub(super) fn new(vaults: &Vaults, access: &Access, text: &str) -> Result<Self, NotAsked> {
        Draft::new(vaults, text)?.ask(access)
    }
}

/// The options of a reference, held against what its vault says.
struct Options {
    terms: Terms,
    base64_decode: bool,
    backend: Vec<(String, String)>,
}

impl Options {
    fn read(reference: &Reference, vault: &Vault) -> Result<Self, NotAsked> {
        let settings = vault.settings();
        let mut read = Self {
            terms: Terms::of(settings),
            base64_decode: settings.base64_decode,
            backend: Vec::new(),
        };
        for (name, value) in reference
            .options()
            .into_iter()
            .flat_map(|options| options.iter())
        {
            let text = match value {
                OptionValue::Flag => None,
                OptionValue::Text(text) => Some(text.as_str()),
                OptionValue::List(_) => return Err(invalid("an option is given twice")),
            };
            match name {
                "base64_decode" => {
                    read.base64_decode = match text {
                        None | Some("true") => true,
                        Some("false") => false,
                        Some(_) => return Err(invalid("'base64_decode' must be true or false")),
                    }
                }
                "neg_ttl" => read.terms.shorten_neg_ttl(seconds(text)?, settings),
                "resurrect_ttl" => read.terms.shorten_resurrect_ttl(seconds(text)?),
                "ttl" => read.terms.shorten_ttl(seconds(text)?, settings),
                _ if settings.allow_options.iter().any(|known| known == name) => {
                    let text = text.ok_or(invalid("an option has no value"))?;
                    read.backend.push((name.to_owned(), text.to_owned()));
                }
                _ => return Err(invalid("an option is not allowed for this vault")),
            }
        }
        Ok(read)
    }
}

fn seconds(text: Option<&str>) -> Result<Duration, NotAsked> {
    text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<u32>().ok())
        .map(|seconds| Duration::from_secs(seconds.into()))
        .ok_or(invalid("a ttl must be a whole number of seconds"))
}

fn invalid(cause: &'static str) -> NotAsked {
    refused(FailureKind::InvalidReference, cause)
}

fn refused(kind: FailureKind, cause: impl Into<Cow<'static, str>>) -> NotAsked {
    NotAsked {
        kind,
        cause: cause.into(),
        is_unsettled: false,
    }
}
