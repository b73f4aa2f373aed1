//! What the resolver counts and measures, in the text form that Prometheus reads.
//!
//! Names follow its conventions: `vaultref_`, the unit, `_total` for counters. Labels hold names of
//! vaults and objects and kinds of failures, never a value.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the buckets of read times, in seconds.
const SECONDS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// The metrics of one resolver.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    reads: Family<Outcome, Counter>,
    read_time: Family<Outcome, Histogram>,
    answers: Family<Outcome, Counter>,
    hits: Family<OfVault, Counter>,
    misses: Family<OfVault, Counter>,
    doubts: Family<OfVault, Counter>,
    objects: Gauge,
    failures: Gauge,
    bytes: Gauge,
    circuit: Family<OfVault, Gauge>,
    age: Family<OfObject, Gauge>,
    stale: Family<OfObject, Gauge>,
    next_read: Family<OfObject, Gauge>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    vault: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfVault {
    vault: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfObject {
    vault: String,
    object: String,
    version: String,
}

/// The state of the cache at one moment.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) objects: Vec<ObjectState>,
    pub(crate) entries: usize,
    pub(crate) failures: usize,
    pub(crate) bytes: usize,
    /// Each vault's name, and whether it is left alone for now.
    pub(crate) vaults: Vec<(String, bool)>,
}

/// The state of one object that has a value.
#[derive(Debug)]
pub(crate) struct ObjectState {
    pub(crate) vault: String,
    pub(crate) object: String,
    pub(crate) version: Option<u64>,
    /// Since it was read.
    pub(crate) age: Duration,
    /// Since its ttl was over; zero while it is fresh.
    pub(crate) stale: Duration,
    /// Until it is read ahead of its expiry; none if that is not planned.
    pub(crate) next_read: Option<Duration>,
}

/// What a request was answered, counted by vault and outcome.
#[derive(Debug, Default)]
pub(crate) struct Answers<'a>(HashMap<(&'a str, &'static str), u64>);

impl<'a> Answers<'a> {
    pub(crate) fn count(&mut self, vault: &'a str, outcome: &'static str) {
        *self.0.entry((vault, outcome)).or_default() += 1;
    }
}

/// For how many references of a request a fresh value was in memory, and for how many not, by vault.
#[derive(Debug, Default)]
pub(crate) struct Hits<'a>(HashMap<&'a str, (u64, u64)>);

impl<'a> Hits<'a> {
    pub(crate) fn count(&mut self, vault: &'a str, is_hit: bool) {
        let (hits, misses) = self.0.entry(vault).or_default();
        *if is_hit { hits } else { misses } += 1;
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("vaultref")),
            reads: Family::default(),
            read_time: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            answers: Family::default(),
            hits: Family::default(),
            misses: Family::default(),
            doubts: Family::default(),
            objects: Gauge::default(),
            failures: Gauge::default(),
            bytes: Gauge::default(),
            circuit: Family::default(),
            age: Family::default(),
            stale: Family::default(),
            next_read: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let r = &mut *registry;
        r.register("reads", "Reads of a vault", self.reads.clone());
        let help = "How long a read of a vault took, retries included";
        r.register_with_unit("read_duration", help, Unit::Seconds, self.read_time.clone());
        r.register("answers", "Answers to references", self.answers.clone());
        let help = "References for which a fresh value was in memory";
        r.register("cache_hits", help, self.hits.clone());
        let help = "References for which there was none";
        r.register("cache_misses", help, self.misses.clone());
        let help = "Reads of a vault because an upstream refused the value";
        r.register("refreshes", help, self.doubts.clone());
        r.register(
            "cache_objects",
            "Objects in the cache",
            self.objects.clone(),
        );
        let help = "Objects of which only a failure is remembered";
        r.register("cache_failures", help, self.failures.clone());
        r.register_with_unit(
            "cache",
            "Size of the cache",
            Unit::Bytes,
            self.bytes.clone(),
        );
        let help = "1 while a vault that fails again and again is left alone";
        r.register("circuit_open", help, self.circuit.clone());
        let help = "Time since an object was read";
        r.register_with_unit("object_age", help, Unit::Seconds, self.age.clone());
        let help = "Time since the ttl of an object was over, 0 while it is fresh";
        r.register_with_unit("object_stale", help, Unit::Seconds, self.stale.clone());
        let help = "Time until an object is read ahead of its expiry";
        r.register_with_unit(
            "object_next_read",
            help,
            Unit::Seconds,
            self.next_read.clone(),
        );
    }

    /// Notes the end of a read.
    pub(crate) fn read(&self, vault: &str, outcome: &'static str, took: Duration) {
        let vault = vault.to_owned();
        let labels = Outcome { vault, outcome };
        self.read_time
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        self.reads.get_or_create(&labels).inc();
    }

    /// Notes for how many references of a request a fresh value was in memory.
    pub(crate) fn looked_up(&self, hits: Hits<'_>) {
        for (vault, (hits, misses)) in hits.0 {
            let labels = OfVault {
                vault: vault.to_owned(),
            };
            self.hits.get_or_create(&labels).inc_by(hits);
            self.misses.get_or_create(&labels).inc_by(misses);
        }
    }

    /// Notes that a value is to be read anew because an upstream refused it.
    pub(crate) fn doubted(&self, vault: &str) {
        let vault = vault.to_owned();
        self.doubts.get_or_create(&OfVault { vault }).inc();
    }

    /// Notes what a request was answered.
    pub(crate) fn answered(&self, answers: Answers<'_>) {
        for ((vault, outcome), count) in answers.0 {
            let vault = vault.to_owned();
            self.answers
                .get_or_create(&Outcome { vault, outcome })
                .inc_by(count);
        }
    }

    /// All of it as text, with the state as it is now.
    pub(crate) fn encode(&self, state: State) -> Result<String, fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.objects.set(number(state.entries));
        self.failures.set(number(state.failures));
        self.bytes.set(number(state.bytes));
        self.circuit.clear();
        for (vault, is_open) in state.vaults {
            self.circuit
                .get_or_create(&OfVault { vault })
                .set(is_open.into());
        }
        for family in [&self.age, &self.stale, &self.next_read] {
            family.clear();
        }
        for object in state.objects {
            let labels = OfObject {
                vault: object.vault,
                object: object.object,
                version: object
                    .version
                    .map(|version| version.to_string())
                    .unwrap_or_default(),
            };
            let set = |family: &Family<OfObject, Gauge>, time: Duration| {
                let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
                family.get_or_create(&labels).set(seconds);
            };
            set(&self.age, object.age);
            set(&self.stale, object.stale);
            if let Some(next) = object.next_read {
                set(&self.next_read, next);
            }
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
