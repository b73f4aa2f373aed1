//! A configuration that changes while the daemon runs: taken over whole, or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::Signal;
use zeroize::Zeroizing;

use crate::config::{self, ConfigError, Listen};
use crate::environment::Environment;
use crate::resolver::Resolver;
use crate::server::Handle;
use crate::watch::Watch;

/// What a new configuration is put into.
pub(super) struct Reload {
    pub(super) file: PathBuf,
    pub(super) environment: Arc<Environment>,
    pub(super) handle: Handle,
    pub(super) resolver: Resolver,
    pub(super) listen: Vec<Listen>,
    /// What the file said before it was read for what is in force now.
    pub(super) known: Option<Content>,
    /// Asks for the file to be read although it is the same: files that it names may have changed.
    pub(super) hangup: Signal,
}

impl Reload {
    /// Takes over each new configuration, for as long as it is polled.
    pub(super) async fn run(mut self) {
        let parent = self
            .file
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        let mut watch = Watch::directory(parent.unwrap_or(Path::new(".")))
            .inspect_err(|error| {
                tracing::warn!(
                    file = %self.file.display(),
                    cause = %error,
                    "changes of the configuration are seen on SIGHUP only"
                );
            })
            .ok();
        // It may have changed since it was read, before anybody watched.
        self.look(false).await;
        loop {
            let told = async {
                match &mut watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            let asked = tokio::select! {
                () = told => false,
                _ = self.hangup.recv() => true,
            };
            self.look(asked).await;
        }
    }

    /// Takes the file over if it is another, or if somebody has asked for it.
    async fn look(&mut self, asked: bool) {
        let found = read(&self.file);
        let is_same = found.as_deref() == self.known.as_deref();
        if is_same && !asked {
            return;
        }
        self.known = found;
        match self.take_over().await {
            Ok(()) => tracing::info!("the configuration was taken over"),
            Err(problem) => {
                tracing::error!("{problem}; the configuration before stays in force");
            }
        }
    }

    async fn take_over(&mut self) -> Result<(), String> {
        let (file, environment) = (self.file.clone(), Arc::clone(&self.environment));
        let before = self.resolver.vaults();
        // Making vaults reads certificates and looks at directories, which may hang.
        let load = move || config::load_again(&file, &environment, Some(&before));
        let loaded = tokio::task::spawn_blocking(load).await;
        let config = loaded
            .map_err(|_| "reading the configuration broke off".to_owned())?
            .map_err(|error: ConfigError| error.to_string())?;
        if config.listen.is_empty() {
            return Err("the configuration has no 'listen'".to_owned());
        }
        self.handle
            .listen(&self.listen, &config.listen)
            .await
            .map_err(|error| error.to_string())?;
        self.listen = config.listen;
        self.handle.replace(config.vaults, config.clients);
        Ok(())
    }
}

/// The bytes of a configuration.
pub(super) type Content = Zeroizing<Vec<u8>>;

/// The file's bytes, to see whether they have changed.
pub(super) fn read(file: &Path) -> Option<Content> {
    std::fs::read(file).ok().map(Zeroizing::new)
}
