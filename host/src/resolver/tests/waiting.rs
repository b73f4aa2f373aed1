//! Who waits for which read, and for how long.

use super::*;

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
    assert_eq!(before.elapsed(), crate::resolver::MAX_WAIT);
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
