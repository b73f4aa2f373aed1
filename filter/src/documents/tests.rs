//! Configurations of other people's filters, with answers made by hand.

use std::rc::Rc;

use serde_json::{Value, json};

use super::{DocumentId, Documents, News};
use crate::testing::{FakeHost, failure, known, reply, secret, unchanged, usable};
use crate::{Kind, Status};

mod laws;
mod vectors;

/// A VM with configurations in it.
struct Filters {
    host: Rc<FakeHost>,
    documents: Documents<Rc<FakeHost>>,
    /// Whose root has the ticks.
    ticking: Option<DocumentId>,
}

impl Filters {
    fn in_envoy() -> Self {
        let host = Rc::new(FakeHost::default());
        host.now.set(1_700_000_000_000_000_000);
        Self {
            documents: Documents::new(Rc::clone(&host)),
            host,
            ticking: None,
        }
    }

    fn in_nginx() -> Self {
        let filters = Self::in_envoy();
        filters.host.is_nginx.set(true);
        filters
    }

    fn configure(&mut self, text: &str, fields: &[&str]) -> Result<DocumentId, (String, String)> {
        *self.host.configuration.borrow_mut() = text.as_bytes().to_vec();
        let configured = self.documents.configure(text.len(), fields);
        let id =
            configured.map_err(|error| (error.place().to_owned(), error.message().to_owned()))?;
        self.ticking = Some(id);
        Ok(id)
    }

    /// A configuration with one field that may hold references, and our member.
    fn with(&mut self, field: &str, configuration: &Value) -> DocumentId {
        let mut configuration = configuration.clone();
        configuration["vaultref"] = json!({"upstream": "daemon"});
        self.configure(&configuration.to_string(), &[field])
            .expect("a good configuration")
    }

    fn tick(&mut self, milliseconds: u64) {
        self.host
            .now
            .set(self.host.now.get() + milliseconds * 1_000_000);
        self.documents
            .on_tick(self.ticking.expect("a configuration"));
    }

    /// Answers every call that is under way.
    fn answer(&mut self, outcome: impl Fn(&str, &Value) -> Value) {
        let dispatched: Vec<_> = self.host.dispatched.borrow_mut().drain(..).collect();
        for call in dispatched {
            let body = reply(&call.body, &outcome).to_string().into_bytes();
            self.answer_raw(call.token, "1", body);
        }
    }

    fn answer_raw(&mut self, token: u32, marker: &str, body: Vec<u8>) {
        assert!(self.deliver(token, marker, body));
    }

    /// Hands over an answer; false if nobody waits for it.
    fn deliver(&mut self, token: u32, marker: &str, body: Vec<u8>) -> bool {
        let pairs = [(":status", "200"), ("x-vaultref-contract", marker)];
        let pairs =
            pairs.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let size = body.len();
        *self.host.answer.borrow_mut() = (pairs.to_vec(), body);
        self.documents.on_http_call_response(token, 2, size)
    }

    /// A second later, with this as the answer to the poll.
    fn poll(&mut self, outcome: impl Fn(&str, &Value) -> Value) {
        self.tick(1000);
        self.answer(outcome);
    }

    /// What is handed over now, as it is written; the empty text if the configuration is lost.
    fn handed_over(&mut self, id: DocumentId) -> Option<String> {
        let news = self.documents.news(id)?;
        Some(match news {
            News::Lost => String::new(),
            News::Resolved(text) => text.expose_text().expect("JSON").to_owned(),
        })
    }

    fn logs(&self) -> String {
        self.host.logs.borrow().join("\n")
    }
}

const OWN: &str = r#""vaultref":{"upstream":"daemon"}"#;

#[test]
fn only_named_fields_are_resolved_and_the_rest_stays_as_it_is() {
    let mut filters = Filters::in_envoy();
    let text = r#"{"b":1.5, "token":"Bearer {vault://v/one}{vault://v/two}",
        "a":{"token":"{vault://v/three}","é\"":null,"n":-7,"big":18446744073709551615,"e":1e300},
        "vaultref":{"upstream":"daemon"},
        "like":"{{vault://v/x}","broken":"{vault://","list":["{vault://v/four}",true,[]],"":{}}"#;
    let id = filters.configure(text, &["token"]).expect("good");
    filters.tick(0);
    filters.answer(known);
    let expected = r#"{"b":1.5,"token":"Bearer <one><two>","a":{"token":"{vault://v/three}","é\"":null,"n":-7,"big":18446744073709551615,"e":1e+300},"like":"{{vault://v/x}","broken":"{vault://","list":["{vault://v/four}",true,[]],"":{}}"#;
    assert_eq!(filters.handed_over(id).as_deref(), Some(expected));
    assert_eq!(filters.handed_over(id), None, "nothing is told twice");
}

#[test]
fn a_field_is_a_text_a_list_or_a_map_and_its_path_goes_through_lists() {
    let mut filters = Filters::in_envoy();
    let id = filters.with(
        "targets.auth",
        &json!({"targets": [
            {"auth": "{vault://v/a}", "author": "{vault://v/x}"},
            {"auth": ["{vault://v/b}", 1, ["{vault://v/c}"]]},
            {"auth": {"k": "{vault://v/d}", "l": ["{vault://v/e}"], "m": {"n": "no reference"}}},
            "{vault://v/x}",
        ], "auth": "{vault://v/x}", "targets.auth": "{vault://v/x}"}),
    );
    filters.tick(0);
    filters.answer(known);
    let text = filters.handed_over(id).expect("resolved");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        value,
        json!({"targets": [
            {"auth": "<a>", "author": "{vault://v/x}"},
            {"auth": ["<b>", 1, ["<c>"]]},
            {"auth": {"k": "<d>", "l": ["<e>"], "m": {"n": "no reference"}}},
            "{vault://v/x}",
        ], "auth": "{vault://v/x}", "targets.auth": "{vault://v/x}"})
    );
}

#[test]
fn a_value_is_written_as_a_json_text_whatever_it_holds() {
    let mut filters = Filters::in_envoy();
    let id = filters.with("t", &json!({"t": "a\"{vault://v/x}", "u": "{vault://v/x}"}));
    filters.tick(0);
    let value = "\",\"u\":\"\\\n\u{1}é";
    filters.answer(|_, _| secret(value, "r1"));
    let text = filters.handed_over(id).expect("resolved");
    let read: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        read,
        json!({"t": format!("a\"{value}"), "u": "{vault://v/x}"})
    );
}

#[test]
fn a_secret_that_is_no_text_is_none_that_can_be_had() {
    let mut filters = Filters::in_envoy();
    let id = filters.with("t", &json!({"t": ["{vault://v/x}"]}));
    filters.tick(0);
    filters.answer(|_, _| {
        let mut bytes = secret("", "r1");
        bytes["secret"]["value"] = json!({"bytes": "//4="});
        bytes
    });
    assert_eq!(filters.handed_over(id).as_deref(), Some(""));
    let logs = filters.logs();
    assert!(
        logs.contains("no value for /t/0 from the vault 'v': the secret is no text"),
        "{logs}"
    );
}

#[test]
fn without_references_it_is_handed_over_at_once_and_nobody_is_asked() {
    let mut filters = Filters::in_envoy();
    for (text, expected) in [
        ("", "{}"),
        (r#"{"t":"{{vault://v/x}"}"#, r#"{"t":"{vault://v/x}"}"#),
        (
            r#"{"u":"{vault://v/x}","vaultref":{"upstream":"daemon"}}"#,
            r#"{"u":"{vault://v/x}"}"#,
        ),
    ] {
        let id = filters.configure(text, &["t"]).expect("good");
        assert!(!filters.documents.has_references(id));
        assert_eq!(filters.handed_over(id).as_deref(), Some(expected));
    }
    filters.tick(1000);
    assert!(filters.host.dispatched.borrow().is_empty());
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    let deep = "a reference cannot stand here";
    let cases: [(&str, &str, &str); 14] = [
        (r#"{"t""#, "", "EOF"),
        (r#"["t"]"#, "", "neither"),
        (r#"{"t":"{vault://v/x}"}"#, "/vaultref", "who resolves"),
        (
            r#"{"vaultref":{"upstream":"d","x":1}}"#,
            "/vaultref/x",
            "unknown field",
        ),
        (r#"{"vaultref":{}}"#, "/vaultref", "exactly one"),
        (r#"{"vaultref":7}"#, "/vaultref", "an object"),
        (
            r#"{"vaultref":{"upstream":"d","timeout_ms":0}}"#,
            "/vaultref/timeout_ms",
            "from 1",
        ),
        (
            r#"{"vaultref":{"upstream":"d","token_env":"T"}}"#,
            "/vaultref/token_env",
            "'T'",
        ),
        (
            r#"{OWN,"t":["ok",{"a~/":"-{vault://v/"}]}"#,
            "/t/1/a~0~1",
            "no '}'",
        ),
        (r#"{OWN,"t":{"a":{"b":"{vault://v/x}"}}}"#, "/t/a/b", deep),
        (
            r#"{OWN,"t":{"a":[{"b":["{vault://"]}]}}"#,
            "/t/a/0/b/0",
            deep,
        ),
        (r#"{OWN,"a":{"b":1,"b":2}}"#, "/a", "'b' stands here twice"),
        (r#"{OWN,"t":1,"t":2}"#, "", "'t' stands here twice"),
        (r#"{OWN,"t":"{vault://v/$(header:x)}"}"#, "/t", "parameters"),
    ];
    for (text, place, message) in cases {
        let mut filters = Filters::in_envoy();
        let refused = filters.configure(&text.replace("OWN", OWN), &["t"]);
        let (at, why) = refused.expect_err(text);
        assert_eq!(at, place, "{text}: {why}");
        assert!(why.contains(message), "{text}: {why}");
    }
    let function = r#"{"vaultref":{"host_function":true},"t":"{vault://v/x}"}"#;
    let refused = Filters::in_nginx().configure(function, &["t"]);
    assert_eq!(refused.expect_err("refused").0, "/vaultref/host_function");
}

#[test]
fn a_rotation_is_handed_over_once_with_all_its_values() {
    let mut filters = Filters::in_envoy();
    let id = filters.with(
        "t",
        &json!({"t": ["{vault://v/user}", "{vault://v/password}"]}),
    );
    filters.tick(0);
    filters.answer(known);
    let first = r#"{"t":["<user>","<password>"]}"#;
    assert_eq!(filters.handed_over(id).as_deref(), Some(first));
    filters.poll(known);
    assert_eq!(filters.handed_over(id), None);
    filters.poll(|reference, _| secret(&reference.replace("vault://v", "new"), "r2"));
    let second = r#"{"t":["{new/user}","{new/password}"]}"#;
    assert_eq!(filters.handed_over(id).as_deref(), Some(second));
    // One of two that cannot be read holds the other back.
    filters.poll(|reference, _| match reference.contains("user") {
        true => secret("third", "r3"),
        false => failure("unavailable"),
    });
    assert_eq!(filters.handed_over(id), None);
    filters.poll(|reference, _| match reference.contains("user") {
        true => unchanged(),
        false => secret("third's", "r3"),
    });
    let third = r#"{"t":["third","third's"]}"#;
    assert_eq!(filters.handed_over(id).as_deref(), Some(third));
}

#[test]
fn a_configuration_whose_answer_comes_in_two_parts_waits_for_both() {
    let mut filters = Filters::in_envoy();
    let texts: Vec<String> = (0..1025).map(|n| format!("{{vault://v/{n}}}")).collect();
    let id = filters.with("t", &json!({ "t": texts }));
    filters.tick(0);
    let last = filters.host.dispatched.borrow_mut().pop().expect("a call");
    filters.answer(known);
    assert_eq!(filters.handed_over(id), None);
    filters.host.dispatched.borrow_mut().push(last);
    filters.answer(known);
    let text = filters.handed_over(id).expect("resolved");
    assert!(text.starts_with(r#"{"t":["<0>","#) && text.ends_with(r#","<1024>"]}"#));
}

#[test]
fn a_secret_that_is_lost_is_told_and_so_is_its_return() {
    let mut filters = Filters::in_envoy();
    let id = filters.with("t", &json!({"t": "{vault://v/x}"}));
    for kind in ["not-found", "denied"] {
        filters.poll(known);
        assert_eq!(filters.handed_over(id).as_deref(), Some(r#"{"t":"<x>"}"#));
        filters.poll(|_, _| failure(kind));
        assert_eq!(filters.handed_over(id).as_deref(), Some(""), "{kind}");
        let logs = filters.logs();
        assert!(logs.contains(kind) && !logs.contains("<x>"), "{logs}");
    }
}

#[test]
fn an_outage_is_bridged_as_long_as_the_resolver_said() {
    let mut filters = Filters::in_envoy();
    let id = filters.with("t", &json!({"t": "{vault://v/x}"}));
    filters.tick(0);
    filters.answer(|_, _| usable("value", "r1", 60));
    assert_eq!(filters.handed_over(id).as_deref(), Some(r#"{"t":"value"}"#));
    filters
        .host
        .failures
        .borrow_mut()
        .insert("dispatch", Status::BadArgument);
    filters.tick(59_000);
    assert_eq!(filters.handed_over(id), None);
    filters.tick(1_000);
    assert_eq!(filters.handed_over(id).as_deref(), Some(""));
    let logs = filters.logs();
    assert!(logs.contains("may be used no longer"), "{logs}");
    filters.host.failures.borrow_mut().clear();
    filters.poll(|_, _| secret("value", "r1"));
    assert_eq!(filters.handed_over(id).as_deref(), Some(r#"{"t":"value"}"#));
}

#[test]
fn the_resolver_is_asked_with_what_our_member_says_and_others_answers_are_not_ours() {
    let mut filters = Filters::in_envoy();
    let token = ("T".to_owned(), "secret-token".to_owned());
    filters.host.environment.borrow_mut().extend([token]);
    let text =
        r#"{"vaultref":{"upstream":"u","timeout_ms":250,"token_env":"T"},"t":"{vault://v/x}"}"#;
    let id = filters.configure(text, &["t"]).expect("good");
    filters.tick(0);
    {
        let calls = filters.host.dispatched.borrow();
        let call = &calls[0];
        assert_eq!((call.upstream.as_str(), call.timeout), ("u", 250));
        let header = ("authorization".to_owned(), b"Bearer secret-token".to_vec());
        assert!(call.headers.contains(&header));
    }
    let mine = filters.host.dispatched.borrow()[0].token;
    assert!(!filters.documents.on_http_call_response(mine + 1, 2, 0));
    // Without the daemon's marker it could be anybody's.
    let body = json!({"results": [secret("value", "r1")]}).to_string();
    filters.answer_raw(mine, "another", body.into_bytes());
    assert_eq!(filters.handed_over(id), None);
}

#[test]
fn nginx_is_asked_for_nothing_while_configuring_and_envoy_at_once() {
    for (mut filters, calls) in [(Filters::in_nginx(), 0), (Filters::in_envoy(), 1)] {
        filters.with("t", &json!({"t": "{vault://v/x}"}));
        assert_eq!(filters.host.dispatched.borrow().len(), calls);
        filters.tick(0);
        assert_eq!(filters.host.dispatched.borrow().len(), 1);
    }
}

#[test]
fn a_function_of_the_host_answers_at_once_or_when_it_can() {
    let mut filters = Filters::in_envoy();
    let text = r#"{"t":"{vault://v/x}","vaultref":{"host_function":true}}"#;
    *filters.host.function.borrow_mut() = Some(Box::new(|question| reply(question, known)));
    let id = filters.configure(text, &["t"]).expect("good");
    assert_eq!(filters.handed_over(id).as_deref(), Some(r#"{"t":"<x>"}"#));

    let mut filters = Filters::in_envoy();
    let pending = |question: &Value| reply(question, |_, _| failure("pending"));
    *filters.host.function.borrow_mut() = Some(Box::new(pending));
    let id = filters.configure(text, &["t"]).expect("good");
    assert_eq!(filters.handed_over(id), None);
    *filters.host.function.borrow_mut() = Some(Box::new(|question| reply(question, known)));
    filters.tick(200);
    assert_eq!(filters.handed_over(id).as_deref(), Some(r#"{"t":"<x>"}"#));
}

#[test]
fn configurations_share_calls_and_end_alone() {
    let mut filters = Filters::in_nginx();
    let first = filters.with("t", &json!({"t": "{vault://v/x}"}));
    let second = filters.with("t", &json!({"t": "{vault://v/x}", "u": "{vault://v/y}"}));
    filters.tick(0);
    assert_eq!(filters.host.dispatched.borrow().len(), 1);
    // Another root's tick right after it.
    filters.tick(1);
    filters.answer(known);
    assert!(filters.handed_over(first).is_some());
    assert!(filters.handed_over(second).is_some());
    let third = filters.with("t", &json!({"t": "{vault://v/x}"}));
    let text = filters.handed_over(third);
    assert_eq!(text.as_deref(), Some(r#"{"t":"<x>"}"#), "known already");
    for id in [first, second, third] {
        filters.documents.remove(id);
    }
    filters.tick(5000);
    assert!(filters.host.dispatched.borrow().is_empty());
}

#[test]
fn what_a_root_has_asked_for_when_it_ends_is_asked_for_anew() {
    let mut filters = Filters::in_envoy();
    let first = filters.with("t", &json!({"t": "{vault://v/x}"}));
    let second = filters.with("t", &json!({"t": "{vault://v/y}"}));
    let lost: Vec<_> = filters.host.dispatched.borrow_mut().drain(..).collect();
    assert_eq!(lost.len(), 1, "one call at a time");
    filters.documents.remove(first);
    filters.tick(1);
    filters.answer(known);
    assert_eq!(
        filters.handed_over(second).as_deref(),
        Some(r#"{"t":"<y>"}"#)
    );
    let answered = filters.documents.on_http_call_response(lost[0].token, 2, 0);
    assert!(!answered, "nobody waits for it");
    // One that another root has made goes on.
    filters.tick(1000);
    filters.documents.remove(first);
    filters.tick(1);
    assert_eq!(filters.host.dispatched.borrow().len(), 1);
}

#[test]
fn a_token_that_two_resolvers_share_is_nobody_s() {
    let mut filters = Filters::in_nginx();
    let ids = ["a", "b"].map(|upstream| {
        let text =
            format!(r#"{{"vaultref":{{"upstream":"{upstream}"}},"t":"{{vault://v/{upstream}}}"}}"#);
        filters.configure(&text, &["t"]).expect("good")
    });
    for poller in &mut filters.documents.pollers {
        filters.host.next_token.set(7);
        poller.tick(&filters.host, Kind::Nginx, 0);
    }
    assert_eq!(filters.host.dispatched.borrow().len(), 2);
    let body = json!({"results": [secret("whose", "r1")]}).to_string();
    filters.answer_raw(7, "1", body.into_bytes());
    for id in ids {
        assert_eq!(filters.handed_over(id), None);
    }
}
