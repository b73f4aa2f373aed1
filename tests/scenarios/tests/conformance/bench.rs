//! What a row works with: the fixture's vault behind a resolver, and time held by hand.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vaultref_contract::wire::{Failure, FailureKind, Outcome, ResolveRequest};
use vaultref_host::config;
use vaultref_host::environment::Environment;
use vaultref_host::policy::Access;
use vaultref_host::resolver::{MAX_WAIT, Resolver};

use crate::kit::{Config, Fixture};

/// How references call the vault.
pub const VAULT: &str = "the-vault";

/// The vault's ttl, unless a row says otherwise.
pub const TTL: Duration = Duration::from_secs(60);

/// What came of a row.
#[derive(Debug)]
pub enum Verdict {
    Shown,
    /// Left out, since this backend does not have such a thing.
    LeftOut(&'static str),
}

/// Runs a row; an error names backend and row.
pub fn run<F: Fixture>(
    row: &'static str,
    fixture: Result<F>,
    check: fn(&mut Bench<F>) -> Result<Verdict>,
) -> Result<()> {
    // As the program's `main` does.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let fixture = fixture.with_context(|| format!("the fixture for {row}"))?;
    let backend = fixture.backend();
    let mut bench = Bench::new(row, fixture)?;
    match check(&mut bench).with_context(|| format!("backend {backend}, row {row}"))? {
        Verdict::Shown => {}
        Verdict::LeftOut(why) => say(&format!("{backend}: {row} left out: {why}")),
    }
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "the only place where a left-out row is seen"
)]
fn say(text: &str) {
    println!("{text}");
}

/// One fixture and the means to ask its vault.
pub struct Bench<F> {
    pub fixture: F,
    row: &'static str,
    runtime: Runtime,
}

impl<F: Fixture> Bench<F> {
    fn new(row: &'static str, fixture: F) -> Result<Self> {
        // Time can be held in a runtime of one thread only.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            fixture,
            row,
            runtime,
        })
    }

    /// A name that no other row uses: letters, digits and dashes.
    pub fn name(&self, rest: &str) -> String {
        let row = self.row.replace('_', "-");
        format!("{row}-{rest}")
    }

    /// Puts one value in place, in an object if the backend has objects only. Gives the version.
    pub fn put_value(&mut self, name: &str, value: &str) -> Result<Option<u64>> {
        let content = self.value_content(value);
        self.fixture.put(name, &content)
    }

    /// The content of an object that is just this value.
    pub fn value_content(&self, value: &str) -> Vec<u8> {
        if self.fixture.abilities().bytes {
            return value.as_bytes().to_vec();
        }
        json!({ "value": value }).to_string().into_bytes()
    }

    /// What a reference says to get the value of [`Bench::put_value`]; `rest` is options or a version.
    pub fn value_reference(&self, name: &str, rest: &str) -> String {
        if self.fixture.abilities().bytes {
            return reference(&format!("{name}/{rest}"));
        }
        reference(&format!("{name}/value{rest}"))
    }

    /// What a reference gives a resolver that has read nothing yet.
    pub fn get(&self, rest: &str) -> Result<Got> {
        self.resolver()?.get(&reference(rest))
    }

    /// A resolver that has read nothing yet.
    pub fn resolver(&self) -> Result<Asking<'_>> {
        self.resolver_of(self.fixture.config(), &json!({}))
    }

    /// A resolver for a vault of this configuration with more fields.
    pub fn resolver_of(&self, config: Config, more: &Value) -> Result<Asking<'_>> {
        asking(&self.runtime, &self.fixture, config, more)
    }

    /// A resolver, and the fixture to change things under its hands.
    pub fn apart(&mut self) -> Result<(Asking<'_>, &mut F)> {
        let config = self.fixture.config();
        let asking = asking(&self.runtime, &self.fixture, config, &json!({}))?;
        Ok((asking, &mut self.fixture))
    }
}

fn asking<'a>(
    runtime: &'a Runtime,
    fixture: &impl Fixture,
    config: Config,
    more: &Value,
) -> Result<Asking<'a>> {
    let mut fields = config.fields;
    fields["ttl"] = json!(TTL.as_secs());
    for (name, value) in more.as_object().into_iter().flatten() {
        fields[name] = value.clone();
    }
    let credentials = credentials(&fields);
    let document = json!({ "vaults": [
        { "name": fixture.backend(), "prefix": VAULT, "config": fields }
    ]});
    let variables = config.environment.into_iter();
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let environment = Environment::new(variables.chain(fixture.odd_variables()));
    // (JSON is YAML.)
    let parsed = config::parse(&document.to_string(), &Arc::new(environment))
        .context("the fixture's config")?;
    Ok(Asking {
        resolver: Resolver::new(parsed.vaults, 1, runtime.handle().clone()),
        runtime,
        credentials,
    })
}

/// The reference to what stands behind the vault's name.
pub fn reference(rest: &str) -> String {
    format!("{{vault://{VAULT}/{rest}}}")
}

/// A resolver and who asks it.
pub struct Asking<'a> {
    pub resolver: Resolver,
    runtime: &'a Runtime,
    credentials: Vec<String>,
}

impl Asking<'_> {
    /// The value of a reference.
    pub fn get(&self, reference: &str) -> Result<Got> {
        self.runtime.block_on(self.ask(reference))
    }

    /// The same; meanwhile `until` waits for something to happen, and then the time is up at once.
    pub fn get_with_time_up(
        &self,
        reference: &str,
        time: Duration,
        until: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Got> {
        self.runtime.block_on(async {
            let time_is_up = async {
                tokio::task::spawn_blocking(until).await??;
                pass(time).await;
                anyhow::Ok(())
            };
            let (got, up) = tokio::join!(self.ask(reference), time_is_up);
            up?;
            got
        })
    }

    /// What references give that are asked for in one request.
    pub fn get_all(&self, references: &[String]) -> Result<Vec<Got>> {
        let request = ResolveRequest {
            references: references.to_vec(),
            known: Vec::new(),
            wait_ms: u32::try_from(MAX_WAIT.as_millis())?,
            ..ResolveRequest::default()
        };
        let outcomes = self.resolver.resolve(&Access::All, &request);
        self.runtime
            .block_on(outcomes)
            .into_iter()
            .map(got)
            .collect()
    }

    /// Has time pass.
    pub fn pass(&self, time: Duration) {
        self.runtime.block_on(pass(time));
    }

    async fn ask(&self, reference: &str) -> Result<Got> {
        let value = self.resolver.value(&Access::All, reference, MAX_WAIT).await;
        match value {
            Ok(value) => got(Outcome::Secret(value)),
            Err(unresolved) => {
                let told = format!("{unresolved:?} {}", unresolved.cause);
                ensure!(!told.contains(MARK), "an error repeats the answer: {told}");
                for credential in &self.credentials {
                    ensure!(!told.contains(credential), "an error shows a credential");
                }
                Ok(Got::Failure {
                    failure: unresolved.failure,
                    cause: unresolved.cause.into_owned(),
                })
            }
        }
    }
}

/// Stands in answers that are faults, and must not be repeated.
pub const MARK: &str = "hunter2-of-the-server";

/// Held only while it is moved on, so that clients that do real I/O see it jump and no more.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// The fields that are somebody's secret.
fn credentials(fields: &Value) -> Vec<String> {
    let secret = |name: &str| {
        ["token", "secret", "password", "api_key", "_key"]
            .iter()
            .any(|part| name.ends_with(part))
    };
    let fields = fields.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| secret(name))
        .filter_map(|(_, value)| value.as_str().map(str::to_owned))
        .filter(|value| value.len() > 4)
        .collect()
}

/// What a reference gave.
#[derive(Debug)]
pub enum Got {
    Value(Vec<u8>),
    Failure { failure: Failure, cause: String },
}

fn got(outcome: Outcome) -> Result<Got> {
    match outcome {
        Outcome::Secret(secret) => Ok(Got::Value(secret.value.secret().expose().to_vec())),
        Outcome::Failure(failure) => Ok(Got::Failure {
            failure,
            cause: String::new(),
        }),
        Outcome::Unchanged(_) => anyhow::bail!("unchanged, though nothing was known"),
    }
}

impl Got {
    /// It is this value.
    pub fn is(&self, expected: impl AsRef<[u8]>) -> Result<()> {
        let expected = expected.as_ref();
        match self {
            Self::Value(value) if value == expected => Ok(()),
            other => anyhow::bail!("{other} instead of {}", Self::Value(expected.to_vec())),
        }
    }

    /// It is a failure of this kind.
    pub fn fails(&self, expected: FailureKind) -> Result<&Failure> {
        match self {
            Self::Failure { failure, .. } if failure.kind == expected => Ok(failure),
            other => anyhow::bail!("{other} instead of {expected}"),
        }
    }

    pub fn failure_kind(&self) -> Option<FailureKind> {
        match self {
            Self::Value(_) => None,
            Self::Failure { failure, .. } => Some(failure.kind),
        }
    }
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) if value.len() > 100 => write!(f, "{} bytes", value.len()),
            Self::Value(value) => write!(f, "{:?}", String::from_utf8_lossy(value)),
            Self::Failure { failure, cause } => {
                write!(f, "{} ({cause}; {:?})", failure.kind, failure.retry_after)
            }
        }
    }
}

/// An address that refuses connections for as long as the socket is kept.
pub fn refusing() -> Result<(SocketAddr, tokio::net::TcpSocket)> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into())?;
    Ok((socket.local_addr()?, socket))
}
