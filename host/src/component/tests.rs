//! What is held and for how long, with a vault that does as it is told and a clock that stands still.
//! What guests can do is in `tests/scenarios/tests/component`.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::advance;
use vaultref_contract::Secret;
use vaultref_contract::wire::{FailureKind, ResolveRequest};
use wasmtime::component::Resource;

use super::{OpaqueSecret, SecretError, Secrets};
use crate::backend::kit::plain_object;
use crate::backend::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading};
use crate::policy::Access;
use crate::resolver::Resolver;
use crate::vault::{Settings, Vault, Vaults};

type Told = Arc<Mutex<Result<&'static str, ReadErrorKind>>>;

struct Obedient(Told);

impl Backend for Obedient {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        Ok(plain_object(asked))
    }

    fn read<'a>(&'a self, _: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let told = *self.0.lock().expect("whole");
        Box::pin(async move {
            let text = told.map_err(|kind| ReadError::new(kind, "as told"))?;
            Ok(Reading::new(Secret::from(text.to_owned())))
        })
    }
}

struct Bed {
    vault: Told,
    resolver: Resolver,
}

impl Bed {
    /// Values are fresh for ten seconds, and bridge an outage for sixty more.
    fn new() -> Self {
        let vault: Told = Arc::new(Mutex::new(Ok("one")));
        let settings = Settings {
            ttl: Some(Duration::from_secs(10)),
            resurrect_ttl: Duration::from_secs(60),
            ..Settings::default()
        };
        let kind = Kind::find("env").expect("env");
        let backend = Arc::new(Obedient(Arc::clone(&vault)));
        let mut vaults = Vaults::default();
        assert!(vaults.add(Vault::new("v".into(), kind, backend, settings)));
        let resolver = Resolver::new(vaults, 42, Handle::current());
        Self { vault, resolver }
    }

    fn secrets(&self) -> Secrets {
        Secrets::new(self.resolver.clone(), Access::All)
    }

    fn tell(&self, told: Result<&'static str, ReadErrorKind>) {
        *self.vault.lock().expect("whole") = told;
    }

    /// Has the vault read, if it is time.
    async fn read(&self) {
        let request = ResolveRequest {
            references: vec![V.to_owned()],
            known: Vec::new(),
            wait_ms: 1000,
            ..ResolveRequest::default()
        };
        self.resolver.resolve(&Access::All, &request).await;
    }
}

const V: &str = "{vault://v/a}";

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
}

fn lent(secrets: &mut Secrets, secret: &Resource<OpaqueSecret>) -> Result<String, FailureKind> {
    match secrets.lend(secret) {
        Ok(value) => Ok(value.expose_text().expect("text").to_owned()),
        Err(SecretError::Failure(failure)) => Err(failure.kind),
        Err(error) => panic!("{error}"),
    }
}

fn value(secrets: &Secrets, secret: &Resource<OpaqueSecret>) -> Weak<Secret> {
    let held = &secrets.held[&secret.rep()];
    Arc::downgrade(held.value.as_ref().expect("a value"))
}

fn times(secrets: &mut Secrets, secret: &Resource<OpaqueSecret>) -> (u64, u64, bool) {
    let lifetime = secrets.lifetime(secret).expect("held");
    (lifetime.fresh_for, lifetime.usable_for, lifetime.stale)
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_bridged_and_then_the_value_is_wiped() {
    let bed = Bed::new();
    bed.read().await;
    let mut secrets = bed.secrets();
    let secret = secrets.get(V).expect("a secret");
    let value = value(&secrets, &secret);
    assert_eq!(times(&mut secrets, &secret), (10, 70, false));
    bed.tell(Err(ReadErrorKind::Unavailable));
    pass(4).await;
    assert_eq!(times(&mut secrets, &secret), (6, 66, false));
    pass(16).await;
    bed.read().await;
    assert_eq!(times(&mut secrets, &secret), (0, 50, true));
    pass(49).await;
    assert_eq!(lent(&mut secrets, &secret), Ok("one".to_owned()));
    pass(1).await;
    let gone = Err(FailureKind::Unavailable);
    assert_eq!(lent(&mut secrets, &secret), gone);
    assert_eq!(times(&mut secrets, &secret), (0, 0, true));
    assert!(value.upgrade().is_none(), "it is not wiped");
    // The vault comes back with another secret.
    bed.tell(Ok("two"));
    pass(60).await;
    bed.read().await;
    assert_eq!(lent(&mut secrets, &secret), gone);
}

/// As long as the resolver says that it is the one, nobody has to get it anew.
#[tokio::test(start_paused = true)]
async fn a_secret_that_does_not_change_is_of_use_for_ever() {
    let bed = Bed::new();
    bed.read().await;
    let mut secrets = bed.secrets();
    let secret = secrets.get(V).expect("a secret");
    for _ in 0..50 {
        pass(10).await;
        bed.read().await;
        assert_eq!(times(&mut secrets, &secret), (10, 70, false));
    }
    assert_eq!(lent(&mut secrets, &secret), Ok("one".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_has_been_replaced_is_of_use_until_its_time_is_over() {
    let bed = Bed::new();
    bed.read().await;
    let mut secrets = bed.secrets();
    let old = secrets.get(V).expect("a secret");
    bed.tell(Ok("two"));
    pass(10).await;
    bed.read().await;
    let new = secrets.get(V).expect("a secret");
    assert_eq!(times(&mut secrets, &old), (0, 60, false));
    assert_eq!(lent(&mut secrets, &old), Ok("one".to_owned()));
    assert_eq!(lent(&mut secrets, &new), Ok("two".to_owned()));
    assert_ne!(secrets.revision(&old).ok(), secrets.revision(&new).ok());
    pass(60).await;
    bed.read().await;
    assert_eq!(lent(&mut secrets, &old), Err(FailureKind::Unavailable));
    assert_eq!(lent(&mut secrets, &new), Ok("two".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_is_wiped_at_the_next_look() {
    let bed = Bed::new();
    bed.read().await;
    let mut secrets = bed.secrets();
    let secret = secrets.get(V).expect("a secret");
    let value = value(&secrets, &secret);
    bed.tell(Err(ReadErrorKind::Denied));
    pass(10).await;
    bed.read().await;
    assert_eq!(times(&mut secrets, &secret), (0, 0, false));
    assert!(value.upgrade().is_none(), "it is not wiped");
    assert_eq!(lent(&mut secrets, &secret), Err(FailureKind::Denied));
}

/// A guest that gets one large secret a thousand times costs the memory of one.
#[tokio::test(start_paused = true)]
async fn secrets_of_one_revision_share_the_value_and_the_last_one_wipes_it() {
    let bed = Bed::new();
    bed.read().await;
    let mut secrets = bed.secrets();
    let handles: Vec<_> = (0..5).map(|_| secrets.get(V).expect("a secret")).collect();
    let value = value(&secrets, &handles[0]);
    assert_eq!(value.strong_count(), 5);
    for (count, handle) in handles.iter().enumerate() {
        assert_eq!(value.strong_count(), 5 - count);
        secrets.release(handle);
    }
    assert!(value.upgrade().is_none(), "it is not wiped");
    let _held = secrets.get(V).expect("a secret");
    let value = value_of_all(&secrets);
    drop(secrets);
    assert!(value.upgrade().is_none(), "it outlives its store");
}

fn value_of_all(secrets: &Secrets) -> Weak<Secret> {
    let held = secrets.held.values().next().expect("one");
    Arc::downgrade(held.value.as_ref().expect("a value"))
}

#[tokio::test(start_paused = true)]
async fn no_two_stores_have_a_number_in_common() {
    let bed = Bed::new();
    bed.read().await;
    let mut stores = [bed.secrets(), bed.secrets()];
    for _ in 0..100 {
        for secrets in &mut stores {
            secrets.get(V).expect("a secret");
        }
    }
    let [one, two] = &stores;
    assert_eq!((one.held(), two.held()), (100, 100));
    assert!(one.held.keys().all(|number| !two.held.contains_key(number)));
}

/// The clock is the real one here: the thread that waits is the one that would have to read.
#[tokio::test]
async fn a_wait_on_the_resolvers_only_thread_ends() {
    let bed = Bed::new();
    let mut secrets = bed.secrets().waiting(Duration::from_millis(1));
    let got = secrets.get(V).map(|_| ());
    let Err(SecretError::Failure(failure)) = got else {
        panic!("{got:?}")
    };
    assert_eq!(failure.kind, FailureKind::Pending);
    bed.read().await;
    secrets.get(V).expect("a secret");
}
