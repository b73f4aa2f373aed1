//! What is known of a directory's names, so that nobody has to wait for a file system to be told what
//! an object is called.
//!
//! A look makes names real on a thread of its own; what it found is remembered. A file system that
//! hangs holds up a bounded number of threads, and after a moment nobody waits for them any more:
//! names are then what they last were, as values are in an outage. That is safe, since a read
//! believes none of it and looks itself.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::names::{beneath, lexical, plain, scope_of};
use crate::backend::{Object, ReadError};

/// For how long what was found holds, if no change was seen.
const HOLDS_FOR: Duration = Duration::from_secs(1);

/// How long a look may take before others no longer wait for one.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long after a look that hangs another one is tried.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// How many looks may hang. Then none is tried before one of them comes back.
const MOST_HANGING: usize = 4;

/// The most names that are remembered.
const MOST_NAMES: usize = 4096;

/// The names of one vault.
#[derive(Debug)]
pub(super) struct Lookups(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// The scope that was found last.
    scope: String,
    /// The last look has found the directory.
    is_there: bool,
    /// When the directory was looked for last.
    scope_at: Option<Moment>,
    names: HashMap<String, Name>,
    /// The looks that have not ended.
    running: BTreeSet<Started>,
    next: u64,
}

#[derive(Debug)]
struct Name {
    object: Result<Object, ReadError>,
    at: Moment,
}

/// When something was looked for, and at which generation of the vault.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    generation: u64,
}

/// The beginning of a look; the number tells those apart that began together.
pub(super) type Started = (Instant, u64);

/// What a look is to find out.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) resources: Vec<String>,
    generation: u64,
}

/// What a look has found.
pub(super) struct Found {
    pub(super) directory: io::Result<PathBuf>,
    pub(super) names: Vec<(String, FoundName)>,
}

/// What a resource is.
pub(super) enum FoundName {
    /// A file, or whatever it is, of this path.
    Real { path: String, alias: Option<String> },
    /// It lies where it may not be read.
    Outside(ReadError),
    /// There is no such thing.
    Absent,
    /// The file system does not say.
    Unclear,
}

impl Lookups {
    /// Starts with the real directory.
    pub(super) fn new(directory: &Path) -> Self {
        Self(Mutex::new(Known {
            scope: scope_of(directory),
            is_there: true,
            scope_at: None,
            names: HashMap::new(),
            running: BTreeSet::new(),
            next: 0,
        }))
    }

    /// The scope that was found last.
    pub(super) fn scope(&self) -> String {
        self.known().scope.clone()
    }

    /// The scope, unless the directory was not there when it was looked for last.
    pub(super) fn scope_if_there(&self) -> Option<String> {
        let known = self.known();
        known.is_there.then(|| known.scope.clone())
    }

    /// What a resource was found to be.
    pub(super) fn object(&self, resource: &str) -> Result<Object, ReadError> {
        match self.known().names.get(resource) {
            Some(name) => name.object.clone(),
            None => Err(ReadError::transient("the path has not been looked up yet")),
        }
    }

    /// What of this has to be looked for; none if it is known, or if there is no use in waiting.
    pub(super) fn wanted(&self, resources: &[&str], generation: u64) -> Option<Wanted> {
        let now = Instant::now();
        let known = self.known();
        let holds =
            |moment: &Moment| moment.generation == generation && now < moment.at + HOLDS_FOR;
        let is_open = |resource: &&&str| {
            let name = known.names.get(**resource);
            // What can be no name is told without looking.
            !name.is_some_and(|name| holds(&name.at)) && lexical(resource).is_ok()
        };
        let open = resources.iter().filter(is_open);
        let resources: Vec<String> = open.map(|resource| (*resource).to_owned()).collect();
        if resources.is_empty() && known.scope_at.as_ref().is_some_and(holds) {
            return None;
        }
        let first = known.running.first();
        let hangs = first.is_some_and(|(at, _)| *at + PATIENCE <= now);
        let last = known.running.last();
        let tried = last.is_some_and(|(at, _)| now < *at + TRY_AGAIN)
            || known.running.len() >= MOST_HANGING;
        (!hangs || !tried).then_some(Wanted {
            resources,
            generation,
        })
    }

    /// A look begins.
    pub(super) fn begin(&self) -> Started {
        let mut known = self.known();
        let started = (Instant::now(), known.next);
        known.next += 1;
        known.running.insert(started);
        started
    }

    /// A look has ended; without `found` it was broken off. Says whether it had news.
    pub(super) fn end(&self, started: Started, generation: u64, found: Option<Found>) -> bool {
        let mut known = self.known();
        // Those that began earlier and have not come back: the file system works without them.
        known.running.retain(|running| *running > started);
        let Some(found) = found else { return false };
        let at = Moment {
            at: started.0,
            generation,
        };
        // (A look that began later may have been faster.)
        let is_newer = |moment: &Moment| moment.at > at.at;
        if !known.scope_at.as_ref().is_some_and(is_newer) {
            known.scope_at = Some(at);
            known.is_there = found.directory.is_ok();
            if let Ok(directory) = &found.directory {
                known.scope = scope_of(directory);
            }
        }
        let scope = match &found.directory {
            Ok(directory) => scope_of(directory),
            Err(_) => known.scope.clone(),
        };
        let mut news = false;
        for (resource, name) in found.names {
            let before = known.names.remove(&resource);
            let name = match before {
                Some(before) if is_newer(&before.at) => before,
                // The read will say what is wrong.
                Some(before) if matches!(name, FoundName::Unclear) => Name { at, ..before },
                _ => {
                    news = true;
                    let object = name.object(&scope, &resource);
                    Name { object, at }
                }
            };
            known.names.insert(resource, name);
        }
        known.forget_oldest();
        news
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget_oldest(&mut self) {
        if self.names.len() <= MOST_NAMES {
            return;
        }
        let mut times: Vec<Instant> = self.names.values().map(|name| name.at.at).collect();
        times.sort_unstable();
        let oldest = times.get(times.len() - MOST_NAMES / 2).copied();
        self.names
            .retain(|_, name| oldest.is_none_or(|oldest| name.at.at >= oldest));
    }
}

impl Wanted {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

impl FoundName {
    fn object(self, scope: &str, resource: &str) -> Result<Object, ReadError> {
        let (path, alias) = match self {
            Self::Real { path, alias } => (path, alias),
            Self::Outside(error) => return Err(error),
            // It may come to be. Until then it is what it is called.
            Self::Absent | Self::Unclear => (plain(Path::new(resource)), None),
        };
        Ok(Object {
            scope: scope.to_owned(),
            path,
            alias,
            version: None,
        })
    }
}

/// Asks the file system. Waits for it, however long it takes.
pub(super) fn find(configured: &Path, resources: &[String]) -> Found {
    let directory = fs::canonicalize(configured);
    let names = resources.iter().map(|resource| {
        let name = match &directory {
            Ok(directory) => find_name(directory, resource),
            Err(_) => FoundName::Unclear,
        };
        (resource.clone(), name)
    });
    Found {
        names: names.collect(),
        directory,
    }
}

fn find_name(directory: &Path, resource: &str) -> FoundName {
    use io::ErrorKind as Kind;
    let real = match fs::canonicalize(directory.join(resource)) {
        Ok(real) => real,
        Err(error) => {
            return match error.kind() {
                Kind::InvalidFilename
                | Kind::NotADirectory
                | Kind::NotFound
                | Kind::PermissionDenied => FoundName::Absent,
                _ => FoundName::Unclear,
            };
        }
    };
    match beneath(directory, &real) {
        Ok(path) => {
            let written = plain(Path::new(resource));
            let alias = (written != path).then_some(written);
            FoundName::Real { path, alias }
        }
        Err(error) => FoundName::Outside(error),
    }
}

#[cfg(test)]
mod tests;
