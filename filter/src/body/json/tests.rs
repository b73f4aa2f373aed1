//! Edits byte for byte, and against a model over parsed values.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BodyError, Edit, Verb, check, edit, text};
use crate::body::pointer;
use crate::body::text::quote;

/// Verbs with pointers and values.
type Edits<'a> = &'a [(&'a str, &'a str, &'a str)];

fn path(pointer: &str) -> Vec<String> {
    pointer::parse(pointer).expect("a pointer")
}

/// What a body becomes by these edits, each a verb, a pointer and a value (for `rename` a name; `-`
/// leaves the field out).
fn edited(body: &str, edits: Edits<'_>) -> Result<String, BodyError> {
    let paths: Vec<_> = edits.iter().map(|(_, pointer, _)| path(pointer)).collect();
    let edits: Vec<_> = edits
        .iter()
        .zip(&paths)
        .map(|((verb, _, value), path)| Edit {
            path,
            verb: verb_of(verb, value),
        })
        .collect();
    let edited = edit(body.as_bytes(), &edits)?;
    Ok(String::from_utf8(edited.expose().to_vec()).expect("UTF-8"))
}

fn verb_of<'a>(verb: &str, value: &'a str) -> Verb<'a> {
    let given = (value != "-").then_some(value.as_bytes());
    match verb {
        "add" => Verb::Add(given),
        "append" => Verb::Append(given),
        "remove" => Verb::Remove,
        "rename" => Verb::Rename(value),
        "replace" => Verb::Replace(given),
        _ => Verb::Set(given),
    }
}

#[test]
fn only_the_bytes_of_the_field_change() {
    let body = " {\"z\" : 1.00e+400,\"a\":{ \"k\" :\t\"own\" , \"k2\":[1 , 2]},\n \"z\":-0, \"é\\u00e9\":\"\\/\"}\n";
    let table: &[(Edits<'_>, &str)] = &[
        (&[], body),
        (&[("replace", "/none", "\"s\"")], body),
        (&[("remove", "/none", "")], body),
        (&[("rename", "/none", "n")], body),
        (&[("add", "/a/k", "\"s\"")], body),
        (&[("append", "/a/k", "-")], body),
        (
            &[("set", "/a/k", "\"s\"")],
            " {\"z\" : 1.00e+400,\"a\":{ \"k\" :\t\"s\" , \"k2\":[1 , 2]},\n \"z\":-0, \"é\\u00e9\":\"\\/\"}\n",
        ),
        (
            &[("set", "/new/deep", "\"s\"")],
            " {\"z\" : 1.00e+400,\"a\":{ \"k\" :\t\"own\" , \"k2\":[1 , 2]},\n \"z\":-0, \"é\\u00e9\":\"\\/\",\"new\":{\"deep\":\"s\"}}\n",
        ),
        (
            &[("remove", "/a/k", ""), ("add", "/a/k3", "\"s\"")],
            " {\"z\" : 1.00e+400,\"a\":{ \"k2\":[1 , 2],\"k3\":\"s\"},\n \"z\":-0, \"é\\u00e9\":\"\\/\"}\n",
        ),
        (
            &[("rename", "/éé", "\"\n")],
            " {\"z\" : 1.00e+400,\"a\":{ \"k\" :\t\"own\" , \"k2\":[1 , 2]},\n \"z\":-0, \"\\\"\\u000a\":\"\\/\"}\n",
        ),
    ];
    for (edits, expected) in table {
        assert_eq!(edited(body, edits).as_deref(), Ok(*expected), "{edits:?}");
    }
}

#[test]
fn each_verb_does_what_it_does_in_request_transformer() {
    type Row<'a> = (&'a str, Edits<'a>, &'a str);
    let table: &[Row<'_>] = &[
        (r#"{}"#, &[("set", "/k", "9")], r#"{"k":9}"#),
        (r#"{"k":[1]}"#, &[("set", "/k", "9")], r#"{"k":9}"#),
        (r#"{"k":1}"#, &[("set", "/k", "-")], r#"{}"#),
        (r#"{"k":1}"#, &[("add", "/k", "9")], r#"{"k":1}"#),
        (r#"{"k":null}"#, &[("add", "/k", "9")], r#"{"k":null}"#),
        (r#"{"j":1}"#, &[("add", "/k", "9")], r#"{"j":1,"k":9}"#),
        (r#"{"j":1}"#, &[("add", "/k", "-")], r#"{"j":1}"#),
        (r#"{"k":1}"#, &[("replace", "/k", "9")], r#"{"k":9}"#),
        (r#"{"k":1}"#, &[("replace", "/k", "-")], r#"{}"#),
        (r#"{"j":1}"#, &[("replace", "/k", "9")], r#"{"j":1}"#),
        (
            r#"{"a":1,"k":1,"b":2}"#,
            &[("remove", "/k", "")],
            r#"{"a":1,"b":2}"#,
        ),
        (r#"{"k":1,"b":2}"#, &[("remove", "/k", "")], r#"{"b":2}"#),
        (r#"{"k":"a"}"#, &[("append", "/k", "9")], r#"{"k":["a",9]}"#),
        (r#"{"k":1}"#, &[("append", "/k", "9")], r#"{"k":[1,9]}"#),
        (r#"{"k":null}"#, &[("append", "/k", "9")], r#"{"k":[9]}"#),
        (r#"{"k":[ ]}"#, &[("append", "/k", "9")], r#"{"k":[ 9]}"#),
        (
            r#"{"k":[1,[2]]}"#,
            &[("append", "/k", "9")],
            r#"{"k":[1,[2],9]}"#,
        ),
        (r#"{}"#, &[("append", "/k", "9")], r#"{"k":[9]}"#),
        (r#"{"k":1,"n":2}"#, &[("rename", "/k", "n")], r#"{"n":1}"#),
        (r#"{"n":2,"k":1}"#, &[("rename", "/k", "n")], r#"{"n":1}"#),
        (r#"{"n":2}"#, &[("rename", "/k", "n")], r#"{"n":2}"#),
        // Lists.
        (r#"[1,2]"#, &[("set", "/0", "9")], r#"[9,2]"#),
        (r#"[1,2]"#, &[("set", "/2", "9")], r#"[1,2,9]"#),
        (r#"[]"#, &[("add", "/-", "9")], r#"[9]"#),
        (
            r#"[1]"#,
            &[("add", "/-", "8"), ("set", "/1", "9")],
            r#"[1,8,9]"#,
        ),
        (
            r#"[1,2,3]"#,
            &[("remove", "/0", ""), ("set", "/1", "9")],
            r#"[9,3]"#,
        ),
        (r#"[{"k":1}]"#, &[("set", "/0/k", "9")], r#"[{"k":9}]"#),
        (r#"[]"#, &[("set", "/-/k", "9")], r#"[{"k":9}]"#),
        (r#"[1]"#, &[("remove", "/7", "")], r#"[1]"#),
        (r#"{"0":1}"#, &[("set", "/0", "9")], r#"{"0":9}"#),
        // What is made on the way is made once.
        (
            r#"{}"#,
            &[
                ("set", "/a/k", "8"),
                ("add", "/a/b/c", "9"),
                ("replace", "/a/x", "7"),
            ],
            r#"{"a":{"k":8,"b":{"c":9}}}"#,
        ),
        (r#"{}"#, &[("replace", "/a/x", "7")], r#"{}"#),
        // A scalar on the way is a reason to refuse only if something was to be written there.
        (
            r#"{"a":1}"#,
            &[("replace", "/a/k", "9"), ("remove", "/a/l", "")],
            r#"{"a":1}"#,
        ),
        (r#"{"a":1}"#, &[("set", "/a/k", "-")], r#"{"a":1}"#),
        // However a name is written.
        (r#"{"\u006B":1}"#, &[("set", "/k", "9")], r#"{"\u006B":9}"#),
        (r#"{"\ud83d\ude00":1}"#, &[("remove", "/😀", "")], r#"{}"#),
        (
            r#"{"a/b":{"~":1}}"#,
            &[("set", "/a~1b/~0", "9")],
            r#"{"a/b":{"~":9}}"#,
        ),
    ];
    for (body, edits, expected) in table {
        assert_eq!(
            edited(body, edits).as_deref(),
            Ok(*expected),
            "{body} {edits:?}"
        );
    }
}

#[test]
fn what_cannot_be_edited_is_refused_whole() {
    use BodyError::{Ambiguous, Malformed, Mismatch, TooDeep};
    let set = &[("set", "/k", "9")][..];
    let deep = &[("set", "/a/k", "9")][..];
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let table: &[(&str, Edits<'_>, BodyError)] = &[
        ("", set, Malformed),
        ("\u{feff}{}", set, Malformed),
        ("{} x", set, Malformed),
        ("{}{}", set, Malformed),
        ("{'k':1}", set, Malformed),
        ("{\"k\":1,}", set, Malformed),
        ("{\"k\":01}", set, Malformed),
        ("{\"k\":1.}", set, Malformed),
        ("{\"k\":tru}", set, Malformed),
        ("{\"k\":\"\n\"}", set, Malformed),
        ("{\"k\":\"\\x\"}", set, Malformed),
        ("{\"k\":\"\\u12g4\"}", set, Malformed),
        ("{\"k\":1", set, Malformed),
        ("{\"k\"}", set, Malformed),
        ("{,}", set, Malformed),
        ("[1,]", set, Malformed),
        ("k=v", set, Malformed),
        ("{\"j\":[1,2", deep, Malformed),
        ("\"text\"", set, Mismatch),
        ("null", set, Mismatch),
        ("[1]", set, Mismatch),
        ("{\"a\":\"x\"}", deep, Mismatch),
        ("{\"a\":[]}", deep, Mismatch),
        ("[1]", &[("set", "/2", "9")], Mismatch),
        ("[1]", &[("set", "/00", "9")], Mismatch),
        ("[1]", &[("rename", "/0", "n")], Mismatch),
        ("{\"k\":{}}", &[("append", "/k", "9")], Mismatch),
        ("{\"k\":1,\"k\":2}", set, Ambiguous),
        (
            "{\"k\":1,\"\\u006b\":2}",
            &[("remove", "/k", "")],
            Ambiguous,
        ),
        ("{\"a\":{},\"a\":{\"k\":1}}", deep, Ambiguous),
        ("{\"k\":1,\"k\":2}", &[("rename", "/k", "n")], Ambiguous),
    ];
    for (body, edits, expected) in table {
        assert_eq!(edited(body, edits), Err(*expected), "{body} {edits:?}");
    }
    assert!(edited(&nested(128), &[]).is_ok());
    assert_eq!(edited(&nested(129), &[]), Err(TooDeep));
    let inside = format!("{{\"a\":{{\"k\":{}}}}}", nested(127));
    assert_eq!(edited(&inside, deep), Err(TooDeep));
    assert_eq!(edit(b"{\"k\":\"\xff\"}", &[]).err(), Some(Malformed));
}

#[test]
fn texts_are_read_as_they_are_meant() {
    let body = r#" {"a":{"k":"o\u0077n\ud83d\ude00\n\/","n":1},"l":["x",{"y":"z"}],"t":1,"t":2,"bad":"\ud800"} "#;
    for (pointer, expected) in [
        ("/a/k", Ok(Some("own😀\n/"))),
        ("/a/n", Ok(None)),
        ("/a", Ok(None)),
        ("/a/none", Ok(None)),
        ("/a/k/x", Ok(None)),
        ("/l/0", Ok(Some("x"))),
        ("/l/1/y", Ok(Some("z"))),
        ("/l/2", Ok(None)),
        ("/l/-", Ok(None)),
        ("/t", Err(BodyError::Ambiguous)),
        ("/bad", Err(BodyError::Malformed)),
    ] {
        let found = text(body.as_bytes(), &path(pointer));
        assert_eq!(
            found.as_ref().map(Option::as_deref),
            expected.as_ref().map(|text| *text),
            "{pointer}"
        );
    }
    assert_eq!(check(body.as_bytes()), Ok(()));
    for body in ["{\"k\":\"v\"", "{\"k\":\"v\"} x", "", "{\"k\":v}"] {
        assert_eq!(check(body.as_bytes()), Err(BodyError::Malformed), "{body}");
    }
}

#[test]
fn a_quoted_text_is_read_back() {
    let odd = "a\"\\\u{0}\u{1f}\u{7f}\n\u{e9}\u{2028}😀</";
    let quoted = quote(odd.as_bytes()).expect("UTF-8");
    assert_eq!(
        serde_json::from_slice::<String>(&quoted).expect("JSON"),
        odd
    );
    assert_eq!(quoted.len(), quoted.capacity());
    assert_eq!(quote(b"\xff"), None);
}

/// What an edit is to do, said over parsed values.
fn model(value: &mut Value, path: &[String], verb: &str, new: &Value) -> Result<(), BodyError> {
    let creates = matches!(verb, "add" | "append" | "set");
    let Some((name, rest)) = path.split_first() else {
        return Ok(());
    };
    let made = |rest: &[String]| {
        let end = match verb {
            "append" => json!([new]),
            _ => new.clone(),
        };
        rest.iter()
            .rev()
            .fold(end, |inner, name| json!({ name: inner }))
    };
    let length = value.as_array().map(Vec::len);
    let slot = match value {
        Value::Object(members) => members.get_mut(name),
        Value::Array(items) => super::pointer::index(name).and_then(|at| items.get_mut(at)),
        _ if creates => return Err(BodyError::Mismatch),
        _ => return Ok(()),
    };
    let Some(slot) = slot else {
        match value {
            _ if !creates => {}
            Value::Object(members) => {
                members.insert(name.clone(), made(rest));
            }
            Value::Array(items) if name == "-" || super::pointer::index(name) == length => {
                items.push(made(rest));
            }
            _ => return Err(BodyError::Mismatch),
        }
        return Ok(());
    };
    if !rest.is_empty() {
        return model(slot, rest, verb, new);
    }
    match (verb, &mut *slot) {
        ("set" | "replace", slot) => *slot = new.clone(),
        ("append", Value::Object(_)) => return Err(BodyError::Mismatch),
        ("append", Value::Array(items)) => items.push(new.clone()),
        ("append", Value::Null) => *slot = json!([new]),
        ("append", slot) => *slot = json!([slot.clone(), new]),
        ("remove", _) => match value {
            Value::Array(items) => {
                items.remove(name.parse().expect("an index"));
            }
            Value::Object(members) => {
                members.remove(name);
            }
            _ => {}
        },
        _ => {}
    }
    Ok(())
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let name = prop_oneof!["[ab01]", "\\PC{0,2}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_path() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab012-]", 1..4)
}

fn any_verb() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["add", "append", "remove", "replace", "set"])
}

fn overlap(one: &[String], other: &[String]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

proptest! {
    #[test]
    fn an_edit_is_what_the_model_says(
        value in any_json(),
        pretty in any::<bool>(),
        path in any_path(),
        verb in any_verb(),
        new in any_json(),
    ) {
        let body = match pretty {
            true => serde_json::to_string_pretty(&value).expect("JSON"),
            false => value.to_string(),
        };
        let text = new.to_string();
        let mut expected = value;
        let outcome = model(&mut expected, &path, verb, &new);
        let edits = [Edit { path: &path, verb: verb_of(verb, &text) }];
        let edited = edit(body.as_bytes(), &edits);
        prop_assert_eq!(edited.as_ref().err().copied(), outcome.err());
        if let Ok(edited) = edited {
            let edited: Value = serde_json::from_slice(edited.expose()).expect("JSON");
            prop_assert_eq!(edited, expected);
        }
    }

    #[test]
    fn edits_of_objects_together_are_those_edits_in_turn(
        value in any_json(),
        edits in prop::collection::vec((prop::collection::vec("[ab]", 1..4), any_verb(), any_json()), 0..4),
    ) {
        let mut kept: Vec<(Vec<String>, &str, String)> = Vec::new();
        for (path, verb, new) in edits {
            if kept.iter().all(|(other, ..)| !overlap(other, &path)) {
                kept.push((path, verb, new.to_string()));
            }
        }
        let body = value.to_string();
        let edits: Vec<_> = kept.iter().map(|(path, verb, new)| Edit { path, verb: verb_of(verb, new) }).collect();
        let together = edit(body.as_bytes(), &edits);
        let mut in_turn = Ok(body.into_bytes());
        for one in &edits {
            in_turn = in_turn.and_then(|body| edit(&body, &[*one]).map(|new| new.expose().to_vec()));
        }
        match (together, in_turn) {
            (Ok(together), Ok(in_turn)) => {
                let parsed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
                prop_assert_eq!(parsed(together.expose()), parsed(&in_turn));
            }
            (together, in_turn) => prop_assert_eq!(together.err(), in_turn.err()),
        }
    }

    #[test]
    fn a_body_is_taken_exactly_if_it_is_json(body in "[ \\[\\]{}:,\"a0-9.eE+\\\\utrnlfs-]{0,24}") {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok();
        let kept = edit(body.as_bytes(), &[]);
        prop_assert_eq!(kept.is_ok(), is_json);
        if let Ok(kept) = kept {
            prop_assert_eq!(kept.expose(), body.as_bytes());
        }
    }

    #[test]
    fn nothing_panics_whatever_the_bytes(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "[ \\[\\]{}:,\"ab01.eE\\\\u-]{0,40}".prop_map(String::into_bytes),
        ],
        path in any_path(),
        verb in prop::sample::select(vec!["add", "append", "remove", "rename", "replace", "set"]),
    ) {
        let _ = text(&body, &path);
        if let Ok(edited) = edit(&body, &[Edit { path: &path, verb: verb_of(verb, "\"s\"") }]) {
            let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(edited.expose());
            prop_assert!(parsed.is_ok());
        }
    }

    #[test]
    fn what_was_set_is_read(value in any_json(), path in prop::collection::vec("\\PC{0,3}", 1..3), new in "\\PC{0,8}") {
        let quoted = quote(new.as_bytes()).expect("UTF-8");
        let edits = [Edit { path: &path, verb: Verb::Set(Some(&quoted)) }];
        if let Ok(edited) = edit(value.to_string().as_bytes(), &edits)
            && path.iter().all(|name| name != "-")
        {
            prop_assert_eq!(text(edited.expose(), &path), Ok(Some(new)));
        }
    }
}
