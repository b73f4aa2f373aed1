//! What becomes of a value when a read fails.

use super::*;

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
