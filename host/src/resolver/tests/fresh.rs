//! How long a value is fresh, and what a reference or a backend can do about it.

use super::*;

#[tokio::test(start_paused = true)]
async fn fresh_until_its_ttl_then_read_again() {
    let bed = Bed::new(&Settings::default());
    bed.script.now(&[Step::Text("one"), Step::Text("two")]);
    assert_eq!(bed.one(V).await, "one 300/86700");
    pass(299).await;
    assert_eq!(bed.one(V).await, "one 1/86401");
    assert_eq!(bed.script.reads(), 1);
    pass(1).await;
    assert_eq!(bed.one(V).await, "two 300/86700");
    assert_eq!(bed.script.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_ttl_it_is_never_read_again() {
    let bed = Bed::new(&Settings {
        ttl: None,
        ..Settings::default()
    });
    bed.script.now(&[Step::Text("one"), Step::Text("two")]);
    assert_eq!(bed.one(V).await, "one 4294967295/86400");
    pass(10 * 365 * 86_400).await;
    assert_eq!(bed.one(V).await, "one 4294967295/86400");
    assert_eq!(bed.one("{vault://v/a?ttl=60}").await, "two 60/86460");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_has_not_changed_keeps_its_revision() {
    let bed = Bed::new(&Settings::default());
    let (first, second) = (r#"{"a":"1","b":"1"}"#, r#"{"a":"1","b":"2"}"#);
    bed.script.now(&[Step::Text(first), Step::Text(second)]);
    let references = ["{vault://v/o/a}", "{vault://v/o/b}"];
    let before: Vec<_> = bed
        .ask(&references, 100)
        .await
        .iter()
        .map(revision)
        .collect();
    assert_ne!(before[0], before[1], "equal values have different names");
    pass(300).await;
    let mut request = request(&references, 100);
    request.known = before.iter().cloned().map(Some).collect();
    let after = bed.resolver.resolve(&Access::All, &request).await;
    assert_eq!(shown(&after[0]), "unchanged 300");
    assert_eq!(shown(&after[1]), "2 300/86700");
    assert_ne!(revision(&after[1]), before[1]);
    // Another start has other names.
    let other = Resolver::new((*bed.resolver.vaults()).clone(), 43, Handle::current());
    let again = other.resolve(&Access::All, &request).await;
    assert_eq!(shown(&again[0]), "1 300/86700");
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_the_backend_is_held_between_the_bounds() {
    let bed = Bed::new(&Settings {
        min_ttl: Duration::from_secs(10),
        max_ttl: Some(Duration::from_secs(1000)),
        ..Settings::default()
    });
    for (given, expected) in [(1, "x 10/"), (500, "x 500/"), (5000, "x 1000/")] {
        bed.script.now(&[Step::TextFor("x", given)]);
        let outcome = bed.one(&format!("{{vault://v/a{given}}}")).await;
        assert!(outcome.starts_with(expected), "{outcome}");
    }
    let plain = Bed::new(&Settings::default());
    plain.script.now(&[Step::TextFor("x", 5000)]);
    assert!(
        plain.one(V).await.starts_with("x 300/"),
        "the vault's own ttl is the most"
    );
}

#[tokio::test(start_paused = true)]
async fn options_only_shorten() {
    let bed = Bed::new(&Settings {
        min_ttl: Duration::from_secs(10),
        ..Settings::default()
    });
    bed.script.now(&[Step::Text("one")]);
    for (options, expected) in [
        ("ttl=60", "one 60/86460"),
        ("ttl=1", "one 10/86410"),
        ("ttl=0", "one 300/86700"),
        ("ttl=301", "one 300/86700"),
        ("resurrect_ttl=5", "one 300/305"),
        ("resurrect_ttl=0", "one 300/300"),
        ("resurrect_ttl=99999", "one 300/86700"),
        ("neg_ttl=0", "one 300/86700"),
        ("ttl", "invalid-reference"),
        ("ttl=", "invalid-reference"),
        ("ttl=-1", "invalid-reference"),
        ("ttl=%2B1", "invalid-reference"),
        ("ttl=1.5", "invalid-reference"),
        ("ttl=60&ttl=70", "invalid-reference"),
        ("ttl=99999999999999", "invalid-reference"),
        ("base64_decode=yes", "invalid-reference"),
        ("prefix=x", "invalid-reference"),
        ("host=evil", "invalid-reference"),
    ] {
        let reference = format!("{{vault://v/a?{options}}}");
        assert_eq!(bed.one(&reference).await, expected, "{options}");
    }
    bed.other.now(&[Step::Fail(ReadErrorKind::NotFound)]);
    assert_eq!(bed.one("{vault://other/a?neg_ttl=0}").await, "not-found 5");
}
