//! Changes in a directory are seen when they happen, where the kernel tells of them (inotify).
//!
//! All that comes of it is a number that changes: whoever has read something under another one reads
//! it anew. So it does no harm to tell of too much, and a thread of its own may take its time. Watched
//! are the real directory with all that is in it, and each link and the directory itself in the
//! directories that they stand in, so that another one in their place is seen (`current -> v2`, a
//! volume that is mounted anew). Network file systems tell only of what this machine does.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;

use nix::errno::Errno;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

/// The most links that one path may lead through.
const MOST_LINKS: usize = 40;

/// Tells of changes in one directory from when it is started until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    open: Open,
    generation: Arc<watch::Sender<u64>>,
    keeper: OnceLock<Option<Sender<Message>>>,
}

/// Opens what watches, and has it tell its events to the sender: [`open`], which a test can have fail.
pub(super) type Open = fn(Sender<Message>) -> notify::Result<RecommendedWatcher>;

/// What the thread that keeps the watches is told.
pub(super) enum Message {
    Event(notify::Result<Event>),
    Stop,
}

impl Watch {
    pub(super) fn new(open: Open) -> Self {
        Self {
            open,
            generation: Arc::new(watch::Sender::new(0)),
            keeper: OnceLock::new(),
        }
    }

    /// Begins to watch, if that was not done yet. It takes effect with the first change of the number.
    pub(super) fn start(&self, configured: &Path) {
        self.keeper.get_or_init(|| {
            let (sender, messages) = mpsc::channel();
            let keeper = Keeper {
                configured: configured.to_owned(),
                open: self.open,
                generation: Arc::clone(&self.generation),
                sender: sender.clone(),
                messages,
                told: false,
            };
            let thread = thread::Builder::new().name("vaultref-watch".to_owned());
            match thread.spawn(move || keeper.run()) {
                Ok(_) => Some(sender),
                Err(error) => {
                    tell(configured, &error.kind().to_string());
                    None
                }
            }
        });
    }

    /// A number that changes when something in the directory may have.
    pub(super) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    #[cfg(test)]
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(Some(sender)) = self.keeper.get() {
            // An error means that it has stopped already.
            let _ = sender.send(Message::Stop);
        }
    }
}

/// The thread that keeps the watches where they belong.
struct Keeper {
    configured: PathBuf,
    open: Open,
    generation: Arc<watch::Sender<u64>>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    /// It was said that not all changes are seen.
    told: bool,
}

/// What an event means; what weighs more comes later.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Meaning {
    Nothing,
    Changed,
    /// There is something else to be watched now.
    Rearranged,
}

impl Keeper {
    fn run(mut self) {
        // From one arrangement of watches to the next.
        loop {
            let trail = Trail::of(&self.configured);
            let watcher = self.watch(&trail);
            // What has happened until now was not told.
            self.changed();
            if Trail::of(&self.configured) == trail && !self.heed(&trail) {
                return;
            }
            // The events of the watches that go now say nothing that the new ones do not.
            drop(watcher);
            while let Ok(message) = self.messages.try_recv() {
                if matches!(message, Message::Stop) {
                    return;
                }
            }
        }
    }

    /// Sees to events until the watches have to be arranged anew; false: until it is stopped.
    fn heed(&mut self, trail: &Trail) -> bool {
        loop {
            let event = match self.messages.recv() {
                Ok(Message::Event(event)) => event,
                Ok(Message::Stop) | Err(_) => return false,
            };
            let meaning = match event {
                Ok(event) => trail.meaning(&event),
                Err(error) => {
                    self.tell_once(&cause(&error));
                    Meaning::Changed
                }
            };
            match meaning {
                Meaning::Changed => self.changed(),
                Meaning::Nothing => {}
                Meaning::Rearranged => {
                    self.changed();
                    return true;
                }
            }
        }
    }

    fn watch(&mut self, trail: &Trail) -> Option<RecommendedWatcher> {
        let mut watcher = match (self.open)(self.sender.clone()) {
            Ok(watcher) => watcher,
            Err(error) => {
                self.tell_once(&cause(&error));
                return None;
            }
        };
        let places = trail.places().into_iter();
        let places = places.map(|place| (place, RecursiveMode::NonRecursive));
        let directory = trail.directory.iter();
        let directory = directory.map(|directory| (&**directory, RecursiveMode::Recursive));
        for (path, mode) in places.chain(directory) {
            match watcher.watch(path, mode) {
                // It has gone just now, which what is watched around it tells.
                Err(error) if is_gone(&error) => {}
                Err(error) => self.tell_once(&cause(&error)),
                Ok(()) => {}
            }
        }
        Some(watcher)
    }

    fn changed(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    fn tell_once(&mut self, cause: &str) {
        if !self.told {
            self.told = true;
            tell(&self.configured, cause);
        }
    }
}

/// The kernel's own.
pub(super) fn open(sender: Sender<Message>) -> notify::Result<RecommendedWatcher> {
    let handler = move |event| {
        // An error means that the keeper has gone.
        let _ = sender.send(Message::Event(event));
    };
    let config = Config::default().with_follow_symlinks(false);
    RecommendedWatcher::new(handler, config)
}

fn tell(directory: &Path, cause: &str) {
    tracing::warn!(
        directory = %directory.display(),
        cause,
        "cannot watch all of the directory; changes are seen when the ttl is over"
    );
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        notify::ErrorKind::PathNotFound => true,
        _ => false,
    }
}

fn cause(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::Io(error) if error.raw_os_error() == Some(Errno::EMFILE as i32) => {
            "too many files are open, or fs.inotify.max_user_instances is reached".to_owned()
        }
        notify::ErrorKind::Io(error) => error.kind().to_string(),
        notify::ErrorKind::MaxFilesWatch => "fs.inotify.max_user_watches is reached".to_owned(),
        _ => "inotify cannot be used".to_owned(),
    }
}

/// How a path leads to its directory.
#[derive(Debug, Eq, PartialEq)]
struct Trail {
    /// The links on the way, and the directory itself or the first thing that is missing; each in the
    /// real directory that it stands in.
    steps: BTreeSet<PathBuf>,
    /// The real directory, if it is there.
    directory: Option<PathBuf>,
}

impl Trail {
    fn of(configured: &Path) -> Self {
        let mut steps = BTreeSet::new();
        let mut links = 0;
        let mut current = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = names(configured).collect();
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                current.pop();
                continue;
            }
            let next = current.join(&name);
            match fs::read_link(&next) {
                Ok(target) if links < MOST_LINKS => {
                    links += 1;
                    steps.insert(next);
                    if target.is_absolute() {
                        current = PathBuf::from("/");
                    }
                    for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                        ahead.push_front(name);
                    }
                }
                _ if next.is_dir() => current = next,
                _ => {
                    steps.insert(next);
                    return Self {
                        steps,
                        directory: None,
                    };
                }
            }
        }
        steps.insert(current.clone());
        Self {
            steps,
            // All of the machine is no place to watch.
            directory: current.parent().is_some().then_some(current),
        }
    }

    /// The directories that the steps stand in, unless they are watched with the real directory.
    fn places(&self) -> BTreeSet<&Path> {
        let is_inside = |place: &&Path| {
            let directory = self.directory.as_ref();
            directory.is_some_and(|directory| place.starts_with(directory))
        };
        let places = self.steps.iter().filter_map(|step| step.parent());
        places.filter(|place| !is_inside(place)).collect()
    }

    fn meaning(&self, event: &Event) -> Meaning {
        if event.need_rescan() {
            return Meaning::Rearranged;
        }
        // Our own looks and reads.
        if let EventKind::Access(kind) = event.kind
            && kind != AccessKind::Close(AccessMode::Write)
        {
            return Meaning::Nothing;
        }
        let meanings = event
            .paths
            .iter()
            .map(|path| self.path_meaning(path, event.kind));
        meanings.max().unwrap_or(Meaning::Changed)
    }

    fn path_meaning(&self, path: &Path, kind: EventKind) -> Meaning {
        if self.steps.contains(path) {
            return Meaning::Rearranged;
        }
        let directory = self.directory.as_ref();
        if !directory.is_some_and(|directory| path.starts_with(directory)) {
            // A neighbour of a step.
            return Meaning::Nothing;
        }
        // What is put into a new directory before it is watched is not told of.
        let is_new_directory = match kind {
            EventKind::Create(kind) => kind == CreateKind::Folder,
            EventKind::Modify(ModifyKind::Name(_)) => {
                fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
            }
            _ => false,
        };
        if is_new_directory {
            return Meaning::Rearranged;
        }
        Meaning::Changed
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::Prefix(_) | Component::RootDir => None,
    });
    names.collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests;
