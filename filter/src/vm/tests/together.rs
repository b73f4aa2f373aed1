//! A rule's own values beside those that a request brings: of one time, and neither in the other's way.

use serde_json::{Value, json};

use super::body_references::{JSON, post};
use super::body_waits::in_revision;
use super::dynamic::asked;
use crate::Action;
use crate::testing::{Gateway, ROOT, failure, secret, unchanged};

/// The rule has one half of a pair, a header or the body of the request the other.
fn pair() -> Value {
    json!({"resolver": {"upstream": "u"},
        "request": {"set": {"headers": {"x-user": "{vault://tenants/a/user}"}}},
        "resolve": {"headers": ["x-pass"], "body": ["/pass"], "allow": ["tenants/*"]}})
}

const PASS: (&str, &str) = ("x-pass", "{vault://tenants/a/pass}");
const BODY: &str = r#"{"pass":"{vault://tenants/a/pass}"}"#;

fn warm(mut gateway: Gateway, configuration: &Value) -> Gateway {
    assert!(gateway.configure(configuration));
    gateway.tick(0);
    gateway.answer_all(in_revision("r1"));
    gateway.calls();
    gateway
}

/// A request with this body that ends at once.
fn send(gateway: &mut Gateway, body: &str) -> (Action, Option<u32>) {
    let (context, _) = post(gateway, JSON, &[], body);
    let action = gateway.end_body(context);
    gateway.vm.on_delete(context);
    (action, gateway.status())
}

fn both(gateway: &Gateway) -> (Option<String>, Option<String>) {
    (gateway.header("x-user"), gateway.header("x-pass"))
}

fn texts(user: &str, pass: &str) -> (Option<String>, Option<String>) {
    (Some(user.to_owned()), Some(pass.to_owned()))
}

#[test]
fn what_the_rule_has_is_as_new_as_what_the_request_brings() {
    let mut gateway = warm(Gateway::envoy(), &pair());
    assert_eq!(gateway.request(&[PASS]).1, Action::Pause);
    gateway.answer_all(in_revision("r2"));
    assert_eq!(both(&gateway), texts("userr2", "passr2"));
    // The next one needs no call, and the rule is not rendered anew yet.
    assert_eq!(gateway.request(&[PASS]).1, Action::Continue);
    assert_eq!(both(&gateway), texts("userr2", "passr2"));
}

/// The rule's values are held back together, but no half of them.
#[test]
fn also_while_another_vault_of_the_rule_is_away() {
    let mut configuration = pair();
    configuration["request"]["set"]["headers"]["x-other"] = json!("{vault://v/other}");
    let mut gateway = warm(Gateway::envoy(), &configuration);
    gateway.request(&[PASS]);
    gateway.answer_all(in_revision("r1"));
    gateway.tick(1000);
    gateway.answer_all(|reference, known| match reference.contains("other") {
        true => failure("unavailable"),
        false => in_revision("r2")(reference, known),
    });
    gateway.request(&[]);
    assert_eq!(gateway.header("x-user").as_deref(), Some("userr1"));
    gateway.request(&[PASS]);
    assert_eq!(both(&gateway), texts("userr2", "passr2"));
    assert_eq!(gateway.header("x-other").as_deref(), Some("otherr1"));
}

#[test]
fn halves_that_do_not_come_together_are_refused() {
    let mut gateway = warm(Gateway::envoy(), &pair());
    gateway.request(&[PASS]);
    gateway.answer_all(|reference, known| match reference.contains("user") {
        true => failure("unavailable"),
        false => in_revision("r2")(reference, known),
    });
    assert_eq!(gateway.status(), Some(503));
}

/// A daemon that was started anew gives the same values in other revisions.
#[test]
fn a_value_that_is_the_same_has_not_changed() {
    let same = |revision: &'static str| {
        move |reference: &str, _: &Value| secret(&format!("same-{}", reference.len()), revision)
    };
    let mut gateway = warm(Gateway::envoy(), &pair());
    gateway.tick(1000);
    gateway.answer_all(same("r1"));
    let (context, _) = post(&mut gateway, JSON, &[], BODY);
    assert_eq!(gateway.end_body(context), Action::Pause);
    gateway.answer_all(same("r1"));
    let (context, _) = post(&mut gateway, JSON, &[], BODY);
    gateway.tick(1000);
    gateway.answer_all(same("r2"));
    assert_eq!(gateway.end_body(context), Action::Continue);
}

#[test]
fn what_a_request_was_sent_with_is_kept_until_its_body_is_there() {
    for missing in [false, true] {
        let answer = |reference: &str, known: &Value| {
            if missing && reference.contains("user") {
                failure("not-found")
            } else if known.is_null() {
                secret("value", "r1")
            } else {
                unchanged()
            }
        };
        let mut gateway = Gateway::envoy().warm(&json!({"resolver": {"upstream": "u"},
            "on_error": {"default": "d"},
            "resolve": {"headers": ["x-user"], "body": ["/pass"], "allow": ["tenants/*"]}}));
        let user = ("x-user", "{vault://tenants/a/user}");
        let (context, _) = post(&mut gateway, JSON, &[user], BODY);
        gateway.answer_all(answer);
        for _ in 0..400 {
            gateway.tick(1000);
            gateway.answer_all(answer);
        }
        gateway.end_body(context);
        gateway.answer_all(answer);
        assert_eq!(
            (gateway.status(), gateway.body().as_str()),
            (None, r#"{"pass":"value"}"#)
        );
        gateway.vm.on_delete(context);
        gateway.tick(1000);
        gateway.answer_all(answer);
        gateway.tick(400_000);
        assert_eq!(gateway.take_dispatched().len(), 0, "and no longer");
    }
}

mod in_nginx {
    use super::*;

    fn wants(gateway: &mut Gateway, key: &str) {
        send(gateway, &BODY.replace("/pass}", &format!("/{key}}}")));
    }

    #[test]
    fn what_is_wanted_is_still_asked_for_with_the_rest_of_its_object() {
        let mut gateway = warm(Gateway::nginx(), &pair());
        wants(&mut gateway, "other");
        assert_eq!(gateway.request(&[PASS]).1, Action::Pause);
        let call = gateway.take_dispatched().remove(0);
        assert_eq!(asked(&call).len(), 2, "{:?}", asked(&call));
        gateway.answer(ROOT, &call, in_revision("r2"));
        assert_eq!(both(&gateway), texts("userr2", "passr2"));
    }

    /// A client does not take from a rule the time that its vault may take at the start.
    #[test]
    fn what_a_configuration_names_is_waited_for() {
        let configuration = json!({"resolver": {"upstream": "u"}, "rules": [
            {"match": {"headers": {"x-r": "1"}},
             "request": {"set": {"headers": {"x-user": "{vault://tenants/a/user}"}}}},
            {"resolve": {"body": ["/pass"], "allow": ["tenants/*"]}}]});
        let mut gateway = Gateway::nginx();
        assert!(gateway.configure(&configuration));
        wants(&mut gateway, "pass");
        gateway.tick(200);
        for call in gateway.take_dispatched() {
            let is_aside = call.body["wait_ms"] == json!(100);
            let has_user = asked(&call).contains(&"{vault://tenants/a/user}".to_owned());
            assert_eq!(has_user, !is_aside);
        }
    }

    /// The others go on without it, also if its callback is lost.
    #[test]
    fn a_call_for_what_is_wanted_is_nobody_else_s_matter() {
        let mut configuration = pair();
        configuration["request"]["set"]["headers"]["x-other"] = json!("{vault://v/other}");
        let mut gateway = warm(Gateway::nginx(), &configuration);
        wants(&mut gateway, "slow");
        gateway.tick(1000);
        let mut calls = gateway.take_dispatched();
        let aside = calls.pop().expect("a call aside");
        assert_eq!(aside.body["wait_ms"], json!(100));
        assert_eq!((asked(&aside).len(), calls.len()), (2, 1));
        gateway.answer(ROOT, &calls[0], in_revision("r2"));
        gateway.request(&[]);
        assert_eq!(gateway.header("x-other").as_deref(), Some("otherr2"));
        // Polls go on, and when it is given up what stood in it is asked for by them.
        let mut seconds = 0;
        while gateway.header("x-user").as_deref() != Some("userr3") {
            seconds += 1;
            assert!(seconds < 60);
            gateway.tick(1000);
            let calls = gateway.take_dispatched();
            assert!(!calls.is_empty());
            for call in calls
                .iter()
                .filter(|call| call.body["wait_ms"] != json!(100))
            {
                gateway.answer(ROOT, call, in_revision("r3"));
            }
            gateway.request(&[]);
            assert_eq!(gateway.header("x-other").as_deref(), Some("otherr3"));
        }
    }

    #[test]
    fn a_configured_value_outlives_calls_that_fail_for_what_is_wanted() {
        let mut configuration = pair();
        configuration["request"]["set"]["headers"]["x-other"] = json!("{vault://v/other}");
        let mut gateway = warm(Gateway::nginx(), &configuration);
        wants(&mut gateway, "pass");
        let mut aside = 0;
        for _ in 0..4000 {
            gateway.tick(1000);
            for call in gateway.take_dispatched() {
                if call.body["wait_ms"] == json!(100) {
                    aside += 1;
                    gateway.answer_raw(ROOT, call.token, &[], "503", b"");
                } else {
                    gateway.answer(ROOT, &call, |reference, known| match known.is_null() {
                        true => in_revision("r1")(reference, known),
                        false => unchanged(),
                    });
                }
            }
            assert_eq!(gateway.request(&[]).1, Action::Continue);
        }
        assert_eq!(aside, 5);
    }
}
