//! Being told that something in a directory has changed.
//!
//! A directory and not a file: editors, Kubernetes and whoever writes safely put a new file in the
//! place of the old one, and what was watched would be the old one.

use std::path::Path;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use thiserror::Error;
use tokio::sync::watch;

/// A directory that is being watched, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    // Dropping it ends the watch.
    _watcher: RecommendedWatcher,
    changes: watch::Receiver<u64>,
}

/// Why a directory cannot be watched.
#[derive(Debug, Error)]
#[error("cannot be watched: {0}")]
pub(crate) struct WatchError(String);

impl Watch {
    /// Watches what is directly in a directory.
    pub(crate) fn directory(path: &Path) -> Result<Self, WatchError> {
        let (sender, changes) = watch::channel(0);
        let told = move |event: notify::Result<notify::Event>| {
            // Reading is what we do ourselves; an error may stand for events that were lost.
            if event.map_or(true, |event| !event.kind.is_access()) {
                sender.send_modify(|count| *count += 1);
            }
        };
        let mut watcher = notify::recommended_watcher(told).map_err(|error| phrase(&error))?;
        watcher
            .watch(path, RecursiveMode::NonRecursive)
            .map_err(|error| phrase(&error))?;
        Ok(Self {
            _watcher: watcher,
            changes,
        })
    }

    /// Waits until something has changed since the last time.
    pub(crate) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The watcher is gone: nothing more will be told.
            std::future::pending::<()>().await;
        }
    }
}

fn phrase(error: &notify::Error) -> WatchError {
    WatchError(match &error.kind {
        notify::ErrorKind::Io(error) => error.kind().to_string(),
        notify::ErrorKind::MaxFilesWatch => "the system's limit of watches is reached".to_owned(),
        notify::ErrorKind::PathNotFound => "not found".to_owned(),
        _ => "the system does not say why".to_owned(),
    })
}
