//! A filter's file, compiled once and shared by every gateway that runs it.

use std::path::Path;
use std::sync::OnceLock;

use thiserror::Error;
use wasmtime::{Config, Engine, OptLevel};

use crate::abi;
use crate::profile::Profile;

/// Why a module or a gateway could not be started.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The path as given.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are no valid module.
    #[error("not a WebAssembly module: {0}")]
    Invalid(String),
    /// An import that the gateway does not have, called or not.
    #[error("the gateway has no import {module}.{name}")]
    UnknownImport {
        /// The import's module.
        module: String,
        /// The import's name.
        name: String,
    },
    /// No export says which ABI the module speaks.
    #[error("the module exports no proxy_abi_version_0_2_1 (or 0_2_0)")]
    UnknownAbi,
    /// nginx: the configuration is too long for a parameter of a directive.
    #[error("the configuration of plugin {plugin} is longer than {limit} bytes")]
    ConfigurationTooLong {
        /// The name of the plugin.
        plugin: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The module could not be instantiated.
    #[error("cannot instantiate: {0}")]
    Instantiate(String),
    /// A callback at start returned false or trapped.
    #[error("{callback} of plugin {plugin} was refused: {reason}\n{log}")]
    Refused {
        /// The name of the plugin.
        plugin: String,
        /// The export.
        callback: &'static str,
        /// 'returned false', or the trap.
        reason: String,
        /// What was logged until then, a line each: where a filter says why.
        log: String,
    },
}

/// A compiled filter. Clones are cheap and share the code.
#[derive(Clone)]
pub struct Module {
    inner: wasmtime::Module,
}

impl Module {
    /// Compiles a module in the binary or the text format.
    ///
    /// # Errors
    ///
    /// Where the bytes are no valid module.
    pub fn compile(bytes: impl AsRef<[u8]>) -> Result<Self, LoadError> {
        let inner = wasmtime::Module::new(engine(), bytes)
            .map_err(|error| LoadError::Invalid(format!("{error:#}")))?;
        Ok(Self { inner })
    }

    /// Compiles the module in a file.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or holds no valid module.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| LoadError::File {
            path: path.display().to_string(),
            source,
        })?;
        Self::compile(bytes)
    }

    /// The names of the module's exports, in order.
    pub fn exports(&self) -> Vec<String> {
        self.inner
            .exports()
            .map(|export| export.name().to_owned())
            .collect()
    }

    /// The module's imports as (module, name), in order.
    pub fn imports(&self) -> Vec<(String, String)> {
        self.inner
            .imports()
            .map(|import| (import.module().to_owned(), import.name().to_owned()))
            .collect()
    }

    /// Whether `profile`'s gateway would load this module.
    ///
    /// # Errors
    ///
    /// The first reason why it would not.
    pub fn check(&self, profile: &Profile) -> Result<(), LoadError> {
        abi::link(&abi::linker(profile)?, &self.inner)?;
        let speaks = |version: &str| self.inner.get_export(version).is_some();
        if !speaks("proxy_abi_version_0_2_1") && !speaks("proxy_abi_version_0_2_0") {
            return Err(LoadError::UnknownAbi);
        }
        Ok(())
    }

    pub(crate) fn inner(&self) -> &wasmtime::Module {
        &self.inner
    }

    /// Whether both are clones of one compilation.
    pub(crate) fn is(&self, other: &Self) -> bool {
        wasmtime::Module::same(&self.inner, &other.inner)
    }
}

/// One engine for the process: compiled code can only be shared within one.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.consume_fuel(true);
        // Tests run a module for a moment and wait for its compilation; fuel is counted the same.
        config.cranelift_opt_level(OptLevel::None);
        match Engine::new(&config) {
            Ok(engine) => engine,
            // The configuration is fixed above; it either works on a machine or never does.
            Err(error) => panic!("wasmtime does not run on this machine: {error:#}"),
        }
    })
}
