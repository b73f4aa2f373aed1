//! A vault of one's own behind a resolver, for what is not the same for every backend.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vaultref_contract::wire::{FailureKind, Outcome, ResolveRequest};
use vaultref_host::config;
use vaultref_host::environment::Environment;
use vaultref_host::policy::Access;
use vaultref_host::resolver::Resolver;

use crate::kit::Config;

/// What a reference gave: bytes, or the kind of failure.
pub type Got = Result<Vec<u8>, FailureKind>;

/// One vault, and a resolver that has read nothing yet.
pub struct Vault {
    resolver: Resolver,
    runtime: Runtime,
}

impl Vault {
    /// A vault of this backend.
    ///
    /// # Panics
    ///
    /// When the configuration is none.
    pub fn new(backend: &str, config: Config) -> Self {
        let document = json!({
            "vaults": [{ "name": backend, "prefix": "the-vault", "config": config.fields }],
        });
        let variables = config.environment.into_iter();
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let environment = Arc::new(Environment::new(variables));
        // (JSON is YAML.)
        let parsed = config::parse(&document.to_string(), &environment).expect("a configuration");
        // Time can be moved on in a runtime of one thread only.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        Self {
            resolver: Resolver::new(parsed.vaults, 1, runtime.handle().clone()),
            runtime,
        }
    }

    /// What stands behind the vault's name in a reference.
    pub fn get(&self, rest: &str) -> Got {
        self.get_all(&[rest]).pop().expect("an answer")
    }

    /// The same for several that are asked for at once.
    pub fn get_all(&self, rests: &[&str]) -> Vec<Got> {
        let outcomes = self.outcomes(rests).into_iter();
        let got = outcomes.map(|outcome| match outcome {
            Outcome::Secret(secret) => Ok(secret.value.secret().expose().to_vec()),
            Outcome::Failure(failure) => Err(failure.kind),
            Outcome::Unchanged(_) => panic!("nothing was known"),
        });
        got.collect()
    }

    /// The failure of a reference, with its cause for the operator and when to come back.
    pub fn failure(&self, rest: &str) -> (FailureKind, String, Option<u32>) {
        let reference = format!("{{vault://the-vault/{rest}}}");
        let wait = std::time::Duration::from_secs(30);
        let value = self.resolver.value(&Access::All, &reference, wait);
        match self.runtime.block_on(value) {
            Ok(_) => panic!("{rest} has a value"),
            Err(unresolved) => (
                unresolved.failure.kind,
                unresolved.cause.into_owned(),
                unresolved.failure.retry_after,
            ),
        }
    }

    /// Has time pass.
    pub fn pass(&self, seconds: u64) {
        self.runtime.block_on(async {
            // Held only while it is moved on: the I/O is real.
            tokio::time::pause();
            tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
            tokio::time::resume();
        });
    }

    fn outcomes(&self, rests: &[&str]) -> Vec<Outcome> {
        let references = rests
            .iter()
            .map(|rest| format!("{{vault://the-vault/{rest}}}"));
        let request = ResolveRequest {
            references: references.collect(),
            known: Vec::new(),
            wait_ms: 30_000,
            ..ResolveRequest::default()
        };
        let answer = self.resolver.resolve(&Access::All, &request);
        self.runtime.block_on(answer)
    }
}

/// A `config` without variables.
pub fn fields(fields: Value) -> Config {
    Config {
        fields,
        environment: Vec::new(),
    }
}
