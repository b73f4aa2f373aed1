//! Forms: what is read and written, and what is none.

use proptest::prelude::*;

use super::{BodyError, check, edit};
use crate::compile::{QueryVerb, QueryWrite};
use crate::query::{self, Parameter};

fn write(name: &str, verb: QueryVerb) -> QueryWrite {
    QueryWrite {
        name: name.to_owned(),
        written: query::encode(name.as_bytes()),
        verb,
    }
}

fn edited(body: &[u8], writes: &[QueryWrite], value: Parameter<'_>) -> Result<String, BodyError> {
    let edited = edit(body, writes, |_| value)?;
    Ok(String::from_utf8_lossy(edited.expose()).into_owned())
}

#[test]
fn each_verb_does_what_it_does_to_a_query_string() {
    type Row<'a> = (&'a str, QueryVerb, &'a str);
    let table: Vec<Row<'_>> = vec![
        ("a=1&k=own&b=2", QueryVerb::Set(0), "a=1&k=s%2F&b=2"),
        ("k=1&a&%6b=2", QueryVerb::Set(0), "k=s%2F&a"),
        ("", QueryVerb::Set(0), "k=s%2F"),
        ("a=x+y%20z", QueryVerb::Set(0), "a=x+y%20z&k=s%2F"),
        ("k=own", QueryVerb::Add(0), "k=own"),
        ("a", QueryVerb::Add(0), "a&k=s%2F"),
        ("a", QueryVerb::Replace(0), "a"),
        ("k&a", QueryVerb::Replace(0), "k=s%2F&a"),
        ("k=own&a", QueryVerb::Append(0), "k=own&a&k=s%2F"),
        ("k=1&a&k=2", QueryVerb::Remove, "a"),
        ("k=1", QueryVerb::Remove, ""),
        ("k=1&n=2", QueryVerb::Rename { to: b"n".to_vec() }, "n=1"),
    ];
    for (body, verb, expected) in table {
        let message = format!("{body} {verb:?}");
        let written = edited(
            body.as_bytes(),
            &[write("k", verb)],
            Parameter::Value(b"s%2F"),
        );
        assert_eq!(written.as_deref(), Ok(expected), "{message}");
    }
    let left_out = edited(
        b"a=1&k=2",
        &[write("k", QueryVerb::Set(0))],
        Parameter::Omit,
    );
    assert_eq!(left_out.as_deref(), Ok("a=1"));
}

#[test]
fn a_form_that_some_divide_elsewhere_is_refused() {
    for body in ["a=1;k=own", "a;b", ";"] {
        let set = [write("k", QueryVerb::Set(0))];
        let written = edited(body.as_bytes(), &set, Parameter::Value(b"s"));
        assert_eq!(written, Err(BodyError::Ambiguous), "{body}");
    }
    let set = [write("k", QueryVerb::Set(0))];
    let written = edited(b"a=1%3Bk=own", &set, Parameter::Value(b"s"));
    assert_eq!(written.as_deref(), Ok("a=1%3Bk=own&k=s"));
}

#[test]
fn what_is_no_form_is_refused() {
    for body in [
        &b"{\"k\":\"v\"}"[..],
        b"[1]",
        b"a=\n",
        b"a=\0",
        b"a=%",
        b"a=%4",
        b"a=%zz",
        b"--x\r\ncontent-disposition: form-data",
    ] {
        let refused = edited(
            body,
            &[write("k", QueryVerb::Set(0))],
            Parameter::Value(b"s"),
        );
        assert_eq!(refused, Err(BodyError::Malformed), "{body:?}");
        assert_eq!(check(body), Err(BodyError::Malformed));
    }
}

fn read(body: &[u8], name: &str) -> Vec<Vec<u8>> {
    query::values(body, name).map(query::decode).collect()
}

#[test]
fn values_are_read_as_they_are_meant() {
    let body = b"a=1&k+k=x+y%2B%C3%A9&b&c=%ff&t=1&%74=2&e=";
    let none: Vec<Vec<u8>> = Vec::new();
    assert_eq!(read(body, "k k"), ["x y+\u{e9}".as_bytes()]);
    assert_eq!(read(body, "b"), [b""]);
    assert_eq!(read(body, "e"), [b""]);
    assert_eq!(read(body, "none"), none);
    assert_eq!(read(body, "c"), [b"\xff"]);
    assert_eq!(read(body, "t"), [b"1", b"2"]);
}

proptest! {
    #[test]
    fn what_was_set_is_read(body in "[ak&=%20+]{0,16}", name in "\\PC{1,3}", new in "\\PC{0,8}") {
        let value = query::encode(new.as_bytes());
        let writes = [write(&name, QueryVerb::Set(0))];
        if let Ok(edited) = edit(body.as_bytes(), &writes, |_| Parameter::Value(&value)) {
            prop_assert_eq!(read(edited.expose(), &name), [new.as_bytes()]);
        }
    }

    #[test]
    fn nothing_panics_whatever_the_bytes(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = (check(&body), read(&body, "k"));
        let _ = edited(&body, &[write("k", QueryVerb::Set(0))], Parameter::Value(b"s"));
    }
}
