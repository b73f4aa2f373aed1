//! `vaultref serve`: the daemon as a process.

use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{ConfigFile, Status, output, resolver};
use crate::config::{Config, Listen};
use crate::environment::Environment;
use crate::server::{Bound, Limits, Server, bind};

#[derive(Args, Debug)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,
}

impl Serve {
    pub(super) async fn run(self, environment: &Arc<Environment>) -> Status {
        if self.config.path(environment).is_none() {
            output::problem("no configuration: give --config FILE, or set VAULTREF_CONFIG");
            return Status::Usage;
        }
        let config = match self.config.load(environment) {
            Ok(config) => config,
            Err(error) => {
                output::problem(&error.to_string());
                return Status::Usage;
            }
        };
        match serve(config).await {
            Ok(()) => Status::Ok,
            Err((status, problem)) => {
                output::problem(&problem);
                status
            }
        }
    }
}

async fn serve(config: Config) -> Result<(), (Status, String)> {
    if config.listen.is_empty() {
        let problem = "the configuration has no 'listen': say where, such as {unix: /run/vaultref/vaultref.sock}";
        return Err((Status::Usage, problem.to_owned()));
    }
    let signals = Signals::install().map_err(|error| {
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
    let server = Server::new(
        resolver(config.vaults),
        config.clients,
        own_uid,
        Limits::default(),
    );
    server.warm_up().await;
    for listener in &listeners {
        tracing::info!("listening {}", listener.address());
    }
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.run(listeners, stopped));
    tracing::info!("vaultref is ready");
    signals.wait().await;
    tracing::info!("stopping");
    stop.send_replace(true);
    serving
        .await
        .map_err(|_| (Status::Internal, "the server broke off".to_owned()))
}

async fn listeners(listen: &[Listen]) -> Result<Vec<Bound>, (Status, String)> {
    let mut bound = Vec::new();
    for listen in listen {
        let listener = bind(listen).await;
        bound.push(listener.map_err(|error| (Status::Internal, error.to_string()))?);
    }
    Ok(bound)
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
