//! The life of a value, with a backend that does as it is told and a clock that stands still.

mod bounds;
mod failures;
mod fresh;
mod polls;
mod waiting;

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
        ..ResolveRequest::default()
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
