//! References that stand in bodies: which are looked at, what is asked, what is written.

use serde_json::{Value, json};

use super::dynamic::{asked, one_call, path};
use super::responses::answer;
use crate::Action;
use crate::testing::{Gateway, ROOT, failure, secret};

pub(super) const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

pub(super) const BODY: &str = r#"{"n":1.0e0,"auth":{"key":"K {vault://tenants/a/k}!"},"list":["{vault://tenants/a/k}",{"at":"{vault://tenants/b/k}"}]}"#;
pub(super) const WRITTEN: &str = r#"{"n":1.0e0,"auth":{"key":"K <tenants|a|k>!"},"list":["{vault://tenants/a/k}",{"at":"<tenants|b|k>"}],"own":"<own>"}"#;

/// Two fields of a JSON body may hold references, beside one that the rule writes.
pub(super) fn resolving() -> Value {
    json!({"resolver": {"upstream": "u"},
        "request": {"set": {"body": {"/own": "{vault://v/own}"}}},
        "resolve": {"body": ["/auth/key", "/list/1/at", "/none"], "allow": ["tenants/*"]}})
}

/// One header and one field of a form may.
fn of_form() -> Value {
    json!({"resolver": {"upstream": "u"},
        "resolve": {"headers": ["x-key"], "body": ["key"], "allow": ["tenants/*"], "max": 3}})
}

pub(super) fn post(
    gateway: &mut Gateway,
    kind: (&'static str, &'static str),
    headers: &[(&str, &str)],
    body: &str,
) -> (u32, Action) {
    let length = body.len().to_string();
    let mut all = vec![kind, ("content-length", &length)];
    all.extend(headers);
    gateway.post(&all, body)
}

pub(super) fn resumes(gateway: &Gateway) -> usize {
    let calls = gateway.calls();
    calls.iter().filter(|call| *call == "resume").count()
}

#[test]
fn a_body_waits_in_envoy_for_what_is_unknown_and_costs_no_call_afterwards() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    let (context, action) = post(&mut gateway, JSON, &[], BODY);
    assert_eq!(action, Action::Continue, "its headers have all they need");
    assert_eq!(gateway.arrive(context, 10, false), Action::Pause);
    assert_eq!(gateway.take_dispatched().len(), 0);
    assert_eq!(gateway.end_body(context), Action::Pause);
    assert_eq!(gateway.body(), BODY);
    let expected = ["{vault://tenants/a/k}", "{vault://tenants/b/k}"];
    assert_eq!(one_call(&mut gateway), expected);
    assert_eq!(gateway.body(), WRITTEN);
    assert_eq!(resumes(&gateway), 1);

    let (context, _) = post(&mut gateway, JSON, &[], BODY);
    assert_eq!(gateway.end_body(context), Action::Continue);
    assert_eq!(gateway.body(), WRITTEN);
    assert_eq!(gateway.take_dispatched().len(), 0);
    assert_eq!(resumes(&gateway), 0);
}

#[test]
fn in_nginx_what_is_unknown_meets_on_error_and_the_next_poll_asks_for_it() {
    for (on_error, expected) in [
        (json!({}), Err(503)),
        (json!({"default": "d\""}), Ok(r#"{"k":"d\""}"#)),
        (json!({"without_field": true}), Ok("{}")),
    ] {
        let mut configuration = json!({"resolver": {"upstream": "u"},
            "resolve": {"body": ["/k"], "allow": ["tenants/*"]}});
        configuration["on_error"] = on_error;
        let mut gateway = Gateway::nginx().warm(&configuration);
        let body = r#"{"k":"{vault://tenants/a/k}"}"#;
        let (context, action) = post(&mut gateway, JSON, &[], body);
        assert_eq!(action, Action::Continue);
        let action = gateway.end_body(context);
        assert_eq!(gateway.take_dispatched().len(), 0, "it would trap");
        match expected {
            Ok(body) => assert_eq!(gateway.body(), body),
            Err(status) => assert_eq!(gateway.status(), Some(status)),
        }
        assert_eq!(action == Action::Continue, expected.is_ok());
        gateway.vm.on_delete(context);

        // A resolver that is still reading is asked again, one that knows nothing is not.
        for answer in ["pending", "not-found"] {
            gateway.tick(1000);
            let poll = gateway.take_dispatched().remove(0);
            assert_eq!(asked(&poll), ["{vault://tenants/a/k}"], "{answer}");
            gateway.answer(ROOT, &poll, |_, _| failure(answer));
        }
        gateway.tick(1000);
        assert_eq!(gateway.take_dispatched().len(), 0);

        gateway.tick(5000);
        let (context, _) = post(&mut gateway, JSON, &[], body);
        gateway.end_body(context);
        gateway.tick(1000);
        gateway.answer_all(path);
        let (context, _) = post(&mut gateway, JSON, &[], body);
        assert_eq!(gateway.end_body(context), Action::Continue);
        assert_eq!(gateway.body(), r#"{"k":"<tenants|a|k>"}"#);
    }
}

#[test]
fn a_field_of_a_form_is_read_and_written_encoded() {
    let mut gateway = Gateway::envoy().warm(&of_form());
    let body = "a={vault://tenants/c/k}&key=K+%7Bvault://tenants/a/k%7D&b";
    let headers = [("x-key", "{vault://tenants/b/k}")];
    let (context, action) = post(&mut gateway, FORM, &headers, body);
    assert_eq!(action, Action::Pause);
    assert_eq!(one_call(&mut gateway), ["{vault://tenants/b/k}"]);
    assert_eq!(gateway.end_body(context), Action::Pause);
    assert_eq!(one_call(&mut gateway), ["{vault://tenants/a/k}"]);
    let written = "a={vault://tenants/c/k}&key=K%20%3Ctenants%7Ca%7Ck%3E&b";
    assert_eq!(gateway.body(), written);
    assert_eq!(gateway.header("x-key").as_deref(), Some("<tenants|b|k>"));
}

#[test]
fn a_json_text_is_read_as_it_is_meant() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    let body = r#"{"auth":{"k\u0065y":"\u007bvault:\/\/tenants/a/k}"}}"#;
    let (context, _) = post(&mut gateway, JSON, &[], body);
    assert_eq!(gateway.end_body(context), Action::Pause);
    assert_eq!(one_call(&mut gateway), ["{vault://tenants/a/k}"]);
    let written = r#"{"auth":{"k\u0065y":"<tenants|a|k>"},"own":"<own>"}"#;
    assert_eq!(gateway.body(), written);
}

#[test]
fn what_has_no_reference_costs_nothing() {
    for mut gateway in [Gateway::envoy(), Gateway::nginx()] {
        gateway = gateway.warm(&json!({"resolver": {"upstream": "u"},
            "resolve": {"body": ["/k"], "allow": ["tenants/*"]}}));
        for body in [
            r#"{"k":"plain"}"#,
            r#"{"k":7}"#,
            r#"{"k":{"x":"{vault://tenants/a/k}"}}"#,
            r#"{"k":"{{vault://tenants/a/k}"}"#,
            r#"["{vault://tenants/a/k}"]"#,
            r#"{"k":"{VAULT://tenants/a/k}"}"#,
        ] {
            let (context, _) = post(&mut gateway, JSON, &[], body);
            assert_eq!(gateway.end_body(context), Action::Continue, "{body}");
            assert_eq!(gateway.body(), body);
            gateway.vm.on_delete(context);
        }
        gateway.request(&[]);
        assert_eq!(gateway.status(), None, "no body, no matter");
        assert_eq!(gateway.take_dispatched().len(), 0);
    }
}

#[test]
fn what_cannot_be_used_is_refused_and_nobody_asked() {
    let one = "{vault://tenants/a/k}";
    let table = [
        (format!("key={one}{one}{one}{one}"), "", 400),
        (
            format!("key={one}{one}"),
            "{vault://tenants/b/k}{vault://tenants/b/k}",
            400,
        ),
        (format!("key={one}&key=2"), "", 400),
        ("key={vault://env/AWS_SECRET_ACCESS_KEY}".into(), "", 403),
        ("key={vault://tenants/a/k%253Fttl=1}".into(), "", 503),
        ("key={vault://tenants/a/k?ttl=1}".into(), "", 400),
        ("key={vault://tenants/a/k%3Fttl=1}".into(), "", 400),
        ("key={vault://tenants/a/k%25231}".into(), "", 503),
        ("key={vault://tenants/a/k#1}".into(), "", 400),
        ("key={vault://tenants/../env/k}".into(), "", 400),
        ("key={vault://tenants/%252e%252e/k}".into(), "", 400),
        ("key={vault://tenants}".into(), "", 400),
        (format!("key={one}%ff"), "", 400),
        (format!("key={one};x=1"), "", 422),
        (format!("key={one}%2"), "", 422),
    ];
    for (body, header, status) in table {
        for nginx in [false, true] {
            let mut gateway = if nginx {
                Gateway::nginx()
            } else {
                Gateway::envoy()
            };
            let mut configuration = of_form();
            configuration["on_error"] = json!({"status": 422});
            gateway = gateway.warm(&configuration);
            let headers = [("x-key", header)];
            let (context, _) = post(&mut gateway, FORM, &headers, &body);
            if !header.is_empty() {
                one_call(&mut gateway);
            }
            if status == 503 {
                // `?` and `#` of a name are a part of it, and nobody has that.
                let action = gateway.end_body(context);
                assert_eq!(action, Action::Pause);
                gateway.answer_all(|_, _| failure("not-found"));
                assert_eq!(gateway.status(), Some(422), "{body}");
                continue;
            }
            assert_eq!(gateway.end_body(context), Action::Pause, "{body}");
            assert_eq!(gateway.take_dispatched().len(), 0, "{body}");
            assert_eq!(gateway.status(), Some(status), "{body}");
            assert_eq!(gateway.body(), body);
            // Whatever comes afterwards goes nowhere.
            assert_eq!(gateway.end_body(context), Action::Pause);
        }
    }
}

#[test]
fn what_cannot_be_had_meets_on_error_after_the_wait() {
    let body = r#"{"auth":{"key":"{vault://tenants/none/k}"},"own":1}"#;
    for (on_error, expected) in [
        (json!({}), Err(503)),
        (json!({"status": 502}), Err(502)),
        (
            json!({"default": "d"}),
            Ok(r#"{"auth":{"key":"d"},"own":"<own>"}"#),
        ),
        (
            json!({"without_field": true}),
            Ok(r#"{"auth":{},"own":"<own>"}"#),
        ),
    ] {
        let mut configuration = resolving();
        configuration["on_error"] = on_error;
        let mut gateway = Gateway::envoy().warm(&configuration);
        for known in [false, true] {
            let (context, _) = post(&mut gateway, JSON, &[], body);
            let action = gateway.end_body(context);
            assert_eq!(gateway.take_dispatched().len(), usize::from(!known));
            if !known {
                assert_eq!(action, Action::Pause);
                let (context, _) = post(&mut gateway, JSON, &[], body);
                assert_eq!(gateway.end_body(context), Action::Pause);
                assert_eq!(gateway.status(), None);
                one_call(&mut gateway);
            }
            match expected {
                Ok(expected) => assert_eq!(gateway.body(), expected),
                Err(status) => assert_eq!(gateway.status(), Some(status)),
            }
        }
        let logs = gateway.logs().join("\n");
        let why = "/resolve/body/0 from the vault 'tenants': not-found";
        assert!(logs.contains(why), "{logs}");
        assert!(!logs.contains("none"), "{logs}");
    }
}

#[test]
fn an_item_that_is_taken_away_moves_no_other() {
    let mut configuration = json!({"resolver": {"upstream": "u"},
        "request": {"remove": {"body": ["/l/1"]}, "set": {"body": {"/l/3": "{vault://v/own}"}}},
        "resolve": {"body": ["/l/0", "/l/2"], "allow": ["tenants/*"]}});
    configuration["on_error"] = json!({"without_field": true});
    let mut gateway = Gateway::envoy().warm(&configuration);
    let body = r#"{"l":["{vault://tenants/none/k}",1,"{vault://tenants/a/k}",3,4]}"#;
    let (context, _) = post(&mut gateway, JSON, &[], body);
    assert_eq!(gateway.end_body(context), Action::Pause);
    one_call(&mut gateway);
    assert_eq!(gateway.body(), r#"{"l":["<tenants|a|k>","<own>",4]}"#);
}

#[test]
fn the_host_s_function_is_asked_as_well() {
    for nginx in [false, true] {
        let mut gateway = if nginx {
            Gateway::nginx()
        } else {
            Gateway::envoy()
        };
        let mut configuration = resolving();
        configuration["resolver"] = json!({"host_function": true});
        configuration["request"] = json!({});
        gateway.host_answers(|_, _| failure("pending"));
        assert!(gateway.configure(&configuration));
        let (context, action) = post(&mut gateway, JSON, &[], BODY);
        assert_eq!(action, Action::Continue);
        assert_eq!(gateway.end_body(context), Action::Pause);
        // Nothing wakes a request in nginx.
        assert_eq!(gateway.status(), nginx.then_some(503));
        gateway.host_answers(path);
        let written = WRITTEN.replace(r#","own":"<own>""#, "");
        if !nginx {
            gateway.vm.on_foreign_function(ROOT);
            assert_eq!(gateway.body(), written);
        }
        let (context, _) = post(&mut gateway, JSON, &[], BODY);
        assert_eq!(gateway.end_body(context), Action::Continue);
        assert_eq!(gateway.body(), written);
    }
}

#[test]
fn what_a_body_was_sent_with_is_doubted_when_the_upstream_refuses_it() {
    let mut configuration = resolving();
    configuration["refresh_on_status"] = json!([401]);
    let mut gateway = Gateway::envoy().warm(&configuration);
    let (context, _) = post(&mut gateway, JSON, &[], BODY);
    gateway.end_body(context);
    one_call(&mut gateway);
    answer(&mut gateway, context, "401", &[]);
    gateway.tick(1000);
    let poll = gateway.take_dispatched().remove(0);
    let doubted = poll.body["refresh"].as_array().expect("a list").len();
    assert_eq!(doubted, 3, "{}", poll.body);
}

#[test]
fn in_nginx_names_that_nobody_knows_do_not_take_the_place_of_one_that_is_wanted() {
    let configuration = json!({"resolver": {"upstream": "u"},
        "resolve": {"body": ["/k"], "allow": ["tenants/*"]}});
    let mut gateway = Gateway::nginx().warm(&configuration);
    let send = |gateway: &mut Gateway, names: &[String]| {
        let references = names
            .iter()
            .map(|name| format!("{{vault://tenants/{name}/k}}"));
        let body = json!({"k": references.collect::<String>()}).to_string();
        let (context, _) = post(gateway, JSON, &[], &body);
        gateway.end_body(context)
    };
    let good = ["good".to_owned()];
    assert_eq!(send(&mut gateway, &good), Action::Pause);
    for request in 0..100 {
        let names: Vec<String> = (0..16)
            .map(|name| format!("none-{request}-{name}"))
            .collect();
        send(&mut gateway, &names);
        let wanted = "there is no room";
        assert!(
            !gateway.logs().join("\n").contains(wanted),
            "they make way for each other"
        );
    }
    gateway.tick(1000);
    let poll = gateway.take_dispatched().remove(0);
    let texts = asked(&poll);
    assert_eq!(texts.len(), 1 + 15 * 16);
    assert!(texts.contains(&"{vault://tenants/good/k}".to_owned()));
    assert_eq!(poll.body["wait_ms"], json!(100), "nobody waits for it");
    gateway.answer(ROOT, &poll, |reference, _| {
        match reference.contains("good") {
            true => secret("good", "r1"),
            false => failure("not-found"),
        }
    });
    assert_eq!(send(&mut gateway, &good), Action::Continue);
}

/// All that is known of the object is asked for with it, in questions that are not too long.
#[test]
fn in_nginx_a_key_of_a_large_object_is_asked_for_with_the_others() {
    let keys = (0..1023).map(|number| format!("{{vault://tenants/a/n{number}}}"));
    let keys = keys.collect::<String>();
    let mut gateway = Gateway::nginx().warm(&json!({"resolver": {"upstream": "u"},
        "request": {"set": {"headers": {"x": keys}}},
        "resolve": {"body": ["/k"], "allow": ["tenants/*"]}}));
    for name in ["b", "a"] {
        let body = format!(r#"{{"k":"{{vault://tenants/{name}/k}}"}}"#);
        let (context, _) = post(&mut gateway, JSON, &[], &body);
        assert_eq!(gateway.end_body(context), Action::Pause);
        gateway.vm.on_delete(context);
    }
    gateway.tick(1000);
    let calls = gateway.take_dispatched();
    let sizes: Vec<usize> = calls.iter().map(|call| asked(call).len()).collect();
    assert_eq!(sizes, [1024, 1]);
    for call in &calls {
        gateway.answer(ROOT, call, path);
    }
    let body = r#"{"k":"{vault://tenants/a/k}"}"#;
    let (context, _) = post(&mut gateway, JSON, &[], body);
    assert_eq!(gateway.end_body(context), Action::Continue);
    assert_eq!(gateway.body(), r#"{"k":"<tenants|a|k>"}"#);
}

/// A vault that is away is asked some times, and then no longer for the sake of one request.
#[test]
fn in_nginx_what_is_wanted_is_asked_for_a_few_times() {
    let configuration = json!({"resolver": {"upstream": "u"},
        "resolve": {"body": ["/k"], "allow": ["tenants/*"]}});
    let mut gateway = Gateway::nginx().warm(&configuration);
    let (context, _) = post(&mut gateway, JSON, &[], r#"{"k":"{vault://tenants/a/k}"}"#);
    gateway.end_body(context);
    let mut polls = 0;
    for _ in 0..20 {
        gateway.tick(1000);
        let calls = gateway.take_dispatched();
        polls += calls.len();
        for call in calls {
            gateway.answer(ROOT, &call, |_, _| failure("unavailable"));
        }
    }
    assert_eq!(polls, 5);
}

#[test]
fn a_form_of_many_equal_names_is_refused_at_the_second() {
    let mut gateway = Gateway::envoy().warm(&of_form());
    let one = "key={vault://tenants/a/k}";
    for (body, status) in [
        (format!("{one}{}", "&key=x".repeat(10_000)), Some(400)),
        (format!("{}&{one}", "key=x&".repeat(10_000)), Some(400)),
        ("key=x&".repeat(10_000), None),
    ] {
        let (context, _) = post(&mut gateway, FORM, &[], &body);
        gateway.end_body(context);
        assert_eq!(gateway.status(), status);
        assert_eq!(gateway.take_dispatched().len(), 0);
    }
}

#[test]
fn a_secret_of_a_body_is_masked_in_the_response() {
    for known in [false, true] {
        let mut configuration = resolving();
        configuration["response"] = json!({"redact_headers": true});
        configuration["request"]["set"]["body"]["/own"] = json!("{vault://v/own-secret}");
        let mut gateway = Gateway::envoy().warm(&configuration);
        for round in 0..=usize::from(known) {
            let (context, _) = post(&mut gateway, JSON, &[], BODY);
            gateway.end_body(context);
            if round == 0 {
                one_call(&mut gateway);
            }
            let sent = [("x-echo", "<tenants|a|k> <own-secret> <tenants|b|k>")];
            answer(&mut gateway, context, "200", &sent);
            let headers = gateway.host.upstream_headers.borrow();
            let echo = headers.iter().find(|(name, _)| name == b"x-echo");
            let echo = echo.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
            assert_eq!(echo.as_deref(), Some("*** *** ***"));
        }
    }
}
