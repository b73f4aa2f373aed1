//! What a client that provokes refusals brings about: one read, and the next no sooner than the limit.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::advance;
use vaultref_contract::Secret;
use vaultref_contract::wire::{Outcome, ResolveRequest, Revision};

use super::PAUSE;
use crate::backend::kit::plain_object;
use crate::backend::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading};
use crate::policy::Access;
use crate::resolver::{Flush, Resolver};
use crate::vault::{Settings, Vault, Vaults};

/// Gives the number of the read as its value; fails from the hundredth on.
struct Counting(Arc<AtomicUsize>);

impl Backend for Counting {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        Ok(plain_object(asked))
    }

    fn read<'a>(&'a self, _: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move {
            match number {
                ..100 => Ok(Reading::new(Secret::from(number.to_string()))),
                _ => Err(ReadError::new(ReadErrorKind::Unavailable, "as told")),
            }
        })
    }
}

struct Bed {
    reads: Arc<AtomicUsize>,
    resolver: Resolver,
}

impl Bed {
    /// A value that is old enough to be doubted.
    async fn new() -> Self {
        let bed = Self::with(Settings::default());
        bed.revision(&[]).await;
        advance(Settings::default().min_ttl).await;
        bed
    }

    fn with(settings: Settings) -> Self {
        let reads = Arc::new(AtomicUsize::new(0));
        let kind = Kind::find("env").expect("env");
        let backend = Arc::new(Counting(Arc::clone(&reads)));
        let vault = Vault::new("v".into(), kind, backend, settings);
        let mut vaults = Vaults::default();
        assert!(vaults.add(vault));
        let resolver = Resolver::new(vaults, 1, Handle::current());
        Self { reads, resolver }
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    async fn ask(&self, known: Option<&Revision>, refresh: &[u32]) -> Outcome {
        let request = ResolveRequest {
            references: vec!["{vault://v/a}".to_owned()],
            known: vec![known.cloned()],
            wait_ms: 1000,
            refresh: refresh.to_vec(),
        };
        let outcomes = self.resolver.resolve(&Access::All, &request).await;
        outcomes.into_iter().next().expect("one outcome")
    }

    async fn revision(&self, refresh: &[u32]) -> Revision {
        match self.ask(None, refresh).await {
            Outcome::Secret(secret) => secret.revision,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_value_is_read_anew_and_the_new_one_is_in_the_same_answer() {
    let bed = Bed::new().await;
    let first = bed.revision(&[]).await;
    assert!(matches!(
        bed.ask(Some(&first), &[]).await,
        Outcome::Unchanged(_)
    ));
    let Outcome::Secret(second) = bed.ask(Some(&first), &[0]).await else {
        panic!("a new value")
    };
    assert_eq!(second.value.secret().expose(), b"2");
    assert_eq!(bed.reads(), 2);
    let metrics = bed.resolver.metrics().expect("a text");
    assert!(
        metrics.contains("vaultref_refreshes_total{vault=\"v\"} 1"),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_provokes_refusals_has_it_read_no_more_often_than_the_limit() {
    let bed = Bed::new().await;
    // Five times a second for a minute.
    for _ in 0..300 {
        bed.revision(&[0]).await;
        advance(Duration::from_millis(200)).await;
    }
    let most = usize::try_from(60 / PAUSE.as_secs()).expect("few") + 1;
    assert!(
        (most - 1..=most + 1).contains(&bed.reads()),
        "{} reads",
        bed.reads()
    );
}

/// Nothing is lost: what is doubted within the limit is read when it is over, without a new doubt.
#[tokio::test(start_paused = true)]
async fn a_doubt_that_comes_too_soon_is_remembered() {
    let bed = Bed::new().await;
    bed.revision(&[0]).await;
    bed.revision(&[0]).await;
    assert_eq!(bed.reads(), 2);
    advance(PAUSE - Duration::from_secs(1)).await;
    bed.revision(&[]).await;
    assert_eq!(bed.reads(), 2);
    advance(Duration::from_secs(1)).await;
    bed.revision(&[]).await;
    assert_eq!(bed.reads(), 3);
    advance(PAUSE * 2).await;
    bed.revision(&[]).await;
    assert_eq!(bed.reads(), 3);
}

/// That is the operator's bound for all that others bring about.
#[tokio::test(start_paused = true)]
async fn no_doubt_has_a_value_read_sooner_than_min_ttl_after_it_was_read() {
    let bed = Bed::with(Settings {
        min_ttl: Duration::from_secs(60),
        ..Settings::default()
    });
    for reads in 1..4 {
        bed.revision(&[]).await;
        for _ in 0..59 {
            bed.revision(&[0]).await;
            assert_eq!(bed.reads(), reads);
            advance(Duration::from_secs(1)).await;
        }
        advance(Duration::from_secs(1)).await;
    }
}

/// Reads for other reasons in between leave the limit what it is.
#[tokio::test(start_paused = true)]
async fn doubts_of_an_hour_do_not_put_off_the_next_for_longer_than_the_limit() {
    let bed = Bed::new().await;
    for _ in 0..12 {
        bed.revision(&[0]).await;
        bed.revision(&[0]).await;
        assert!(bed.resolver.flush(&Flush::All).is_some());
        bed.revision(&[]).await;
        advance(Duration::from_secs(1)).await;
    }
    bed.revision(&[0]).await;
    let reads = bed.reads();
    advance(PAUSE).await;
    bed.revision(&[]).await;
    assert_eq!(bed.reads(), reads + 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_the_old_value_and_doubts_do_not_shorten_its_pauses() {
    let bed = Bed::with(Settings::default());
    bed.reads.store(98, Ordering::SeqCst);
    let known = bed.revision(&[]).await;
    advance(Settings::default().min_ttl).await;
    for _ in 0..40 {
        let outcome = bed.ask(Some(&known), &[0]).await;
        let Outcome::Unchanged(lifetime) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(lifetime.stale);
        advance(Duration::from_millis(100)).await;
    }
    assert_eq!(bed.reads(), 100, "one more in neg_ttl");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_may_not_read_it_may_not_have_read_anew() {
    let bed = Bed::new().await;
    let clients = "{vaults: [{name: env, prefix: vv}], clients: [{name: a, peer: {uid: 1}, allow: [vv/OTHER]}]}";
    let config = crate::config::parse(clients, &Arc::default()).expect("a configuration");
    let client = config.clients.iter().next().expect("a client");
    let access = Access::Client(Arc::clone(client));
    let request = ResolveRequest {
        references: vec!["{vault://v/a}".to_owned()],
        refresh: vec![0],
        wait_ms: 1000,
        ..ResolveRequest::default()
    };
    let _ = bed.resolver.resolve(&access, &request).await;
    bed.revision(&[]).await;
    assert_eq!(bed.reads(), 1);
}

/// A log may be slow, and the cache is everybody's.
#[tokio::test(start_paused = true)]
async fn the_log_is_written_when_the_cache_is_free() {
    struct Looks(Resolver, Arc<AtomicUsize>);
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Looks {
        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            drop(self.0.0.cache.try_lock().expect("free"));
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    use tracing_subscriber::layer::SubscriberExt as _;
    let bed = Bed::new().await;
    let lines = Arc::new(AtomicUsize::new(0));
    let looks = Looks(bed.resolver.clone(), Arc::clone(&lines));
    let subscriber = tracing_subscriber::registry().with(looks);
    let _logged = tracing::subscriber::set_default(subscriber);
    bed.revision(&[0]).await;
    assert_eq!(lines.load(Ordering::SeqCst), 1);
}
