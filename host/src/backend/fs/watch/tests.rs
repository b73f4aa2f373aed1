//! With a ttl of five minutes, what happens in a directory is seen when it happens.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::time::timeout;
use vaultref_contract::wire::{Outcome, ResolveRequest};

use super::super::{Directory, Find, lookup};
use crate::backend::Kind;
use crate::policy::Access;
use crate::resolver::Resolver;
use crate::vault::{Settings, Vault, Vaults};

/// How long an event may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

struct Bed {
    home: TempDir,
    changes: tokio::sync::watch::Receiver<u64>,
    resolver: Resolver,
}

impl Bed {
    /// `dir/sub/file` holds `one`; the vault's directory is what `arrange` makes of it.
    fn new(arrange: impl Fn(&Path) -> PathBuf) -> Self {
        Self::opening(arrange, super::open)
    }

    fn opening(arrange: impl Fn(&Path) -> PathBuf, open: super::Open) -> Self {
        let home = TempDir::new().expect("a directory");
        fs::create_dir_all(home.path().join("dir/sub")).expect("made");
        fs::write(home.path().join("dir/sub/file"), "one").expect("written");
        let configured = arrange(home.path());
        let real = fs::canonicalize(&configured).expect("a directory");
        let find = Find(Box::new(lookup::find));
        let directory = Directory::new(configured, &real, find, open);
        let changes = directory.0.watch.changes();
        let mut vaults = Vaults::default();
        let kind = Kind::find("fs").expect("fs");
        let settings = Settings {
            neg_ttl: Duration::from_secs(300),
            ..Settings::default()
        };
        assert!(vaults.add(Vault::new("v".into(), kind, Arc::new(directory), settings)));
        Self {
            home,
            changes,
            resolver: Resolver::new(vaults, 1, Handle::current()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    async fn get(&self, name: &str) -> String {
        let request = ResolveRequest {
            references: vec![format!("{{vault://v/{name}/}}")],
            known: Vec::new(),
            wait_ms: 20_000,
            ..ResolveRequest::default()
        };
        match self.resolver.resolve(&Access::All, &request).await.pop() {
            Some(Outcome::Secret(secret)) => {
                let value = secret.value.secret().expose_text().expect("text");
                let stale = if secret.lifetime.stale { " stale" } else { "" };
                format!("{value}{stale}")
            }
            Some(Outcome::Failure(failure)) => failure.kind.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// Asks again with each event, until it is so.
    async fn sees(&mut self, name: &str, expected: &str) {
        let mut last = String::new();
        let waiting = async {
            loop {
                self.changes.borrow_and_update();
                last = self.get(name).await;
                if last == expected {
                    return;
                }
                self.changes.changed().await.expect("it is watched");
            }
        };
        let seen = timeout(DEADLINE, waiting).await;
        assert!(seen.is_ok(), "{name} is {last:?} and not {expected:?}");
    }
}

fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).expect("written");
    fs::rename(&new, path).expect("moved");
}

fn relink(target: impl AsRef<Path>, path: &Path) {
    let new = path.with_extension("new");
    symlink(target, &new).expect("linked");
    fs::rename(&new, path).expect("moved");
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn files_that_are_changed_removed_and_made() {
    let mut bed = Bed::new(|home| home.join("dir"));
    let file = bed.path("dir/sub/file");
    bed.sees("sub/file", "one").await;
    replace(&file, "two");
    bed.sees("sub/file", "two").await;
    fs::write(&file, "three").expect("written");
    bed.sees("sub/file", "three").await;
    assert_eq!(bed.get("sub/made").await, "not-found");
    fs::write(bed.path("dir/sub/made"), "there").expect("written");
    bed.sees("sub/made", "there").await;
    // The value of a file that is gone has its grace.
    fs::remove_file(&file).expect("removed");
    bed.sees("sub/file", "three stale").await;
    pass(Duration::from_secs(5)).await;
    assert_eq!(bed.get("sub/file").await, "not-found");
}

#[tokio::test]
async fn directories_that_are_made_or_moved_here_with_what_is_in_them() {
    let mut bed = Bed::new(|home| home.join("dir"));
    for (name, moved) in [("made", false), ("moved", true)] {
        let reference = format!("{name}/a/b/file");
        assert_eq!(bed.get(&reference).await, "not-found");
        let top = if moved {
            bed.path("aside")
        } else {
            bed.path("dir").join(name)
        };
        fs::create_dir_all(top.join("a/b")).expect("made");
        if moved {
            fs::rename(&top, bed.path("dir").join(name)).expect("moved");
        }
        let file = bed.path("dir").join(&reference);
        fs::write(&file, "one").expect("written");
        bed.sees(&reference, "one").await;
        replace(&file, "two");
        bed.sees(&reference, "two").await;
    }
}

#[tokio::test]
async fn a_kubernetes_volume_that_is_swapped() {
    let mut bed = Bed::new(|home| home.join("dir"));
    let volume = bed.path("dir");
    let rotate = |time: &str, value: &str| {
        fs::create_dir(volume.join(time)).expect("made");
        fs::write(volume.join(time).join("token"), value).expect("written");
        symlink(time, volume.join("..data_tmp")).expect("linked");
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("moved");
    };
    rotate("..2026_01_01", "one");
    symlink("..data/token", volume.join("token")).expect("linked");
    bed.sees("token", "one").await;
    for (time, value, before) in [
        ("..2026_01_02", "two", "..2026_01_01"),
        ("..2026_01_03", "three", "..2026_01_02"),
    ] {
        rotate(time, value);
        fs::remove_dir_all(volume.join(before)).expect("removed");
        bed.sees("token", value).await;
    }
}

#[tokio::test]
async fn a_directory_that_is_replaced() {
    let mut bed = Bed::new(|home| home.join("dir"));
    bed.sees("sub/file", "one").await;
    for value in ["two", "three"] {
        fs::create_dir_all(bed.path("next/sub")).expect("made");
        fs::write(bed.path("next/sub/file"), value).expect("written");
        fs::rename(bed.path("dir"), bed.path(&format!("before-{value}"))).expect("moved");
        fs::rename(bed.path("next"), bed.path("dir")).expect("moved");
        bed.sees("sub/file", value).await;
    }
    // Away for a while, and made anew.
    fs::remove_dir_all(bed.path("dir")).expect("removed");
    bed.sees("sub/file", "three stale").await;
    fs::create_dir(bed.path("dir")).expect("made");
    fs::create_dir(bed.path("dir/sub")).expect("made");
    fs::write(bed.path("dir/sub/file"), "four").expect("written");
    bed.sees("sub/file", "four").await;
    replace(&bed.path("dir/sub/file"), "five");
    bed.sees("sub/file", "five").await;
}

#[tokio::test]
async fn links_on_the_way_that_lead_elsewhere() {
    let mut bed = Bed::new(|home| {
        fs::create_dir_all(home.join("other/sub")).expect("made");
        fs::write(home.join("other/sub/file"), "other").expect("written");
        fs::create_dir(home.join("links")).expect("made");
        symlink("../dir", home.join("links/inner")).expect("linked");
        symlink(home.join("links/inner"), home.join("outer")).expect("linked");
        home.join("outer")
    });
    bed.sees("sub/file", "one").await;
    relink("../other", &bed.path("links/inner"));
    bed.sees("sub/file", "other").await;
    replace(&bed.path("other/sub/file"), "changed");
    bed.sees("sub/file", "changed").await;
    relink("dir", &bed.path("outer"));
    bed.sees("sub/file", "one").await;
    replace(&bed.path("dir/sub/file"), "two");
    bed.sees("sub/file", "two").await;
}

#[tokio::test]
async fn our_own_reads_and_what_happens_beside_the_directory_are_no_change() {
    let mut bed = Bed::new(|home| home.join("dir"));
    bed.sees("sub/file", "one").await;
    let before = *bed.changes.borrow();
    let rounds = 40;
    for _ in 0..rounds {
        fs::write(bed.path("beside"), "not ours").expect("written");
        pass(Duration::from_secs(301)).await;
        assert_eq!(bed.get("sub/file").await, "one");
    }
    // What comes after is told after.
    replace(&bed.path("dir/sub/file"), "two");
    bed.sees("sub/file", "two").await;
    let told = *bed.changes.borrow() - before;
    assert!(told < rounds, "{told} changes");
}

#[tokio::test]
async fn where_nothing_can_be_watched_changes_are_seen_after_the_ttl() {
    fn refuse(
        _sender: std::sync::mpsc::Sender<super::Message>,
    ) -> notify::Result<notify::RecommendedWatcher> {
        let cause = std::io::Error::from_raw_os_error(nix::errno::Errno::EMFILE as i32);
        Err(notify::Error::io(cause))
    }
    let mut bed = Bed::opening(|home| home.join("dir"), refuse);
    assert_eq!(bed.get("sub/file").await, "one");
    let told = timeout(DEADLINE, bed.changes.changed()).await;
    told.expect("the first one").expect("it lives");
    assert_eq!(bed.get("sub/file").await, "one");
    replace(&bed.path("dir/sub/file"), "two");
    assert_eq!(bed.get("sub/file").await, "one");
    pass(Duration::from_secs(300)).await;
    assert_eq!(bed.get("sub/file").await, "two");
}
