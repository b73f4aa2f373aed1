//! A vault on moto, and who asks it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vaultref_contract::wire::{Failure, FailureKind, Outcome, ResolveRequest};
use vaultref_host::config;
use vaultref_host::environment::Environment;
use vaultref_host::policy::Access;
use vaultref_host::resolver::{MAX_WAIT, Resolver};
use vaultref_scenarios::moto::{Keys, Moto, REGION};

/// Stands in every secret and in every answer that is a fault: no error may have it.
pub const MARK: &str = "hunter2";

/// The server that all tests share; it ends with the last of them.
pub fn moto() -> Result<&'static Moto> {
    static SERVER: OnceLock<Moto> = OnceLock::new();
    static START: Mutex<()> = Mutex::new(());
    let _one_at_a_time = START.lock().unwrap_or_else(PoisonError::into_inner);
    if SERVER.get().is_none() {
        let started = Moto::start()?;
        // Nobody else is here.
        let _ = SERVER.set(started);
    }
    SERVER.get().context("moto was started")
}

/// A user of moto who may do all this with all secrets.
pub fn user(name: &str, actions: &[&str]) -> Result<Keys> {
    moto()?.create_user(name, &allow(actions))
}

/// A user of moto who may read all secrets, also many at once.
pub fn reader(name: &str) -> Result<Keys> {
    user(name, &READ)
}

/// Keys of a role of moto that may read all secrets, as what runs on AWS has them.
pub fn reading_role(name: &str) -> Result<Keys> {
    let role = moto()?.create_role(name, &[], &allow(&READ))?;
    moto()?.take_on(&role)
}

/// What it takes to read secrets, also many at once.
pub const READ: [&str; 2] = [
    "secretsmanager:GetSecretValue",
    "secretsmanager:BatchGetSecretValue",
];

/// The statement that allows this.
pub fn allow(actions: &[&str]) -> Value {
    json!([{ "Effect": "Allow", "Action": actions, "Resource": "*" }])
}

/// What a vault is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    fields: Value,
    variables: Vec<(String, String)>,
}

impl Setup {
    /// A vault at this address, without credentials, on a machine that is no instance of AWS.
    pub fn at(url: &str) -> Self {
        Self {
            fields: json!({ "region": REGION, "endpoint_url": url, "timeout": 10 }),
            variables: Vec::new(),
        }
        .variable("AWS_EC2_METADATA_DISABLED", "true")
    }

    /// The same on moto.
    pub fn on_moto() -> Result<Self> {
        Ok(Self::at(&moto()?.url()))
    }

    /// Sets a field.
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields[name] = value.into();
        self
    }

    /// Sets a variable of the environment.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Has keys in the environment.
    pub fn keys(self, keys: &Keys) -> Self {
        let with = self
            .variable("AWS_ACCESS_KEY_ID", &keys.id)
            .variable("AWS_SECRET_ACCESS_KEY", &keys.secret);
        match &keys.token {
            Some(token) => with.variable("AWS_SESSION_TOKEN", token),
            None => with,
        }
    }

    /// The vault, of which nothing has been read.
    pub fn vault(&self) -> Result<Vault> {
        let document = json!({ "vaults": [{ "name": "aws", "config": self.fields }] });
        let variables = self.variables.iter();
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let environment = Environment::new(variables);
        // (JSON is YAML.)
        let config = config::parse(&document.to_string(), &Arc::new(environment))?;
        // Time can be held in a runtime of one thread only.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Vault {
            resolver: Resolver::new(config.vaults, 1, runtime.handle().clone()),
            runtime,
        })
    }

    /// What a new vault gives for this.
    pub fn get(&self, rest: &str) -> Result<Got> {
        self.vault()?.get(rest)
    }
}

/// A vault behind a resolver.
pub struct Vault {
    resolver: Resolver,
    runtime: Runtime,
}

impl Vault {
    /// What a reference gives: `{vault://aws/<rest>}`.
    pub fn get(&self, rest: &str) -> Result<Got> {
        let reference = format!("{{vault://aws/{rest}}}");
        let value = self.resolver.value(&Access::All, &reference, MAX_WAIT);
        match self.runtime.block_on(value) {
            Ok(value) => Ok(Got::Value(value.value.secret().expose().to_vec())),
            Err(unresolved) => {
                let cause = unresolved.cause.to_string();
                let told = format!("{unresolved:?}");
                ensure!(!told.contains(MARK), "an error repeats what it must not");
                Ok(Got::Failure(unresolved.failure, cause))
            }
        }
    }

    /// What references give that are asked for in one request.
    pub fn get_all(&self, rests: &[impl AsRef<str>]) -> Result<Vec<Got>> {
        let references = rests.iter().map(AsRef::as_ref);
        let request = ResolveRequest {
            references: references
                .map(|rest| format!("{{vault://aws/{rest}}}"))
                .collect(),
            known: Vec::new(),
            wait_ms: u32::try_from(MAX_WAIT.as_millis())?,
            ..ResolveRequest::default()
        };
        let outcomes = self.resolver.resolve(&Access::All, &request);
        let outcomes = self.runtime.block_on(outcomes).into_iter();
        outcomes
            .map(|outcome| match outcome {
                Outcome::Secret(secret) => Ok(Got::Value(secret.value.secret().expose().to_vec())),
                Outcome::Failure(failure) => Ok(Got::Failure(failure, String::new())),
                Outcome::Unchanged(_) => anyhow::bail!("unchanged, though nothing was known"),
            })
            .collect()
    }

    /// Has time pass.
    pub fn pass(&self, time: Duration) {
        self.runtime.block_on(async {
            // Held only while it is moved on, so that real I/O sees it jump and no more.
            tokio::time::pause();
            tokio::time::advance(time).await;
            tokio::time::resume();
        });
    }
}

/// What a reference gave.
#[derive(Debug, PartialEq)]
pub enum Got {
    Value(Vec<u8>),
    Failure(Failure, String),
}

impl Got {
    /// It is this value.
    pub fn is(&self, expected: impl AsRef<[u8]>) -> Result<()> {
        let expected = expected.as_ref();
        match self {
            Self::Value(value) => ensure!(value == expected, "another value"),
            Self::Failure(failure, cause) => anyhow::bail!("{}: {cause}", failure.kind),
        }
        Ok(())
    }

    /// It is a failure of this kind. Gives its cause.
    pub fn fails(&self, expected: FailureKind) -> Result<&str> {
        match self {
            Self::Failure(failure, cause) if failure.kind == expected => Ok(cause),
            Self::Failure(failure, cause) => {
                anyhow::bail!("{} instead of {expected}: {cause}", failure.kind)
            }
            Self::Value(_) => anyhow::bail!("a value instead of {expected}"),
        }
    }
}
