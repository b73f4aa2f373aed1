//! `vaultref serve`: the daemon as a process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use vaultref_contract::wire::{MAX_REFERENCES, Outcome, ResolveRequest};

use super::{ConfigFile, Status, output, resolver};
use crate::config::{Config, Listen};
use crate::environment::Environment;
use crate::policy::Access;
use crate::resolver::{MAX_WAIT, Resolver};
use crate::server::{Bound, Handle, Limits, Server, bind, descriptors};

mod reload;

#[derive(Args, Debug)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,
}

impl Serve {
    pub(super) async fn run(self, environment: &Arc<Environment>) -> Status {
        let Some(file) = self.config.path(environment) else {
            output::problem("no configuration: give --config FILE, or set VAULTREF_CONFIG");
            return Status::Usage;
        };
        let known = reload::read(&file);
        let config = match self.config.load(environment) {
            Ok(config) => config,
            Err(error) => {
                output::problem(&error.to_string());
                return Status::Usage;
            }
        };
        match serve(config, file, known, environment).await {
            Ok(()) => Status::Ok,
            Err((status, problem)) => {
                output::problem(&problem);
                status
            }
        }
    }
}

async fn serve(
    config: Config,
    file: PathBuf,
    known: Option<reload::Content>,
    environment: &Arc<Environment>,
) -> Result<(), (Status, String)> {
    if config.listen.is_empty() {
        let problem = "the configuration has no 'listen': say where, such as {unix: /run/vaultref/vaultref.sock}";
        return Err((Status::Usage, problem.to_owned()));
    }
    let signals = Signals::install().map_err(|error| {
        let problem = format!("cannot watch for signals: {}", error.kind());
        (Status::Internal, problem)
    })?;
    let hangup = signal(SignalKind::hangup()).map_err(|error| {
        let problem = format!("cannot watch for signals: {}", error.kind());
        (Status::Internal, problem)
    })?;
    let listeners = listeners(&config.listen).await?;
    let tcp = config
        .listen
        .iter()
        .any(|listen| matches!(listen, Listen::Tcp(_)));
    if tcp && config.clients.iter().all(|client| client.tokens.is_empty()) {
        tracing::warn!("no client has a token, so nobody is served over TCP");
    }
    for vault in config.vaults.iter() {
        tracing::info!(vault = vault.name(), backend = vault.kind().name, "vault");
    }
    let own_uid = nix::unistd::geteuid().as_raw();
    let resolver = resolver(config.vaults);
    let limits = limits();
    let server = Server::new(resolver.clone(), config.clients, own_uid, limits);
    server.warm_up().await;
    for (_, listener) in &listeners {
        tracing::info!("listening {}", listener.address());
    }
    let handle = server.handle();
    let reload = reload::Reload {
        file,
        environment: Arc::clone(environment),
        handle: handle.clone(),
        resolver: resolver.clone(),
        listen: config.listen,
        known,
        hangup,
    };
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.run(listeners, stopped));
    tracing::info!("vaultref is listening");
    tokio::select! {
        () = signals.wait() => {}
        () = reload.run() => {}
        () = resolver.keep_fresh() => {}
        () = prefetch(&resolver, &config.prefetch, &handle) => {}
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    serving
        .await
        .map_err(|_| (Status::Internal, "the server broke off".to_owned()))
}

/// The usual limits, as far as the system lets us have them.
fn limits() -> Limits {
    let usual = Limits::default();
    let Some(descriptors) = descriptors() else {
        return usual;
    };
    let limits = usual.within(descriptors);
    if limits.connections < usual.connections {
        tracing::info!(
            descriptors,
            connections = limits.connections,
            "the daemon takes fewer connections, since the limit of open files is low"
        );
    }
    limits
}

async fn listeners(listen: &[Listen]) -> Result<Vec<(Listen, Bound)>, (Status, String)> {
    let mut bound = Vec::new();
    for listen in listen {
        let listener = bind(listen).await;
        let listener = listener.map_err(|error| (Status::Internal, error.to_string()))?;
        bound.push((listen.clone(), listener));
    }
    Ok(bound)
}

/// Reads what is to be there before the daemon says that it is ready. Then it has nothing more to do,
/// for as long as it is polled.
async fn prefetch(resolver: &Resolver, references: &[String], handle: &Handle) {
    for batch in references.chunks(MAX_REFERENCES) {
        let request = ResolveRequest {
            references: batch.to_vec(),
            known: Vec::new(),
            wait_ms: u32::try_from(MAX_WAIT.as_millis()).unwrap_or(u32::MAX),
            ..ResolveRequest::default()
        };
        // Each failure has a line of its own in the log. What failed is tried again when its time
        // has come.
        while let Some(again) = first_retry(&resolver.resolve(&Access::All, &request).await) {
            tokio::time::sleep(again).await;
        }
    }
    handle.set_ready(true);
    tracing::info!(references = references.len(), "vaultref is ready");
    std::future::pending().await
}

/// When to ask again, if something is not there.
fn first_retry(outcomes: &[Outcome]) -> Option<Duration> {
    let failures = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Failure(failure) => Some(failure.retry_after.unwrap_or(1).max(1)),
        Outcome::Secret(_) | Outcome::Unchanged(_) => None,
    });
    failures
        .min()
        .map(|seconds| Duration::from_secs(seconds.into()))
}

/// What asks a daemon to end. Watched before there is anything to tidy up.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
