//! How many reads of one vault run at a time, and how many begin in a second.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::*;

/// Each read takes a tenth of a second.
#[derive(Default)]
struct Counted {
    running: AtomicUsize,
    most: AtomicUsize,
    starts: Mutex<Vec<Instant>>,
}

struct Shared(Arc<Counted>);

impl Backend for Shared {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        Ok(plain_object(asked))
    }

    fn read<'a>(&'a self, _: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        Box::pin(async {
            self.0.starts.lock().expect("whole").push(Instant::now());
            let running = self.0.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.0.most.fetch_max(running, Ordering::SeqCst);
            sleep(Duration::from_millis(100)).await;
            self.0.running.fetch_sub(1, Ordering::SeqCst);
            Ok(Reading::new(Secret::from("value".to_owned())))
        })
    }
}

/// Reads so many objects of a vault at once.
async fn crowd(count: usize, rate_limit: Option<u32>) -> Arc<Counted> {
    let counted = Arc::<Counted>::default();
    let settings = Settings {
        rate_limit,
        ..Settings::default()
    };
    let kind = Kind::find("env").expect("env");
    let shared = Arc::new(Shared(Arc::clone(&counted)));
    let mut vaults = Vaults::default();
    assert!(vaults.add(Vault::new("v".into(), kind, shared, settings)));
    let resolver = Resolver::new(vaults, 1, Handle::current());
    let names: Vec<String> = (0..count).map(|n| format!("{{vault://v/o{n}}}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let outcomes = resolver.resolve(&Access::All, &request(&names, 5000)).await;
    let is_secret = |outcome: &Outcome| matches!(outcome, Outcome::Secret(_));
    assert!(outcomes.iter().all(is_secret));
    counted
}

#[tokio::test(start_paused = true)]
async fn no_more_than_thirty_two_reads_of_a_vault_run_at_a_time() {
    let counted = crowd(200, None).await;
    assert_eq!(counted.most.load(Ordering::SeqCst), 32);
}

#[tokio::test(start_paused = true)]
async fn no_more_reads_of_a_vault_begin_in_a_second_than_its_rate_limit_says() {
    let counted = crowd(40, Some(10)).await;
    let starts = counted.starts.lock().expect("whole");
    for (first, start) in starts.iter().enumerate() {
        let within = |later: &&Instant| **later < *start + Duration::from_secs(1);
        let count = starts[first..].iter().filter(within).count();
        // A second's worth may begin at once, and the pace goes on behind it.
        assert!(count <= 20, "{count}");
    }
    let took = starts[starts.len() - 1] - starts[0];
    assert_eq!(took, Duration::from_secs(3));
}
