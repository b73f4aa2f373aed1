//! A file system that hangs: who waits for it, and for how long.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::time::timeout;
use vaultref_contract::wire::{Outcome, ResolveRequest};

use super::super::{Directory, Find, watch};
use super::*;
use crate::backend::{Asked, Backend, Kind};
use crate::environment::Environment;
use crate::policy::Access;
use crate::resolver::Resolver;
use crate::vault::{Settings, Vault, Vaults};

/// What every look goes through.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
    arrived: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let closed = self.closed.lock().expect("whole");
        drop(self.changed.wait_while(closed, |closed| *closed));
    }

    fn set(&self, closed: bool) {
        *self.closed.lock().expect("whole") = closed;
        self.changed.notify_all();
    }
}

struct Opens(Arc<Gate>);

impl Drop for Opens {
    /// Also when a test fails: the runtime waits for its threads.
    fn drop(&mut self) {
        self.0.set(false);
    }
}

fn refuse(
    _sender: std::sync::mpsc::Sender<watch::Message>,
) -> notify::Result<notify::RecommendedWatcher> {
    Err(notify::Error::generic("not here"))
}

/// The vaults `well`, `hung` (whose looks pass a gate) and `env`.
struct Bed {
    _home: TempDir,
    resolver: Resolver,
    gate: Opens,
}

impl Bed {
    fn new() -> Self {
        let home = TempDir::new().expect("a directory");
        let gate = Arc::<Gate>::default();
        let mut vaults = Vaults::default();
        for name in ["well", "hung"] {
            let path = home.path().join(name);
            fs::create_dir(&path).expect("made");
            for file in ["a", "b", "c"] {
                fs::write(path.join(file), format!("{name} {file}")).expect("written");
            }
            let behind = (name == "hung").then(|| Arc::clone(&gate));
            let directory = directory(path, behind);
            let kind = Kind::find("fs").expect("fs");
            let settings = Settings::default();
            assert!(vaults.add(Vault::new(name.into(), kind, Arc::new(directory), settings)));
        }
        let environment = Arc::new(Environment::from([("X", "env x")]));
        let config = crate::config::parse("{}", &environment).expect("a configuration");
        let env = config.vaults.find("env").expect("always there");
        let (kind, backend) = (env.kind(), env.backend().expect("made"));
        let env = Vault::new("env".into(), kind, backend, env.settings().clone());
        assert!(vaults.add(env));
        Self {
            _home: home,
            resolver: Resolver::new(vaults, 1, Handle::current()),
            gate: Opens(gate),
        }
    }

    async fn get(&self, names: &[&str], wait_ms: u32) -> Vec<String> {
        let request = request(names, wait_ms);
        let outcomes = self.resolver.resolve(&Access::All, &request).await;
        outcomes.iter().map(shown).collect()
    }
}

fn directory(path: PathBuf, behind: Option<Arc<Gate>>) -> Directory {
    let real = fs::canonicalize(&path).expect("there");
    let find = move |configured: &Path, resources: &[String]| {
        if let Some(gate) = &behind {
            gate.pass();
        }
        find(configured, resources)
    };
    Directory::new(path, &real, Find(Box::new(find)), refuse)
}

fn request(names: &[&str], wait_ms: u32) -> ResolveRequest {
    ResolveRequest {
        references: names
            .iter()
            .map(|name| format!("{{vault://{name}}}"))
            .collect(),
        known: Vec::new(),
        wait_ms,
        ..ResolveRequest::default()
    }
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Secret(secret) => {
            let value = secret.value.secret().expose_text();
            value.expect("text").to_owned()
        }
        Outcome::Failure(failure) => failure.kind.to_string(),
        Outcome::Unchanged(_) => "unchanged".to_owned(),
    }
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

const ALL: [&str; 4] = ["hung/a", "env/x", "well/a", "hung/b"];

/// (On one thread: whatever held it up would hold up all.)
#[tokio::test]
async fn only_what_is_not_known_yet_waits_for_a_file_system_that_hangs() {
    let bed = Bed::new();
    assert_eq!(bed.get(&ALL[..1], 20_000).await, ["hung a"]);
    bed.gate.0.set(true);
    pass(HOLDS_FOR).await;
    // The others have been read meanwhile; what is in memory needs no file system.
    let expected = ["hung a", "env x", "well a", "unavailable"];
    assert_eq!(bed.get(&ALL, 300).await, expected);
    // From now on nobody waits at all.
    pass(PATIENCE).await;
    for name in ["well/b", "well/c"] {
        let mut names = ALL.to_vec();
        names.push(name);
        let all = timeout(Duration::from_secs(15), bed.get(&names, 30_000)).await;
        let all = all.expect("at once");
        assert_eq!(all[..4], expected);
        assert_eq!(all[4], name.replace('/', " "));
    }
    bed.gate.0.set(false);
    // Its own next try finds it working; so does the look that was under way.
    pass(TRY_AGAIN).await;
    let expected = ["hung a", "env x", "well a", "hung b"];
    assert_eq!(bed.get(&ALL, 20_000).await, expected);
}

#[tokio::test]
async fn a_file_system_that_hangs_for_ever_takes_a_bounded_number_of_threads() {
    let bed = Bed::new();
    bed.gate.0.set(true);
    let arrived = || bed.gate.0.arrived.load(Ordering::SeqCst);
    for tries in 1..=20 {
        assert_eq!(bed.get(&["hung/a"], 0).await, ["unavailable"]);
        while arrived() < tries.min(MOST_HANGING) {
            tokio::task::yield_now().await;
        }
        pass(TRY_AGAIN).await;
    }
    assert_eq!(arrived(), MOST_HANGING);
    bed.gate.0.set(false);
    let back = async {
        while bed.get(&["hung/a"], 20_000).await != ["hung a"] {
            tokio::task::yield_now().await;
        }
    };
    let back = timeout(Duration::from_secs(20), back).await;
    back.expect("those that come back have found it");
}

#[tokio::test]
async fn one_who_does_not_wait_is_told_when_it_is_known() {
    let bed = Bed::new();
    bed.gate.0.set(true);
    let request = request(&["hung/a"], 0);
    let mut finished = bed.resolver.finished_reads();
    let now = || shown(&bed.resolver.resolve_now(&Access::All, &request)[0]);
    assert_eq!(now(), "pending");
    bed.gate.0.set(false);
    let value = async {
        loop {
            finished.changed().await.expect("it lives");
            let shown = now();
            if shown != "pending" {
                return shown;
            }
        }
    };
    let value = timeout(Duration::from_secs(20), value).await;
    assert_eq!(value.expect("in time"), "hung a");
}

#[test]
fn names_are_bounded_in_number_and_the_newest_stay() {
    let lookups = Lookups::new(Path::new("/dir"));
    let learn = |names: Vec<String>| {
        let started = lookups.begin();
        let absent = names.into_iter().map(|name| (name, FoundName::Absent));
        let found = Found {
            directory: Ok("/dir".into()),
            names: absent.collect(),
        };
        lookups.end(started, 0, Some(found));
    };
    for round in 0..20 {
        learn((0..1000).map(|n| format!("{round}-{n}")).collect());
        assert!(lookups.known().names.len() <= MOST_NAMES);
        assert!(lookups.object(&format!("{round}-0")).is_ok());
    }
    assert!(lookups.object("0-0").is_err());
}

#[test]
fn a_name_stays_what_it_was_while_the_file_system_does_not_say() {
    let lookups = Lookups::new(Path::new("/dir"));
    let learn = |directory: io::Result<PathBuf>, name: FoundName| {
        let started = lookups.begin();
        let names = vec![("link".to_owned(), name)];
        lookups.end(started, 0, Some(Found { directory, names }));
        lookups.object("link").expect("known").path
    };
    let real = || FoundName::Real {
        path: "real".to_owned(),
        alias: Some("link".to_owned()),
    };
    assert_eq!(learn(Ok("/dir".into()), FoundName::Unclear), "link");
    assert_eq!(learn(Ok("/dir".into()), real()), "real");
    assert_eq!(learn(Ok("/dir".into()), FoundName::Unclear), "real");
    assert_eq!(lookups.scope_if_there().as_deref(), Some("/dir/"));
    let gone = || Err(io::ErrorKind::NotFound.into());
    assert_eq!(learn(gone(), FoundName::Unclear), "real");
    assert_eq!(lookups.scope_if_there(), None);
    assert_eq!(lookups.scope(), "/dir/");
    assert_eq!(learn(Ok("/other".into()), FoundName::Absent), "link");
    assert_eq!(lookups.scope(), "/other/");
}

/// `deny: second/key`, where `second` is a link to a directory that `first` reaches too.
fn denying(home: &Path) -> (Resolver, Access) {
    fs::create_dir_all(home.join("one/in")).expect("made");
    fs::create_dir_all(home.join("one/other")).expect("made");
    for path in ["one/in/key", "one/in/free", "one/other/key"] {
        fs::write(home.join(path), path).expect("written");
    }
    symlink("one/in", home.join("link")).expect("linked");
    let yaml = format!(
        "vaults: [{{name: fs, prefix: first, config: {{prefix: {:?}}}}}, \
         {{name: fs, prefix: second, config: {{prefix: {:?}}}}}]\n\
         clients: [{{name: c, tokens: [t], allow: [\"first/*\"], deny: [second/key]}}]",
        home.join("one"),
        home.join("link"),
    );
    let environment = Arc::new(Environment::default());
    let config = crate::config::parse(&yaml, &environment).expect("a configuration");
    let client = config.clients.iter().next().expect("one");
    let access = Access::Client(Arc::clone(client));
    (Resolver::new(config.vaults, 1, Handle::current()), access)
}

#[tokio::test]
async fn a_deny_follows_its_directory_and_covers_all_while_that_cannot_be_found() {
    let home = TempDir::new().expect("a directory");
    let (resolver, access) = denying(home.path());
    let names = ["first/in/key/", "first/in/free/", "first/other/key/"];
    let get = async || {
        // As long as nothing has told of a change.
        pass(HOLDS_FOR).await;
        let outcomes = resolver.resolve(&access, &request(&names, 20_000)).await;
        outcomes.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(get().await, ["denied", "one/in/free", "one/other/key"]);
    fs::remove_file(home.path().join("link")).expect("removed");
    assert_eq!(get().await, ["denied", "one/in/free", "denied"]);
    symlink("one/other", home.path().join("link")).expect("linked");
    assert_eq!(get().await, ["one/in/key", "one/in/free", "denied"]);
}

#[test]
fn what_can_be_no_name_is_told_without_a_look() {
    let home = TempDir::new().expect("a directory");
    let directory = directory(home.path().to_owned(), None);
    let odd = directory.object(&Asked::current("../x"));
    assert!(!odd.expect_err("no name").transient);
    let unknown = directory.object(&Asked::current("x"));
    assert!(unknown.expect_err("not looked up").transient);
}
