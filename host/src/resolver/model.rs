//! The resolver against a model: whatever happens in whatever order, what it answers is what may be
//! answered then.
//!
//! A world of two vaults with two objects each; every object is a pair whose halves carry the vault,
//! the object and a number that goes up with each change. Steps are taken at random: asking, time that
//! passes, changes, failures, recoveries, flushes, reloads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep};
use vaultref_contract::wire::{FailureKind, Outcome, ResolveRequest, Revision};

use super::{Flush, Resolver};
use crate::backend::{Kind, ReadErrorKind};
use crate::policy::Access;
use crate::vault::{Settings, Vault, Vaults};

mod world;

use world::{Place, World};

const VAULTS: [&str; 2] = ["va", "vb"];
const OBJECTS: [&str; 2] = ["x", "y"];

const TTL: u64 = 20;
const RESURRECT: u64 = 60;
const NEG_TTL: u64 = 3;
/// The longest that a read takes.
const SLOWEST: u64 = 3;

/// After this time without a failure a value must be there: what was remembered as failed is
/// forgotten, and a vault that was left alone is tried again.
const SETTLED: Duration = Duration::from_secs(NEG_TTL + 5 + 1);

fn settings() -> Settings {
    Settings {
        ttl: Some(Duration::from_secs(TTL)),
        resurrect_ttl: Duration::from_secs(RESURRECT),
        neg_ttl: Duration::from_secs(NEG_TTL),
        ..Settings::default()
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Advance(u64),
    Ask(usize),
    Change(usize, usize),
    Fail(usize, usize, ReadErrorKind),
    Flush(Option<usize>),
    /// As gateways do: with what is known, and again a little later.
    Poll(usize),
    Recover(usize, usize),
    /// True: the same vaults. False: this one is another.
    Reload(usize, bool),
    Remove(usize),
    Slow(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (vault, object) = (0..VAULTS.len(), 0..OBJECTS.len());
    let kind = prop_oneof![
        Just(ReadErrorKind::Denied),
        Just(ReadErrorKind::NotFound),
        Just(ReadErrorKind::Unavailable),
        Just(ReadErrorKind::WrongType),
    ];
    prop_oneof![
        4 => prop_oneof![0..8u64, 15..30u64, 60..120u64].prop_map(Step::Advance),
        6 => vault.clone().prop_map(Step::Ask),
        4 => vault.clone().prop_map(Step::Poll),
        3 => (vault.clone(), object.clone()).prop_map(|(v, o)| Step::Change(v, o)),
        2 => (vault.clone(), object.clone(), kind).prop_map(|(v, o, k)| Step::Fail(v, o, k)),
        1 => prop::option::of(vault.clone()).prop_map(Step::Flush),
        3 => (vault.clone(), object).prop_map(|(v, o)| Step::Recover(v, o)),
        1 => (vault.clone(), any::<bool>()).prop_map(|(v, same)| Step::Reload(v, same)),
        1 => vault.clone().prop_map(Step::Remove),
        1 => (vault, 0..=SLOWEST).prop_map(|(v, seconds)| Step::Slow(v, seconds)),
    ]
}

/// What a reference was answered: the value, or why there is none.
type Answer = Result<String, FailureKind>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asker {
    NextPoll,
    Poll,
    Request,
}

struct Bed {
    world: Arc<World>,
    resolver: Resolver,
    made: Vec<Option<Arc<Vault>>>,
    /// What each reference was answered last: the value's name, and the value.
    known: HashMap<String, (Revision, String)>,
}

impl Bed {
    fn new() -> Self {
        let world = World::new();
        let made: Vec<_> = (0..VAULTS.len())
            .map(|vault| Some(vault_of(&world, vault)))
            .collect();
        let resolver = Resolver::new(served(&made), 1, Handle::current());
        let keeping = resolver.clone();
        tokio::spawn(async move { keeping.keep_fresh().await });
        Self {
            world,
            resolver,
            made,
            known: HashMap::new(),
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        let now = Instant::now();
        match step {
            Step::Advance(seconds) => sleep(Duration::from_secs(seconds)).await,
            Step::Ask(vault) => self.ask(vault, Asker::Request).await?,
            Step::Change(v, o) => {
                let mut things = self.world.things();
                things.get_mut(&(v, o)).expect("a thing").history.push(now);
            }
            Step::Fail(v, o, kind) => self.set(v, o, Some(kind)),
            Step::Flush(vault) => {
                let what = vault.map_or(Flush::All, |v| Flush::Vault(VAULTS[v].to_owned()));
                let _ = self.resolver.flush(&what);
            }
            Step::Poll(vault) => {
                self.ask(vault, Asker::Poll).await?;
                // Longer than any read takes: what the first did not wait for is there now.
                sleep(Duration::from_secs(SLOWEST + 1)).await;
                self.ask(vault, Asker::NextPoll).await?;
            }
            Step::Recover(v, o) => self.set(v, o, None),
            Step::Reload(vault, is_same) => {
                if !is_same || self.made[vault].is_none() {
                    self.made[vault] = Some(vault_of(&self.world, vault));
                }
                self.resolver.replace(served(&self.made));
            }
            Step::Remove(vault) => {
                self.made[vault] = None;
                self.resolver.replace(served(&self.made));
            }
            Step::Slow(vault, seconds) => {
                self.world.slow.lock().expect("whole")[vault] = seconds;
                for thing in self.world.things().values_mut() {
                    thing.since = now;
                }
            }
        }
        Ok(())
    }

    fn set(&self, vault: usize, object: usize, fails: Option<ReadErrorKind>) {
        // One that fails may have its whole vault left alone for a while.
        for (place, thing) in self.world.things().iter_mut() {
            if place.0 == vault {
                thing.since = Instant::now();
            }
            if *place == (vault, object) {
                thing.fails = fails;
            }
        }
    }

    async fn ask(&mut self, vault: usize, asker: Asker) -> Result<(), TestCaseError> {
        let name = VAULTS[vault];
        let halves = OBJECTS.iter().flat_map(|object| {
            ["user", "password"].map(|key| format!("{{vault://{name}/{object}/{key}}}"))
        });
        let references: Vec<String> = halves.collect();
        let known = references.iter().map(|reference| {
            let (revision, _) = self.known.get(reference)?;
            (asker != Asker::Request).then(|| revision.clone())
        });
        let request = ResolveRequest {
            known: known.collect(),
            references,
            wait_ms: 30_000,
            ..ResolveRequest::default()
        };
        let outcomes = self.resolver.resolve(&Access::All, &request).await;
        let mut answers = Vec::new();
        for (reference, outcome) in request.references.into_iter().zip(outcomes) {
            answers.push(self.learn(reference, outcome)?);
        }
        for (object, pair) in answers.chunks(2).enumerate() {
            self.check(vault, object, pair, asker)?;
        }
        Ok(())
    }

    /// The value that an outcome stands for, or the failure.
    fn learn(&mut self, reference: String, outcome: Outcome) -> Result<Answer, TestCaseError> {
        Ok(match outcome {
            Outcome::Failure(failure) => Err(failure.kind),
            Outcome::Secret(secret) => {
                let text = secret
                    .value
                    .secret()
                    .expose_text()
                    .expect("text")
                    .to_owned();
                self.known
                    .insert(reference, (secret.revision, text.clone()));
                Ok(text)
            }
            Outcome::Unchanged(_) => {
                let known = self.known.get(&reference);
                prop_assert!(known.is_some(), "unchanged, and nothing was known");
                Ok(known.map(|(_, text)| text.clone()).unwrap_or_default())
            }
        })
    }

    fn check(
        &self,
        vault: usize,
        object: usize,
        pair: &[Answer],
        asker: Asker,
    ) -> Result<(), TestCaseError> {
        let now = Instant::now();
        let things = self.world.things();
        let thing = things.get(&(vault, object)).expect("a thing");
        if self.made[vault].is_none() {
            for answer in pair {
                prop_assert_eq!(answer.as_ref().err(), Some(&FailureKind::UnknownVault));
            }
            return Ok(());
        }
        // Nothing has gone wrong for a while, so it must be there, as fresh as its ttl says.
        // (A poll does not wait for a read after one that failed; the next one has it.)
        let settled = thing.fails.is_none() && now - thing.since > SETTLED && asker != Asker::Poll;
        let (Some(user), Some(password)) = (
            number(&pair[0], "u", vault, object)?,
            number(&pair[1], "p", vault, object)?,
        ) else {
            let (first, second) = (pair[0].as_ref().err(), pair[1].as_ref().err());
            prop_assert_eq!(first, second, "one half has a value and the other none");
            prop_assert!(!settled, "no value, although all is well: {:?}", first);
            return Ok(());
        };
        prop_assert_eq!(user, password, "a torn pair");
        // A value may expire while its request waits for a slow read of another.
        let oldest = if settled {
            TTL + SLOWEST
        } else {
            TTL + RESURRECT
        };
        let age = now.saturating_duration_since(thing.end_of(user));
        prop_assert!(
            age <= Duration::from_secs(oldest),
            "{:?} after it was replaced",
            age
        );
        let forbidden = matches!(
            thing.last_failure,
            Some(ReadErrorKind::Denied | ReadErrorKind::WrongType)
        );
        prop_assert!(!forbidden, "a value that the last read was denied");
        prop_assert!(thing.missed < 2, "a value that two reads did not find");
        Ok(())
    }
}

fn vault_of(world: &Arc<World>, vault: usize) -> Arc<Vault> {
    let kind = Kind::find("env").expect("env");
    let backend = Arc::new(Place {
        vault,
        world: Arc::clone(world),
    });
    // A vault that is new remembers nothing.
    for (place, thing) in world.things().iter_mut() {
        if place.0 == vault {
            thing.last_failure = None;
            thing.missed = 0;
        }
    }
    Arc::new(Vault::new(VAULTS[vault].into(), kind, backend, settings()))
}

fn served(made: &[Option<Arc<Vault>>]) -> Vaults {
    let mut vaults = Vaults::default();
    for vault in made.iter().flatten() {
        assert!(vaults.add(Arc::clone(vault)));
    }
    vaults
}

/// The number in a value, after it was seen that the value is of this half of this object.
fn number(
    answer: &Answer,
    half: &str,
    vault: usize,
    object: usize,
) -> Result<Option<usize>, TestCaseError> {
    let Ok(text) = answer else {
        return Ok(None);
    };
    let number = text.strip_prefix(&format!("{half}.{vault}.{object}."));
    prop_assert!(number.is_some(), "{} is of another", text);
    Ok(number.and_then(|number| number.parse().ok()))
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut bed = Bed::new();
        for step in steps {
            bed.take(*step).await?;
        }
        Ok(())
    })
}

/// Thousands, and more when more are asked for.
fn many() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases.max(3000),
        ..usual
    }
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn whatever_happens_what_is_answered_may_be_answered(steps in prop::collection::vec(step(), 1..80)) {
        run(&steps)?;
    }
}
