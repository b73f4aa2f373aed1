//! What a day of reads looks like to a backend.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::{Instant, advance, sleep};
use vaultref_contract::Secret;
use vaultref_contract::wire::{Outcome, ResolveRequest};

use crate::backend::kit::plain_object;
use crate::backend::{Asked, Backend, Kind, Object, ReadError, Reading};
use crate::policy::Access;
use crate::resolver::Resolver;
use crate::vault::{Settings, Vault, Vaults};

/// Notes when it is read; a read takes a tenth of a second.
struct Timed {
    start: Instant,
    reads: Mutex<Vec<Duration>>,
}

struct Shared(Arc<Timed>);

impl Backend for Shared {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        Ok(plain_object(asked))
    }

    fn read<'a>(&'a self, _: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        self.0
            .reads
            .lock()
            .expect("whole")
            .push(self.0.start.elapsed());
        Box::pin(async {
            sleep(Duration::from_millis(100)).await;
            let object = r#"{"a":"1","b":"2","c":"3","d":"4","e":"5","f":"6","g":"7","h":"8","i":"9","j":"0"}"#;
            Ok(Reading::new(Secret::from(object.to_owned())))
        })
    }
}

struct Bed {
    backend: Arc<Timed>,
    resolver: Resolver,
}

impl Bed {
    fn new() -> Self {
        let backend = Arc::new(Timed {
            start: Instant::now(),
            reads: Mutex::default(),
        });
        let kind = Kind::find("env").expect("env");
        let shared = Arc::new(Shared(Arc::clone(&backend)));
        let vault = Vault::new("v".into(), kind, shared, Settings::default());
        let mut vaults = Vaults::default();
        assert!(vaults.add(vault));
        let resolver = Resolver::new(vaults, 7, Handle::current());
        let keeping = resolver.clone();
        tokio::spawn(async move { keeping.keep_fresh().await });
        Self { backend, resolver }
    }

    async fn ask(&self, references: Vec<String>) -> Vec<Outcome> {
        let request = ResolveRequest {
            references,
            known: Vec::new(),
            wait_ms: 5000,
            ..ResolveRequest::default()
        };
        self.resolver.resolve(&Access::All, &request).await
    }

    fn reads(&self) -> usize {
        self.backend.reads.lock().expect("whole").len()
    }
}

fn is_fresh(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Secret(secret) if !secret.lifetime.stale && secret.lifetime.fresh_for > 0)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_references_are_spread_over_the_day_and_nobody_waits_for_them() {
    let bed = Bed::new();
    let references: Vec<_> = (0..1000)
        .map(|number| format!("{{vault://v/o{number}}}"))
        .collect();
    bed.ask(references.clone()).await;
    let minutes = 24 * 60;
    for _ in 0..minutes * 60 / 150 {
        let before = Instant::now();
        let outcomes = bed.ask(references.clone()).await;
        assert!(outcomes.iter().all(is_fresh));
        assert_eq!(before.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(150)).await;
    }
    let mut per_minute = vec![0u32; minutes];
    for at in bed.backend.reads.lock().expect("whole").iter() {
        if let Some(count) =
            per_minute.get_mut(usize::try_from(at.as_secs() / 60).expect("a minute"))
        {
            *count += 1;
        }
    }
    // At start-up all have to be read at once.
    let day = &per_minute[1..];
    let mean = f64::from(day.iter().sum::<u32>()) / day.len() as f64;
    let most = day.iter().copied().max().expect("a minute");
    assert!(f64::from(most) <= 1.2 * mean, "mean {mean}, most {most}");
    // Not more often than the ttl asks for, give or take the quarter that is read ahead.
    assert!(mean < 1000.0 / 5.0 / 0.75, "{mean}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_who_ask_for_a_hundred_references_of_ten_objects_cause_ten_reads() {
    let bed = Bed::new();
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let references: Vec<_> = (0..10)
        .flat_map(|object| keys.map(|key| format!("{{vault://v/o{object}/{key}}}")))
        .collect();
    let crowd = async || {
        let all = (0..10_000).map(|number| bed.ask(vec![references[number % 100].clone()]));
        let outcomes = futures::future::join_all(all).await;
        assert!(outcomes.iter().flatten().all(is_fresh));
    };
    crowd().await;
    assert_eq!(bed.reads(), 10);
    // Nobody asks for so long that they all expire. They are all asked for again at once.
    for _ in 0..3 {
        advance(Duration::from_secs(301)).await;
        tokio::task::yield_now().await;
    }
    let before = bed.reads();
    crowd().await;
    assert_eq!(bed.reads(), before + 10);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_any_more_is_not_read_any_more() {
    let bed = Bed::new();
    bed.ask(vec!["{vault://v/o}".to_owned()]).await;
    bed.ask(vec!["{vault://v/o}".to_owned()]).await;
    sleep(Duration::from_secs(3600)).await;
    // Once for those who asked after the first read, and no more.
    assert_eq!(bed.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_shortest_ttl_that_is_asked_for_decides() {
    let bed = Bed::new();
    for _ in 0..30 {
        bed.ask(vec![
            "{vault://v/o}".to_owned(),
            "{vault://v/o?ttl=60}".to_owned(),
        ])
        .await;
        sleep(Duration::from_secs(20)).await;
    }
    let reads = bed.reads();
    assert!((10..=16).contains(&reads), "{reads}");
}
