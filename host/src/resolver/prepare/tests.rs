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
use crate::resolver::turns::MOST;

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

/// What one who does not wait is told of a reference.
fn now(resolver: &Resolver, reference: &str) -> Result<String, FailureKind> {
    let request = ResolveRequest {
        references: vec![reference.to_owned()],
        known: Vec::new(),
        wait_ms: 0,
        ..ResolveRequest::default()
    };
    match resolver.resolve_now(&Access::All, &request).pop() {
        Some(Outcome::Secret(value)) => {
            Ok(value.value.secret().expose_text().expect("text").to_owned())
        }
        Some(Outcome::Failure(failure)) => Err(failure.kind),
        other => panic!("{other:?}"),
    }
}

/// The same once it is no longer pending, asked again whenever there are news.
async fn told(resolver: &Resolver, reference: &str) -> Result<String, FailureKind> {
    let mut finished = resolver.finished_reads();
    loop {
        match now(resolver, reference) {
            Err(FailureKind::Pending) => finished.changed().await.expect("a resolver"),
            told => return told,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_does_not_wait_is_told_when_to_ask_again() {
    let bed = Bed::new();
    bed.point_to("one");
    let told = told(&bed.resolver, "{vault://inner/secret}").await;
    assert_eq!(told, Ok("first".to_owned()));
}

/// Nothing gets on meanwhile, as with a vault that hangs.
#[tokio::test(start_paused = true)]
async fn who_asks_again_and_again_without_waiting_leaves_a_bounded_number_of_tasks() {
    let bed = Bed::new();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    bed.point_to("one");
    for is_made in [false, true] {
        let before = tasks();
        for n in 0..1000 {
            let _ = now(&bed.resolver, "{vault://inner/secret}");
            let _ = now(&bed.resolver, &format!("{{vault://inner/other-{}}}", n % 5));
        }
        let left = tasks() - before;
        assert!(left <= 10, "made: {is_made}: {left} tasks");
        let told = told(&bed.resolver, "{vault://inner/secret}").await;
        assert_eq!(told, Ok("first".to_owned()));
    }
    let before = tasks();
    let names: Vec<_> = (0..1000)
        .map(|n| format!("{{vault://outer/{n}}}"))
        .collect();
    for name in &names {
        assert_eq!(now(&bed.resolver, name), Err(FailureKind::Pending));
    }
    let left = tasks() - before;
    assert!(left <= MOST + 10, "{left} tasks");
    // Who was turned away gets its turn.
    for name in &names {
        assert_eq!(told(&bed.resolver, name).await, Err(FailureKind::NotFound));
    }
}
