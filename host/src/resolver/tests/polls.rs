//! What a poll costs when nothing has changed, and what it does not wait for.

use tokio::time::Instant;
use vaultref_contract::wire::encode_reply;

use super::*;

/// A poll for these, with what is known of each.
fn poll(references: &[String], known: Vec<Option<Revision>>) -> ResolveRequest {
    ResolveRequest {
        references: references.to_vec(),
        known,
        wait_ms: 800,
        ..ResolveRequest::default()
    }
}

impl Bed {
    async fn poll(&self, request: &ResolveRequest) -> Vec<String> {
        let outcomes = self.resolver.resolve(&Access::All, request).await;
        outcomes.iter().map(shown).collect()
    }
}

fn references(names: &[&str]) -> Vec<String> {
    let names = names.iter();
    names.map(|name| format!("{{vault://{name}}}")).collect()
}

#[tokio::test(start_paused = true)]
async fn one_that_finds_nothing_new_reads_nothing_and_is_answered_in_a_few_bytes() {
    let bed = Bed::new(&Settings {
        rate_limit: None,
        ..Settings::default()
    });
    let large = "x".repeat(4096).leak();
    bed.script.now(&[Step::Text(large)]);
    let names: Vec<String> = (0..1000).map(|n| format!("{{vault://v/o{n}}}")).collect();
    let first = bed
        .resolver
        .resolve(&Access::All, &poll(&names, Vec::new()))
        .await;
    let known = first
        .iter()
        .map(|outcome| Some(revision(outcome)))
        .collect();
    let request = poll(&names, known);
    for _ in 0..60 {
        pass(1).await;
        let before = Instant::now();
        let outcomes = bed.resolver.resolve(&Access::All, &request).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, Outcome::Unchanged(_)))
        );
        let answer = encode_reply(Ok(&outcomes));
        assert!(answer.len() < 80 * names.len(), "{}", answer.len());
    }
    assert_eq!(bed.script.reads(), names.len(), "only the first reads");
}

/// A vault that is away must not make what others have new come later.
#[tokio::test(start_paused = true)]
async fn one_waits_once_for_a_vault_that_hangs_and_brings_what_is_new_of_others() {
    let bed = Bed::new(&Settings {
        ttl: Some(Duration::from_secs(10)),
        timeout: Duration::from_secs(4),
        neg_ttl: Duration::from_secs(2),
        ..Settings::default()
    });
    bed.script
        .now(&[Step::Text("old"), Step::Slow(3600, "never")]);
    bed.other.now(&[Step::Text("first"), Step::Text("second")]);
    let names = references(&["v/a", "other/a"]);
    let first = bed
        .resolver
        .resolve(&Access::All, &poll(&names, Vec::new()))
        .await;
    let known: Vec<_> = first
        .iter()
        .map(|outcome| Some(revision(outcome)))
        .collect();
    pass(10).await;
    let mut waited = Duration::ZERO;
    for second in 0..20 {
        let before = Instant::now();
        let all = bed.poll(&poll(&names, known.clone())).await;
        waited += before.elapsed();
        assert_eq!(all[0], "unchanged 0", "after {second} s");
        assert!(all[1].starts_with("second"), "after {second} s: {}", all[1]);
        sleep(Duration::from_secs(1)).await;
    }
    // The first poll could not know.
    assert_eq!(waited, Duration::from_millis(800));
    // It is back: its value is in the second poll at the latest, the first having begun the read.
    bed.script.now(&[Step::Text("new")]);
    sleep(Duration::from_secs(20)).await;
    let _ = bed.poll(&poll(&names, known.clone())).await;
    sleep(Duration::from_millis(10)).await;
    let all = bed.poll(&poll(&names, known)).await;
    assert!(all[0].starts_with("new"), "{}", all[0]);
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_waits_for_a_read_that_others_no_longer_wait_for() {
    let bed = Bed::new(&Settings::default());
    bed.script.now(&[Step::Slow(2, "late")]);
    bed.other.now(&[Step::Text("known")]);
    let known = revision(&bed.ask(&["{vault://other/a}"], 100).await[0]);
    let names = references(&["v/a", "other/a"]);
    let request = poll(&names, vec![None, Some(known)]);
    assert_eq!(bed.poll(&request).await[0], "unavailable");
    let before = Instant::now();
    assert_eq!(bed.poll(&request).await[0], "unavailable");
    assert_eq!(before.elapsed(), Duration::ZERO);
    let all = bed.ask(&["{vault://v/a}"], 5000).await;
    assert!(shown(&all[0]).starts_with("late"));
}

#[tokio::test(start_paused = true)]
async fn hits_and_misses_are_counted() {
    let bed = Bed::new(&Settings::default());
    bed.script.now(&[Step::Text("one")]);
    for _ in 0..3 {
        bed.one(V).await;
    }
    let metrics = bed.resolver.metrics().expect("written");
    for line in [
        "vaultref_cache_hits_total{vault=\"v\"} 2",
        "vaultref_cache_misses_total{vault=\"v\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in\n{metrics}"
        );
    }
}
