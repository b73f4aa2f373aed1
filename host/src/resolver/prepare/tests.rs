//! Vaults whose fields are references, over real directories.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::time::advance;
use vaultref_contract::wire::{FailureKind, Outcome, ResolveRequest};

use crate::config::parse;
use crate::environment::Environment;
use crate::policy::Access;
use crate::resolver::Resolver;

/// The vault `inner` is the directory that the file `where` of the vault `outer` names.
struct Bed {
    home: TempDir,
    resolver: Resolver,
}

impl Bed {
    fn new() -> Self {
        let home = TempDir::new().expect("a directory");
        for (folder, content) in [("one", "first"), ("two", "second")] {
            fs::create_dir(home.path().join(folder)).expect("a folder");
            fs::write(home.path().join(folder).join("secret"), content).expect("a file");
        }
        let yaml = format!(
            "vaults: [{{name: fs, prefix: outer, config: {{prefix: {}, ttl: 10, neg_ttl: 1}}}}, \
             {{name: fs, prefix: inner, config: {{prefix: \"{{vault://outer/where}}\", neg_ttl: 1}}}}]",
            home.path().display()
        );
        let config = parse(&yaml, &Arc::new(Environment::default())).expect("a configuration");
        let resolver = Resolver::new(config.vaults, 1, Handle::current());
        Self { home, resolver }
    }

    fn point_to(&self, folder: &str) {
        let path = self.home.path().join(folder);
        put(&self.home.path().join("where"), &path.display().to_string());
    }

    async fn get(&self) -> Result<String, FailureKind> {
        let wait = Duration::from_secs(2);
        let reference = "{vault://inner/secret}";
        let value = self.resolver.value(&Access::All, reference, wait).await;
        value
            .map(|value| value.value.secret().expose_text().expect("text").to_owned())
            .map_err(|unresolved| unresolved.failure.kind)
    }
}

fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file");
    fs::rename(&new, path).expect("a file");
}

#[tokio::test(start_paused = true)]
async fn a_vault_is_made_of_what_its_fields_refer_to_and_made_anew_when_that_changes() {
    let bed = Bed::new();
    bed.point_to("one");
    assert_eq!(bed.get().await, Ok("first".to_owned()));
    bed.point_to("two");
    advance(Duration::from_secs(11)).await;
    // The read that finds the change is made now.
    assert_eq!(bed.get().await, Ok("second".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_a_field_needs_and_does_not_get_makes_the_vault_unavailable_until_it_does() {
    let bed = Bed::new();
    assert_eq!(bed.get().await, Err(FailureKind::Unavailable));
    bed.point_to("nowhere");
    advance(Duration::from_secs(2)).await;
    assert_eq!(bed.get().await, Err(FailureKind::Unavailable));
    bed.point_to("one");
    advance(Duration::from_secs(11)).await;
    assert_eq!(bed.get().await, Ok("first".to_owned()));
    // Gone for good: the vault is no longer what it was made of.
    fs::remove_file(bed.home.path().join("where")).expect("a file");
    for _ in 0..2 {
        advance(Duration::from_secs(11)).await;
        let _ = bed.get().await;
    }
    assert_eq!(bed.get().await, Err(FailureKind::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn one_who_does_not_wait_is_told_when_to_ask_again() {
    let bed = Bed::new();
    bed.point_to("one");
    let request = ResolveRequest {
        references: vec!["{vault://inner/secret}".to_owned()],
        known: Vec::new(),
        wait_ms: 0,
        ..ResolveRequest::default()
    };
    let mut finished = bed.resolver.finished_reads();
    loop {
        match bed.resolver.resolve_now(&Access::All, &request).pop() {
            Some(Outcome::Secret(value)) => {
                assert_eq!(value.value.secret().expose(), b"first");
                return;
            }
            Some(Outcome::Failure(failure)) => assert_eq!(failure.kind, FailureKind::Pending),
            other => panic!("{other:?}"),
        }
        finished.changed().await.expect("a resolver");
    }
}
