//! What reaches the upstream: all six verbs, at once and after a wait, and what happens on failure.

use serde_json::{Value, json};

use crate::Action;
use crate::testing::{Gateway, failure, known, rule, secret};

/// The headers that a client sent.
type Sent<'a> = &'a [(&'a str, &'a str)];

const OWN: [(&str, &str); 3] = [(":path", "/p?k=own"), ("x", "own"), ("y", "other")];

/// The header `x` and the path after one verb on both, at once or after a wait.
fn result(verb: &str, sent: &[(&str, &str)], waits: bool) -> (Vec<String>, String) {
    let fields = match verb {
        "remove" => json!({"headers": ["x"], "querystring": ["k"]}),
        "rename" => json!({"headers": {"x": "z"}, "querystring": {"k": "n"}}),
        _ => json!({"headers": {"x": "a-{vault://v/s}"}, "querystring": {"k": "{vault://v/s}"}}),
    };
    let mut request = json!({verb: fields});
    // Something that is always waited for.
    let always = json!({"headers": {"w": "{vault://v/w}"}});
    if verb == "set" {
        request["set"]["headers"]["w"] = always["headers"]["w"].clone();
    } else {
        request["set"] = always;
    }
    let mut gateway = Gateway::envoy();
    if waits {
        assert!(gateway.configure(&rule(&request)), "{:?}", gateway.logs());
        let (_, action) = gateway.request(sent);
        assert_eq!(action, Action::Pause);
        let call = gateway.take_dispatched().remove(0);
        gateway.answer(crate::testing::ROOT, &call, known);
    } else {
        gateway = gateway.warm(&rule(&request));
        assert_eq!(gateway.request(sent).1, Action::Continue);
    }
    assert_eq!(gateway.header("w").as_deref(), Some("<w>"));
    let name = if verb == "rename" { "z" } else { "x" };
    (
        gateway.values(name),
        gateway.header(":path").unwrap_or_default(),
    )
}

#[test]
fn every_verb_comes_out_the_same_at_once_and_after_a_wait() {
    let without = [(":path", "/p?a=1"), ("y", "other")];
    let twice = [(":path", "/p?k=1&k=2"), ("x", "one"), ("x", "two")];
    type Row<'a> = (&'a str, Sent<'a>, &'a [&'a str], &'a str);
    let table: &[Row<'_>] = &[
        ("set", &OWN, &["a-<s>"], "/p?k=%3Cs%3E"),
        ("set", &without, &["a-<s>"], "/p?a=1&k=%3Cs%3E"),
        ("set", &twice, &["a-<s>"], "/p?k=%3Cs%3E"),
        ("add", &OWN, &["own"], "/p?k=own"),
        ("add", &without, &["a-<s>"], "/p?a=1&k=%3Cs%3E"),
        ("add", &twice, &["one", "two"], "/p?k=1&k=2"),
        ("replace", &OWN, &["a-<s>"], "/p?k=%3Cs%3E"),
        ("replace", &without, &[], "/p?a=1"),
        ("replace", &twice, &["a-<s>"], "/p?k=%3Cs%3E"),
        ("append", &OWN, &["own", "a-<s>"], "/p?k=own&k=%3Cs%3E"),
        ("append", &without, &["a-<s>"], "/p?a=1&k=%3Cs%3E"),
        (
            "append",
            &twice,
            &["one", "two", "a-<s>"],
            "/p?k=1&k=2&k=%3Cs%3E",
        ),
        ("remove", &OWN, &[], "/p"),
        ("remove", &without, &[], "/p?a=1"),
        ("remove", &twice, &[], "/p"),
        ("rename", &OWN, &["own"], "/p?n=own"),
        ("rename", &without, &[], "/p?a=1"),
        ("rename", &twice, &["one", "two"], "/p?n=1&n=2"),
    ];
    for (verb, sent, values, path) in table {
        for waits in [false, true] {
            let (found, found_path) = result(verb, sent, waits);
            assert_eq!(
                (found.as_slice(), found_path.as_str()),
                (values.map_owned().as_slice(), *path),
                "{verb} {sent:?} waits: {waits}"
            );
        }
    }
}

trait MapOwned {
    fn map_owned(&self) -> Vec<String>;
}

impl MapOwned for &[&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[test]
fn every_field_is_overwritten_before_the_request_pauses() {
    let mut gateway = Gateway::envoy();
    let request = json!({"set": {"headers": {"x": "{vault://v/a}"}, "querystring": {"k": "{vault://v/b}"}},
        "append": {"headers": {"y": "{vault://v/c}"}}, "add": {"headers": {"new": "{vault://v/d}"}},
        "replace": {"headers": {"absent": "{vault://v/e}"}}});
    assert!(gateway.configure(&rule(&request)));
    gateway.request(&OWN);
    let calls = gateway.calls();
    assert_eq!(calls.last().map(String::as_str), Some("dispatch"));
    assert_eq!(gateway.header(":path").as_deref(), Some("/p?k="));
    for name in ["x", "y", "new"] {
        assert_eq!(gateway.header(name).as_deref(), Some(""), "{name}");
    }
    assert_eq!(gateway.header("absent"), None);
}

#[test]
fn a_parameter_of_the_rule_behind_a_semicolon_is_refused_at_once_and_after_a_wait() {
    let rule = rule(&json!({"set": {"querystring": {"k": "{vault://v/s}"}}}));
    for waits in [false, true] {
        let mut gateway = Gateway::envoy();
        if waits {
            assert!(gateway.configure(&rule), "{:?}", gateway.logs());
        } else {
            gateway = gateway.warm(&rule);
        }
        let lines = gateway.logs().len();
        for path in ["/p?a=1;k=own", "/p?k=1&a;%6B=own"] {
            gateway.request(&[(":path", path)]);
            assert_eq!(gateway.status(), Some(400), "{path} waits: {waits}");
            assert_eq!(gateway.header(":path").as_deref(), Some(path));
            assert_eq!(gateway.take_dispatched().len(), 0);
        }
        assert_eq!(gateway.logs().len(), lines, "{:?}", gateway.logs());
        gateway.request(&[(":path", "/p?a=1;b=2")]);
        assert_eq!(gateway.status(), None);
    }
}

#[test]
fn a_guard_that_the_host_refuses_has_the_request_refused_without_a_call() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&rule(&json!({"set": {"headers": {"x": "{vault://v/a}"}}}))));
    gateway
        .host
        .failures
        .borrow_mut()
        .insert("set_request_header", crate::Status::BadArgument);
    gateway.request(&OWN);
    assert_eq!(gateway.status(), Some(503));
    assert_eq!(gateway.take_dispatched().len(), 0);
}

/// What a rule with all verbs but `set` on other fields gives if its secret is missing.
fn on_error(how: &Value, sent: &[(&str, &str)], waits: bool) -> Gateway {
    let mut configuration = rule(&json!({
        "set": {"headers": {"x": "a-{vault://v/s}", "fine": "{vault://v/fine}"}, "querystring": {"k": "{vault://v/s}"}},
        "append": {"headers": {"y": "{vault://v/s}"}},
        "add": {"headers": {"n": "{vault://v/s}"}}}));
    configuration["on_error"] = how.clone();
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&configuration), "{:?}", gateway.logs());
    let outcome = |reference: &str, _: &Value| match reference {
        "{vault://v/fine}" => secret("fine", "r"),
        _ => failure("denied"),
    };
    if waits {
        let _ = gateway.request(sent);
        let call = gateway.take_dispatched().remove(0);
        gateway.answer(crate::testing::ROOT, &call, outcome);
    } else {
        gateway.tick(0);
        gateway.answer_all(outcome);
        gateway.request(sent);
    }
    gateway
}

#[test]
fn on_error_says_what_becomes_of_the_request() {
    for waits in [false, true] {
        let gateway = on_error(&json!({}), &OWN, waits);
        assert_eq!(gateway.status(), Some(503));
        let gateway = on_error(&json!({"status": 418}), &OWN, waits);
        assert_eq!(gateway.status(), Some(418));
        let answers = [
            (r#"{"error":"later"}"#, "application/json"),
            (r#""later""#, "application/json"),
            ("come back\nlater", "text/plain; charset=utf-8"),
            ("", "text/plain; charset=utf-8"),
        ];
        for (body, content_type) in answers {
            let gateway = on_error(&json!({"status": 429, "body": body}), &OWN, waits);
            let answered = gateway.host.response.borrow();
            let (status, text) = answered.as_ref().expect("an answer");
            assert_eq!((*status, text), (429, &body.escape_default().to_string()));
            drop(answered);
            let sent = gateway.host.response_headers.borrow();
            assert_eq!(
                *sent,
                [("content-type".to_owned(), content_type.to_owned())]
            );
        }
        let gateway = on_error(&json!({"body": "{}"}), &OWN, waits);
        assert_eq!(gateway.status(), Some(503));

        let gateway = on_error(&json!({"without_field": true}), &OWN, waits);
        assert_eq!(gateway.status(), None, "waits: {waits}");
        assert_eq!(gateway.header("fine").as_deref(), Some("fine"));
        assert_eq!(gateway.header("x"), None, "the client's own must not stay");
        assert_eq!(gateway.header("n"), None);
        assert_eq!(gateway.header("y").as_deref(), Some("other"));
        assert_eq!(gateway.header(":path").as_deref(), Some("/p"));

        let gateway = on_error(&json!({"default": "d f"}), &OWN, waits);
        assert_eq!(gateway.status(), None);
        assert_eq!(gateway.header("fine").as_deref(), Some("fine"));
        assert_eq!(gateway.header("x").as_deref(), Some("d f"));
        assert_eq!(gateway.header("n").as_deref(), Some("d f"));
        assert_eq!(gateway.values("y"), ["other", "d f"]);
        assert_eq!(gateway.header(":path").as_deref(), Some("/p?k=d%20f"));
    }
}

#[test]
fn a_secret_with_a_line_feed_is_refused_and_the_log_names_the_field_only() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&rule(&json!({"set": {"headers": {"x": "{vault://v/s}"}}}))));
    gateway.tick(0);
    gateway.answer_all(|_, _| secret("hunter2\r\nx-admin: 1", "r"));
    for _ in 0..3 {
        gateway.request(&OWN);
        assert_eq!(gateway.status(), Some(503));
    }
    let logs = gateway.logs();
    let about: Vec<_> = logs
        .iter()
        .filter(|line| line.contains("control character"))
        .collect();
    assert_eq!(about.len(), 1, "{logs:?}");
    assert!(about[0].contains("/request/set/headers/x"), "{about:?}");
    assert!(!logs.join("\n").contains("hunter2"));
}

mod on_nginx {
    use super::*;

    fn query() -> Value {
        rule(&json!({"set": {"querystring": {"k": "{vault://v/s}"}}}))
    }

    #[test]
    fn the_query_goes_into_the_upstream_uri() {
        for waits in [false, true] {
            let mut gateway = Gateway::nginx();
            gateway
                .host
                .properties
                .borrow_mut()
                .insert("ngx.upstream_uri".into(), b"/up?k=own".to_vec());
            if waits {
                assert!(gateway.configure(&query()));
                assert_eq!(gateway.request(&OWN).1, Action::Pause);
                let guarded = gateway.host.properties.borrow()["ngx.upstream_uri"].clone();
                assert_eq!(guarded, b"/up?k=");
                gateway.answer_all(known);
            } else {
                gateway = gateway.warm(&query());
                assert_eq!(gateway.request(&OWN).1, Action::Continue);
            }
            let path = gateway.host.properties.borrow()["ngx.upstream_uri"].clone();
            assert_eq!(path, b"/up?k=%3Cs%3E", "waits: {waits}");
            assert_eq!(gateway.header(":path").as_deref(), Some("/p?k=own"));
        }
    }

    #[test]
    fn what_counts_is_what_goes_upstream() {
        let mut gateway = Gateway::nginx().warm(&query());
        for (upstream, status) in [("/up?a;k=own", Some(400)), ("/up?a;b", None)] {
            let mut properties = gateway.host.properties.borrow_mut();
            properties.insert("ngx.upstream_uri".into(), upstream.into());
            drop(properties);
            gateway.request(&[(":path", "/p?x;k=y")]);
            assert_eq!(gateway.status(), status, "{upstream}");
        }
    }

    #[test]
    fn without_that_property_the_request_is_refused_and_the_log_says_so_once() {
        let mut gateway = Gateway::nginx().warm(&query());
        for _ in 0..3 {
            gateway.request(&OWN);
            assert_eq!(gateway.status(), Some(503));
            assert_eq!(
                gateway.calls(),
                ["respond 503"],
                "a set would end the request"
            );
        }
        let logs = gateway.logs();
        let about = logs
            .iter()
            .filter(|line| line.contains("ngx.upstream_uri"))
            .count();
        assert_eq!(about, 1, "{logs:?}");
    }
}
