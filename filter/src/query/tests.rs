//! Query strings: all six verbs, by table.

use super::{Parameter, encode, is_ambiguous, rewrite};
use crate::compile::{QueryVerb, QueryWrite};

fn write(name: &str, verb: QueryVerb) -> QueryWrite {
    QueryWrite {
        name: name.to_owned(),
        written: encode(name.as_bytes()),
        verb,
    }
}

fn rewritten(path: &str, verb: QueryVerb, parameter: Parameter<'_>) -> String {
    let bytes = rewrite(path.as_bytes(), &[write("k", verb)], |_| parameter);
    String::from_utf8(bytes).expect("text")
}

#[test]
fn every_verb() {
    let value = Parameter::Value(b"NEW");
    let rename = || QueryVerb::Rename { to: b"n".to_vec() };
    let table = [
        (QueryVerb::Set(0), "/p", "/p?k=NEW"),
        (QueryVerb::Set(0), "/p?", "/p?k=NEW"),
        (QueryVerb::Set(0), "/p?a=1", "/p?a=1&k=NEW"),
        (QueryVerb::Set(0), "/p?k=1&a=1&k=2&k", "/p?k=NEW&a=1"),
        (QueryVerb::Set(0), "/p?%6b=1&a", "/p?k=NEW&a"),
        (
            QueryVerb::Set(0),
            "/p?a=k&K=1&kk=2",
            "/p?a=k&K=1&kk=2&k=NEW",
        ),
        (QueryVerb::Set(0), "/p?a=1#k=2", "/p?a=1&k=NEW"),
        (QueryVerb::Set(0), "/p?&&a", "/p?&&a&k=NEW"),
        (QueryVerb::Add(0), "/p", "/p?k=NEW"),
        (QueryVerb::Add(0), "/p?k=1", "/p?k=1"),
        (QueryVerb::Add(0), "/p?k", "/p?k"),
        (QueryVerb::Replace(0), "/p?a=1", "/p?a=1"),
        (QueryVerb::Replace(0), "/p?k=1&a&k=2", "/p?k=NEW&a"),
        (QueryVerb::Append(0), "/p", "/p?k=NEW"),
        (QueryVerb::Append(0), "/p?k=1&a", "/p?k=1&a&k=NEW"),
        (QueryVerb::Remove, "/p?k=1&a=%zz&k", "/p?a=%zz"),
        (QueryVerb::Remove, "/p?k=1", "/p"),
        (rename(), "/p?k=%20x&a&k", "/p?n=%20x&a&n"),
        (rename(), "/p?a", "/p?a"),
    ];
    for (verb, path, expected) in table {
        let shown = format!("{verb:?} {path}");
        assert_eq!(rewritten(path, verb, value), expected, "{shown}");
    }
}

#[test]
fn a_parameter_without_value_is_left_out_with_the_client_s_own() {
    let table = [
        (QueryVerb::Set(0), "/p?k=own&a", "/p?a"),
        (QueryVerb::Replace(0), "/p?k=own", "/p"),
        (QueryVerb::Add(0), "/p?a", "/p?a"),
        (QueryVerb::Append(0), "/p?k=own", "/p?k=own"),
    ];
    for (verb, path, expected) in table {
        assert_eq!(rewritten(path, verb, Parameter::Omit), expected);
    }
}

#[test]
fn names_are_compared_as_forms_write_them() {
    let writes = [write("a b", QueryVerb::Remove)];
    let path = rewrite(b"/p?a+b=1&a%20b=2&a%2bb=3&ab=4", &writes, |_| {
        Parameter::Omit
    });
    assert_eq!(path, b"/p?a%2bb=3&ab=4");
}

#[test]
fn a_written_name_beside_a_semicolon_is_ambiguous() {
    let verbs = [
        QueryVerb::Add(0),
        QueryVerb::Append(0),
        QueryVerb::Remove,
        QueryVerb::Rename { to: b"n".to_vec() },
        QueryVerb::Replace(0),
        QueryVerb::Set(0),
    ];
    let table = [
        ("/p?a=1;k=2", true),
        ("/p?a=1;%6b", true),
        ("/p?b&k=1;k=2", true),
        ("/p?;k", true),
        ("/p?k;", true),
        ("/p?k;b=1", true),
        ("/p?a=1;b=2;k=3&c", true),
        ("/p;k=1?a=1", false),
        ("/p?a=1;b=2", false),
        ("/p?k=1;b=2", false),
        ("/p?a=1;kk=2;K=3", false),
        ("/p?a=1;b&k=2", false),
        ("/p?a=1%3Bk=2", false),
        ("/p?a=k;b=k", false),
    ];
    for verb in verbs {
        let shown = format!("{verb:?}");
        let renames = matches!(verb, QueryVerb::Rename { .. });
        let writes = [write("other", QueryVerb::Remove), write("k", verb)];
        for (path, expected) in table {
            let found = is_ambiguous(path.as_bytes(), &writes);
            assert_eq!(found, expected, "{shown} {path}");
        }
        assert_eq!(is_ambiguous(b"/p?a;%6E=1", &writes), renames, "{shown}");
    }
}

#[test]
fn values_arrive_as_they_are() {
    assert_eq!(encode(b"aZ09-._~"), b"aZ09-._~");
    assert_eq!(encode(b" +&=#/?%\n\xff"), b"%20%2B%26%3D%23%2F%3F%25%0A%FF");
}

mod properties {
    use proptest::prelude::*;

    use super::{Parameter, QueryVerb, encode, is_ambiguous, rewrite, write};

    proptest! {
        #[test]
        fn what_the_rule_does_not_name_stays_as_it_is(query in "[a-j=&%+]{0,20}", path in "/[a-z]{0,4}") {
            let whole = format!("{path}?{query}");
            let writes = [write("k", QueryVerb::Remove)];
            let kept = rewrite(whole.as_bytes(), &writes, |_| Parameter::Omit);
            let expected = if query.is_empty() { path } else { whole };
            prop_assert_eq!(kept, expected.into_bytes());
        }

        #[test]
        fn one_that_is_set_is_there_once_for_whoever_divides_at_semicolons(query in "[ak=;&]{0,20}") {
            let whole = format!("/p?{query}");
            let writes = [write("k", QueryVerb::Set(0))];
            let written = rewrite(whole.as_bytes(), &writes, |_| Parameter::Value(b"NEW"));
            let written = String::from_utf8(written).expect("text");
            let (_, query) = written.split_once('?').expect("a query");
            let pieces = query.split(['&', ';']);
            let own = pieces.filter(|piece| *piece == "k" || piece.starts_with("k="));
            let is_once = own.count() == 1;
            prop_assert!(is_once || is_ambiguous(whole.as_bytes(), &writes), "{}", written);
        }

        #[test]
        fn set_leaves_exactly_one(path in prop::collection::vec(any::<u8>(), 0..40), value in prop::collection::vec(any::<u8>(), 0..9)) {
            let writes = [write("k", QueryVerb::Set(0))];
            let value = encode(&value);
            let once = rewrite(&path, &writes, |_| Parameter::Value(&value));
            let twice = rewrite(&once, &writes, |_| Parameter::Value(&value));
            prop_assert_eq!(once, twice);
        }
    }
}
