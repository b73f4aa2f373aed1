//! `fs`: files beneath one directory.
//!
//! Whatever the resource is, whatever links there are: the file that is read lies beneath the
//! vault's directory. The path is made real first, the real file is opened without waiting (a FIFO
//! or a device gives an error, not a hanging daemon), and the open file must be the one whose path
//! was checked. Links inside the directory work, so that a Kubernetes volume (`token -> ..data/token`,
//! `..data -> ..2026_01_01`) is read as it is meant.
//!
//! A file system can hang. All that asks it runs on threads of its own, bounded in number for each
//! vault; nothing here makes the daemon wait.

mod content;
mod lanes;
mod lookup;
mod names;
mod watch;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;

use self::content::phrase;
use self::lanes::Lanes;
use self::lookup::{Found, Lookups, Wanted};
use self::names::lexical;
use self::watch::Watch;
use super::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading, Spelling, USUAL_TTL};
use crate::config::{ConfigError, Fields};
use crate::environment::Environment;

pub(super) const KIND: Kind = Kind {
    name: "fs",
    build,
    ttl: USUAL_TTL,
    reference_options: &[],
    spelling: Spelling::EXACT,
};

#[derive(Clone, Debug)]
struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// As configured: a link in it is followed at each read, so that it can be changed.
    configured: PathBuf,
    lookups: Lookups,
    lanes: Lanes,
    watch: Watch,
    find: Arc<Find>,
}

/// Asks the file system: [`lookup::find`], which a test can have hang.
struct Find(Box<FindFn>);

type FindFn = dyn Fn(&Path, &[String]) -> Found + Send + Sync;

impl fmt::Debug for Find {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Find")
    }
}

fn build(
    fields: &mut Fields,
    _environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    let node = fields.require("prefix")?;
    // Made absolute once, so that nothing changes with the working directory later.
    let configured = std::path::absolute(node.text()?)
        .map_err(|_| node.error("must be the path of a directory"))?;
    let real = std::fs::canonicalize(&configured)
        .map_err(|error| node.error(format!("cannot be used: {}", phrase(&error))))?;
    if !real.is_dir() {
        return Err(node.error("is not a directory"));
    }
    let find = Find(Box::new(lookup::find));
    Ok(Arc::new(Directory::new(
        configured,
        &real,
        find,
        watch::open,
    )))
}

impl Directory {
    fn new(configured: PathBuf, real: &Path, find: Find, open: watch::Open) -> Self {
        Self(Arc::new(Inner {
            configured,
            lookups: Lookups::new(real),
            lanes: Lanes::new(),
            watch: Watch::new(open),
            find: Arc::new(find),
        }))
    }
}

impl Backend for Directory {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.lookups.scope())
    }

    fn scope_if_known(&self) -> Option<Cow<'_, str>> {
        self.0.lookups.scope_if_there().map(Cow::Owned)
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        lexical(asked.resource)?;
        if !matches!(asked.version, None | Some(1)) {
            return Err(ReadError::new(
                ReadErrorKind::NotFound,
                "a file has its current version only",
            ));
        }
        self.0.lookups.object(asked.resource)
    }

    fn look(&self, resources: &[&str]) -> Option<BoxFuture<'static, bool>> {
        let inner = Arc::clone(&self.0);
        inner.watch.start(&inner.configured);
        let wanted = inner.lookups.wanted(resources, self.generation())?;
        // Whoever asked may go; what is found is of use to the next.
        Some(Box::pin(async move {
            let look = tokio::spawn(inner.look(wanted));
            look.await.unwrap_or(false)
        }))
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let (inner, object) = (Arc::clone(&self.0), object.clone());
        Box::pin(async move {
            let configured = inner.configured.clone();
            let read = move || content::read(&configured, &object, SystemTime::now());
            let broken_off = || {
                Err(ReadError::new(
                    ReadErrorKind::Unavailable,
                    "the read was broken off",
                ))
            };
            inner.lanes.run(read).await.unwrap_or_else(broken_off)
        })
    }

    fn objects_are_texts(&self) -> bool {
        true
    }

    fn generation(&self) -> u64 {
        self.0.watch.generation()
    }
}

impl Inner {
    async fn look(self: Arc<Self>, wanted: Wanted) -> bool {
        let started = self.lookups.begin();
        let generation = wanted.generation();
        let (configured, find) = (self.configured.clone(), Arc::clone(&self.find));
        let found = self
            .lanes
            .run(move || (find.0)(&configured, &wanted.resources));
        let found = found.await;
        self.lookups.end(started, generation, found)
    }
}

#[cfg(test)]
mod tests;
