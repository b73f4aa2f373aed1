//! What is asked for again, and what goes together in one call.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::Instant;
use vaultref_contract::Secret;
use vaultref_contract::wire::{Outcome, ResolveRequest};

use crate::backend::kit::plain_object;
use crate::backend::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading};
use crate::policy::Access;
use crate::resolver::Resolver;
use crate::vault::{Settings, Vault, Vaults};

/// Counts its calls. An object fails as often as its name says, in the way that its name says.
struct Counting {
    batch: usize,
    calls: Mutex<Vec<Vec<String>>>,
    asked: Mutex<HashMap<String, u32>>,
}

impl Counting {
    fn answer(&self, object: &Object) -> Result<Reading, ReadError> {
        let mut asked = self.asked.lock().expect("whole");
        let count = asked.entry(object.path.clone()).or_default();
        *count += 1;
        let error = match object.path.as_str() {
            "busy-once" if *count == 1 => ReadError::transient("as told"),
            "busy" => ReadError::transient("as told"),
            "later" => ReadError {
                retry_after: Some(Duration::from_secs(60)),
                ..ReadError::transient("as told")
            },
            "soon" if *count == 1 => ReadError {
                retry_after: Some(Duration::from_secs(2)),
                ..ReadError::transient("as told")
            },
            "sealed" => ReadError::new(ReadErrorKind::Unavailable, "as told"),
            "denied" => ReadError::new(ReadErrorKind::Denied, "as told"),
            _ => return Ok(Reading::new(Secret::from("value".to_owned()))),
        };
        Err(error)
    }

    fn calls(&self) -> Vec<Vec<String>> {
        self.calls.lock().expect("whole").clone()
    }
}

struct Shared(Arc<Counting>);

impl Backend for Shared {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        Ok(plain_object(asked))
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let mut calls = self.0.calls.lock().expect("whole");
        calls.push(vec![object.path.clone()]);
        Box::pin(std::future::ready(self.0.answer(object)))
    }

    fn batch(&self) -> usize {
        self.0.batch
    }

    fn read_batch<'a>(
        &'a self,
        objects: &'a [Object],
    ) -> BoxFuture<'a, Vec<Result<Reading, ReadError>>> {
        let paths = objects.iter().map(|object| object.path.clone()).collect();
        self.0.calls.lock().expect("whole").push(paths);
        let answers = objects.iter().map(|object| self.0.answer(object)).collect();
        Box::pin(std::future::ready(answers))
    }
}

struct Bed {
    backend: Arc<Counting>,
    resolver: Resolver,
}

impl Bed {
    fn new(batch: usize) -> Self {
        let backend = Arc::new(Counting {
            batch,
            calls: Mutex::default(),
            asked: Mutex::default(),
        });
        let kind = Kind::find("env").expect("env");
        let shared = Arc::new(Shared(Arc::clone(&backend)));
        let vault = Vault::new("v".into(), kind, shared, Settings::default());
        let mut vaults = Vaults::default();
        assert!(vaults.add(vault));
        let resolver = Resolver::new(vaults, 1, Handle::current());
        Self { backend, resolver }
    }

    /// How many of these have a value.
    async fn ask(&self, names: &[String]) -> usize {
        let request = ResolveRequest {
            references: names
                .iter()
                .map(|name| format!("{{vault://v/{name}}}"))
                .collect(),
            known: Vec::new(),
            wait_ms: 30_000,
            ..ResolveRequest::default()
        };
        let outcomes = self.resolver.resolve(&Access::All, &request).await;
        let is_secret = |outcome: &&Outcome| matches!(outcome, Outcome::Secret(_));
        outcomes.iter().filter(is_secret).count()
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_over_at_once_is_asked_for_again() {
    for (name, expected, values) in [
        ("good", 1, 1),
        ("busy-once", 2, 1),
        ("soon", 2, 1),
        ("busy", 3, 0),
        // It asks to be left alone for longer than the read may take.
        ("later", 1, 0),
        ("sealed", 1, 0),
        ("denied", 1, 0),
    ] {
        let bed = Bed::new(1);
        let start = Instant::now();
        assert_eq!(bed.ask(&[name.to_owned()]).await, values, "{name}");
        assert_eq!(bed.backend.calls().len(), expected, "{name}");
        let least = if name == "soon" { 2000 } else { 0 };
        assert!(start.elapsed() >= Duration::from_millis(least), "{name}");
        assert!(start.elapsed() < Duration::from_secs(5), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_objects_go_together_as_far_as_the_backend_takes_them() {
    let names: Vec<String> = (0..100).map(|number| format!("n{number}")).collect();
    let bed = Bed::new(20);
    assert_eq!(bed.ask(&names).await, 100);
    let calls = bed.backend.calls();
    assert_eq!(calls.len(), 5);
    assert!(calls.iter().all(|call| call.len() == 20));
    assert_eq!(bed.ask(&names).await, 100);
    assert_eq!(bed.backend.calls().len(), 5, "all is in memory");
}

#[tokio::test(start_paused = true)]
async fn what_failed_in_a_batch_is_asked_for_again_without_the_rest() {
    let bed = Bed::new(20);
    let names = ["good", "busy-once", "denied"].map(str::to_owned);
    assert_eq!(bed.ask(&names).await, 2);
    assert_eq!(bed.backend.calls(), [&names[..], &names[1..2]]);
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_fails_again_and_again_is_left_alone_for_a_while() {
    let bed = Bed::new(1);
    for number in 0..20 {
        // Names of their own, so that no failure is remembered.
        assert_eq!(bed.ask(&[format!("busy?neg_ttl={number}")]).await, 0);
        assert_eq!(bed.ask(&[format!("busy#{number}")]).await, 0);
    }
    let calls = bed.backend.calls().len();
    assert!(calls <= 6 * 3, "{calls}");
    // A pause of five seconds at most; then one read tries, and all is as before.
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(bed.ask(&["good".to_owned()]).await, 1);
    assert_eq!(bed.ask(&["good-too".to_owned()]).await, 1);
}

#[tokio::test(start_paused = true)]
async fn objects_that_fail_for_reasons_of_their_own_do_not_keep_others_from_being_read() {
    let bed = Bed::new(1);
    for number in 0..20 {
        assert_eq!(bed.ask(&[format!("sealed#{number}")]).await, 0);
    }
    assert_eq!(bed.ask(&["good".to_owned()]).await, 1);
}
