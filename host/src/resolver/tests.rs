//! The life of a value, with a backend that does as it is told and a clock that stands still.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::{advance, sleep};
use vaultref_contract::Secret;
use vaultref_contract::wire::{FailureKind, Outcome, ResolveRequest, Revision};

use super::Resolver;
use crate::backend::kit::plain_object;
use crate::backend::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading};
use crate::policy::Access;
use crate::vault::{Settings, Vault, Vaults};

#[derive(Clone)]
enum Step {
    Text(&'static str),
    Fail(ReadErrorKind),
    RetryAfter(u64),
    TextFor(&'static str, u64),
    Slow(u64, &'static str),
    Panic,
}

/// Gives its steps one after the other; the last one for ever.
#[derive(Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    reads: Mutex<Vec<String>>,
}

impl Script {
    fn now(&self, steps: &[Step]) {
        *self.steps.lock().expect("whole") = steps.iter().cloned().collect();
    }

    fn reads(&self) -> usize {
        self.reads.lock().expect("whole").len()
    }
}

struct Scripted(Arc<Script>);

impl Backend for Scripted {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        Ok(plain_object(asked))
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        self.0
            .reads
            .lock()
            .expect("whole")
            .push(object.path.clone());
        let mut steps = self.0.steps.lock().expect("whole");
        let step = if steps.len() > 1 {
            steps.pop_front()
        } else {
            steps.front().cloned()
        };
        Box::pin(async move {
            let reading = |text: &str| Reading::new(Secret::from(text.to_owned()));
            match step.expect("a step") {
                Step::Text(text) => Ok(reading(text)),
                Step::TextFor(text, seconds) => Ok(Reading {
                    ttl: Some(Duration::from_secs(seconds)),
                    ..reading(text)
                }),
                Step::Fail(kind) => Err(ReadError::new(kind, "as told")),
                Step::RetryAfter(seconds) => Err(ReadError {
                    retry_after: Some(Duration::from_secs(seconds)),
                    ..ReadError::new(ReadErrorKind::Unavailable, "as told")
                }),
                Step::Slow(seconds, text) => {
                    sleep(Duration::from_secs(seconds)).await;
                    Ok(reading(text))
                }
                Step::Panic => panic!("as told"),
            }
        })
    }
}

struct Bed {
    script: Arc<Script>,
    other: Arc<Script>,
    resolver: Resolver,
}

impl Bed {
    fn new(settings: &Settings) -> Self {
        let (script, other) = (Arc::<Script>::default(), Arc::<Script>::default());
        let mut vaults = Vaults::default();
        for (name, script) in [("v", &script), ("other", &other)] {
            let kind = Kind::find("env").expect("env");
            let backend = Arc::new(Scripted(Arc::clone(script)));
            assert!(vaults.add(Vault::new(name.into(), kind, backend, settings.clone())));
        }
        Self {
            script,
            other,
            resolver: Resolver::new(vaults, 42, Handle::current()),
        }
    }

    async fn ask(&self, references: &[&str], wait_ms: u32) -> Vec<Outcome> {
        let request = request(references, wait_ms);
        self.resolver.resolve(&Access::All, &request).await
    }

    async fn one(&self, reference: &str) -> String {
        shown(&self.ask(&[reference], 100).await[0])
    }
}

fn request(references: &[&str], wait_ms: u32) -> ResolveRequest {
    ResolveRequest {
        references: references.iter().map(|text| (*text).to_owned()).collect(),
        known: Vec::new(),
        wait_ms,
    }
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failure(failure) => {
            let again = failure.retry_after.map(|again| format!(" {again}"));
            format!("{}{}", failure.kind, again.unwrap_or_default())
        }
        Outcome::Secret(secret) => format!(
            "{}{} {}/{}",
            secret.value.secret().expose_text().expect("text"),
            if secret.lifetime.stale { " stale" } else { "" },
            secret.lifetime.fresh_for,
            secret.lifetime.usable_for
        ),
        Outcome::Unchanged(lifetime) => format!("unchanged {}", lifetime.fresh_for),
    }
}

fn revision(outcome: &Outcome) -> Revision {
    let Outcome::Secret(secret) = outcome else {
        panic!("no secret: {outcome:?}")
    };
    secret.revision.clone()
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
}

const V: &str = "{vault://v/a}";

#[tokio::test(start_paused = true)]
async fn fresh_until_its_ttl_then_read_again() {
    let bed = Bed::new(&Settings::default());
    bed.script.now(&[Step::Text("one"), Step::Text("two")]);
    assert_eq!(bed.one(V).await, "one 300/86700");
    pass(299).await;
    assert_eq!(bed.one(V).await, "one 1/86401");
    assert_eq!(bed.script.reads(), 1);
    pass(1).await;
    assert_eq!(bed.one(V).await, "two 300/86700");
    assert_eq!(bed.script.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_ttl_it_is_never_read_again() {
    let bed = Bed::new(&Settings {
        ttl: None,
        ..Settings::default()
    });
    bed.script.now(&[Step::Text("one"), Step::Text("two")]);
    assert_eq!(bed.one(V).await, "one 4294967295/86400");
    pass(10 * 365 * 86_400).await;
    assert_eq!(bed.one(V).await, "one 4294967295/86400");
    assert_eq!(bed.one("{vault://v/a?ttl=60}").await, "two 60/86460");
}

#[tokio::test(start_paused = true)]
async fn one_read_at_a_time_for_one_object_and_all_its_keys() {
    let bed = Bed::new(&Settings::default());
    let object = r#"{"user":"ada","password":"p"}"#;
    bed.script.now(&[Step::Slow(1, object)]);
    let keys = [
        "{vault://v/a/user}",
        "{vault://v/a/password}",
        "{vault://v/a/none}",
        "{vault://v/a/}",
    ];
    let (first, second) = tokio::join!(bed.ask(&keys, 5000), bed.ask(&keys[..2], 5000));
    let all: Vec<_> = first.iter().chain(&second).map(shown).collect();
    assert_eq!(
        all,
        [
            "ada 300/86700",
            "p 300/86700",
            "key-not-found 5",
            &format!("{object} 300/86700"),
            "ada 300/86700",
            "p 300/86700"
        ]
    );
    assert_eq!(bed.script.reads(), 1);
    bed.ask(
        &["{vault://v/a#7}", "{vault://v/b}", "{vault://other/none}"],
        0,
    )
    .await;
    pass(2).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bed.script.reads(), 3, "a version is an object of its own");
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_hangs_fails_only_its_own_references_within_the_wait() {
    let bed = Bed::new(&Settings {
        timeout: Duration::from_secs(60),
        ..Settings::default()
    });
    bed.script.now(&[Step::Slow(20, "late")]);
    bed.other.now(&[Step::Text("quick")]);
    let before = tokio::time::Instant::now();
    let outcomes = bed.ask(&[V, "{vault://other/a}"], 800).await;
    assert_eq!(before.elapsed(), Duration::from_millis(800));
    let all: Vec<_> = outcomes.iter().map(shown).collect();
    // Old by the wait for the other.
    assert_eq!(all, ["unavailable", "quick 299/86699"]);
    // Its read goes on.
    pass(20).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bed.one(V).await.split(' ').next(), Some("late"));
    assert_eq!(bed.script.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_wait_and_the_read_have_bounds() {
    let bed = Bed::new(&Settings::default());
    bed.script.now(&[Step::Slow(100_000, "never")]);
    let before = tokio::time::Instant::now();
    let outcomes = bed.ask(&[V], u32::MAX).await;
    assert_eq!(shown(&outcomes[0]), "unavailable 5");
    assert_eq!(
        before.elapsed(),
        Duration::from_secs(5),
        "the vault's timeout"
    );
    let slow = Bed::new(&Settings {
        timeout: Duration::from_secs(3600),
        ..Settings::default()
    });
    slow.script.now(&[Step::Slow(100_000, "never")]);
    let before = tokio::time::Instant::now();
    assert_eq!(shown(&slow.ask(&[V], u32::MAX).await[0]), "unavailable");
    assert_eq!(before.elapsed(), super::MAX_WAIT);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_bridged_for_resurrect_ttl() {
    let bed = Bed::new(&Settings {
        resurrect_ttl: Duration::from_secs(100),
        ..Settings::default()
    });
    bed.script
        .now(&[Step::Text("one"), Step::Fail(ReadErrorKind::Unavailable)]);
    assert_eq!(bed.one(V).await, "one 300/400");
    pass(301).await;
    assert_eq!(bed.one(V).await, "one stale 0/99");
    pass(98).await;
    assert_eq!(bed.one(V).await, "one stale 0/1");
    assert_eq!(
        bed.one("{vault://v/a?resurrect_ttl=10}").await,
        "unavailable 5"
    );
    pass(1).await;
    assert_eq!(bed.one(V).await, "unavailable 4");
    bed.script.now(&[Step::Text("two")]);
    pass(5).await;
    assert_eq!(bed.one(V).await, "two 300/400");
}

#[tokio::test(start_paused = true)]
async fn a_slow_read_past_the_ttl_gives_the_old_value_after_the_wait() {
    let bed = Bed::new(&Settings::default());
    bed.script.now(&[Step::Text("one"), Step::Slow(2, "two")]);
    bed.one(V).await;
    pass(300).await;
    assert_eq!(bed.one(V).await, "one stale 0/86399");
    sleep(Duration::from_secs(3)).await;
    assert!(bed.one(V).await.starts_with("two 29"));
}

#[tokio::test(start_paused = true)]
async fn failures_are_remembered_for_neg_ttl() {
    let bed = Bed::new(&Settings::default());
    bed.script
        .now(&[Step::Fail(ReadErrorKind::NotFound), Step::Text("there")]);
    assert_eq!(bed.one(V).await, "not-found 5");
    pass(4).await;
    assert_eq!(bed.one(V).await, "not-found 1");
    assert_eq!(bed.script.reads(), 1);
    pass(1).await;
    assert_eq!(bed.one(V).await, "there 300/86700");
    // A key is missing: the same.
    bed.other
        .now(&[Step::Text("{}"), Step::Text(r#"{"k":"v"}"#)]);
    assert_eq!(bed.one("{vault://other/a/k}").await, "key-not-found 5");
    pass(4).await;
    assert_eq!(bed.one("{vault://other/a/k}").await, "key-not-found 1");
    pass(1).await;
    assert_eq!(bed.one("{vault://other/a/k}").await, "v 300/86700");
}

#[tokio::test(start_paused = true)]
async fn what_the_backend_asks_for_is_heeded() {
    let bed = Bed::new(&Settings::default());
    bed.script.now(&[Step::RetryAfter(60), Step::Text("there")]);
    assert_eq!(bed.one(V).await, "unavailable 60");
    pass(59).await;
    assert_eq!(bed.one(V).await, "unavailable 1");
    pass(1).await;
    assert_eq!(bed.one(V).await, "there 300/86700");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_dropped_after_a_short_grace() {
    let bed = Bed::new(&Settings::default());
    let gone = Step::Fail(ReadErrorKind::NotFound);
    bed.script.now(&[Step::Text("one"), gone.clone()]);
    bed.one(V).await;
    pass(300).await;
    assert_eq!(bed.one(V).await, "one stale 0/5");
    pass(4).await;
    assert_eq!(bed.one(V).await, "one stale 0/1");
    pass(1).await;
    assert_eq!(bed.one(V).await, "not-found 5");
    assert_eq!(bed.script.reads(), 3);
    // Written anew within the grace: nobody notices.
    let again = Bed::new(&Settings {
        neg_ttl: Duration::from_secs(1),
        ..Settings::default()
    });
    again
        .script
        .now(&[Step::Text("one"), gone.clone(), Step::Text("two")]);
    again.one(V).await;
    pass(300).await;
    assert_eq!(again.one(V).await, "one stale 0/5");
    pass(1).await;
    assert_eq!(again.one(V).await, "two 300/86700");
    // The grace is for what is in use: a value that an outage has made too old does not come back
    // because the vault now says that it is gone.
    let old = Bed::new(&Settings {
        resurrect_ttl: Duration::from_secs(60),
        ..Settings::default()
    });
    let outage = Step::Fail(ReadErrorKind::Unavailable);
    old.script
        .now(&[Step::Text("one"), outage.clone(), outage, gone.clone()]);
    old.one(V).await;
    pass(301).await;
    assert!(old.one(V).await.starts_with("one stale"));
    pass(60).await;
    assert!(old.one(V).await.starts_with("unavailable"));
    pass(10).await;
    assert!(old.one(V).await.starts_with("not-found"));
    // An outage in the grace does not lengthen it.
    let outage = Step::Fail(ReadErrorKind::Unavailable);
    again.script.now(&[gone, outage]);
    pass(300).await;
    assert_eq!(again.one(V).await, "two stale 0/5");
    pass(3).await;
    assert_eq!(again.one(V).await, "two stale 0/2");
    pass(2).await;
    assert!(again.one(V).await.starts_with("not-found"));
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_is_dropped_at_once() {
    for kind in [ReadErrorKind::Denied, ReadErrorKind::WrongType] {
        let bed = Bed::new(&Settings::default());
        bed.script.now(&[
            Step::Text("one"),
            Step::Fail(kind),
            Step::Fail(ReadErrorKind::Unavailable),
        ]);
        bed.one(V).await;
        pass(300).await;
        assert_eq!(bed.one(V).await, format!("{} 5", kind.failure_kind()));
        pass(5).await;
        assert_eq!(
            bed.one(V).await,
            "unavailable 5",
            "the old value does not come back"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_has_not_changed_keeps_its_revision() {
    let bed = Bed::new(&Settings::default());
    let (first, second) = (r#"{"a":"1","b":"1"}"#, r#"{"a":"1","b":"2"}"#);
    bed.script.now(&[Step::Text(first), Step::Text(second)]);
    let references = ["{vault://v/o/a}", "{vault://v/o/b}"];
    let before: Vec<_> = bed
        .ask(&references, 100)
        .await
        .iter()
        .map(revision)
        .collect();
    assert_ne!(before[0], before[1], "equal values have different names");
    pass(300).await;
    let mut request = request(&references, 100);
    request.known = before.iter().cloned().map(Some).collect();
    let after = bed.resolver.resolve(&Access::All, &request).await;
    assert_eq!(shown(&after[0]), "unchanged 300");
    assert_eq!(shown(&after[1]), "2 300/86700");
    assert_ne!(revision(&after[1]), before[1]);
    // Another start has other names.
    let other = Resolver::new((*bed.resolver.vaults()).clone(), 43, Handle::current());
    let again = other.resolve(&Access::All, &request).await;
    assert_eq!(shown(&again[0]), "1 300/86700");
}

#[tokio::test(start_paused = true)]
async fn options_only_shorten() {
    let bed = Bed::new(&Settings {
        min_ttl: Duration::from_secs(10),
        ..Settings::default()
    });
    bed.script.now(&[Step::Text("one")]);
    for (options, expected) in [
        ("ttl=60", "one 60/86460"),
        ("ttl=1", "one 10/86410"),
        ("ttl=0", "one 300/86700"),
        ("ttl=301", "one 300/86700"),
        ("resurrect_ttl=5", "one 300/305"),
        ("resurrect_ttl=0", "one 300/300"),
        ("resurrect_ttl=99999", "one 300/86700"),
        ("neg_ttl=0", "one 300/86700"),
        ("ttl", "invalid-reference"),
        ("ttl=", "invalid-reference"),
        ("ttl=-1", "invalid-reference"),
        ("ttl=%2B1", "invalid-reference"),
        ("ttl=1.5", "invalid-reference"),
        ("ttl=60&ttl=70", "invalid-reference"),
        ("ttl=99999999999999", "invalid-reference"),
        ("base64_decode=yes", "invalid-reference"),
        ("prefix=x", "invalid-reference"),
        ("host=evil", "invalid-reference"),
    ] {
        let reference = format!("{{vault://v/a?{options}}}");
        assert_eq!(bed.one(&reference).await, expected, "{options}");
    }
    bed.other.now(&[Step::Fail(ReadErrorKind::NotFound)]);
    assert_eq!(bed.one("{vault://other/a?neg_ttl=0}").await, "not-found 5");
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_the_backend_is_held_between_the_bounds() {
    let bed = Bed::new(&Settings {
        min_ttl: Duration::from_secs(10),
        max_ttl: Some(Duration::from_secs(1000)),
        ..Settings::default()
    });
    for (given, expected) in [(1, "x 10/"), (500, "x 500/"), (5000, "x 1000/")] {
        bed.script.now(&[Step::TextFor("x", given)]);
        let outcome = bed.one(&format!("{{vault://v/a{given}}}")).await;
        assert!(outcome.starts_with(expected), "{outcome}");
    }
    let plain = Bed::new(&Settings::default());
    plain.script.now(&[Step::TextFor("x", 5000)]);
    assert!(
        plain.one(V).await.starts_with("x 300/"),
        "the vault's own ttl is the most"
    );
}

#[tokio::test(start_paused = true)]
async fn now_means_without_waiting() {
    let bed = Bed::new(&Settings::default());
    bed.script
        .now(&[Step::Slow(1, "one"), Step::Slow(1, "two")]);
    let mut reads = bed.resolver.finished_reads();
    let now = || shown(&bed.resolver.resolve_now(&Access::All, &request(&[V], 5000))[0]);
    assert_eq!(now(), "pending");
    assert_eq!(now(), "pending");
    reads.changed().await.expect("the resolver lives");
    assert_eq!(now(), "one 300/86700");
    pass(301).await;
    assert_eq!(now(), "one stale 0/86399");
    reads.changed().await.expect("the resolver lives");
    assert_eq!(now(), "two 300/86700");
    assert_eq!(bed.script.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_is_unavailable_and_asked_again() {
    let bed = Bed::new(&Settings::default());
    bed.script.now(&[Step::Panic, Step::Text("one")]);
    assert_eq!(bed.one(V).await, "unavailable 5");
    pass(5).await;
    assert_eq!(bed.one(V).await, "one 300/86700");
}

#[tokio::test]
async fn what_is_no_reference_is_an_outcome() {
    let bed = Bed::new(&Settings::default());
    let long = format!("{{vault://v/{}}}", "x".repeat(3000));
    let outcomes = bed.ask(&["", "x", &long, "{vault://nope/a}"], 0).await;
    let all: Vec<_> = outcomes.iter().map(shown).collect();
    assert_eq!(
        all,
        [
            "invalid-reference",
            "invalid-reference",
            "invalid-reference",
            "unknown-vault"
        ]
    );
    let retryable = outcomes.iter().any(|outcome| match outcome {
        Outcome::Failure(failure) => failure.retryable || failure.kind == FailureKind::Pending,
        _ => true,
    });
    assert!(!retryable);
}
