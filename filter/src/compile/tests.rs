//! What is compiled, beyond the errors (which `config` tests, place by place).

use serde_json::json;

use super::{HeaderVerb, Kind, OnError, QueryVerb, compile};
use crate::config::Config;
use crate::testing::Gateway;

fn compiled(configuration: &serde_json::Value) -> super::Compiled {
    let config = Config::parse(configuration.to_string().as_bytes()).expect("JSON");
    compile(config, Kind::Envoy, &Gateway::envoy().host).expect("a good configuration")
}

#[test]
fn writes_stand_in_kong_s_order_with_set_last() {
    let compiled = compiled(&json!({"resolver": {"upstream": "u"}, "request": {
        "set": {"headers": {"a": "1"}, "querystring": {"a": "1"}},
        "append": {"headers": {"b": "1"}, "querystring": {"b": "1"}},
        "add": {"headers": {"c": "1"}, "querystring": {"c": "1"}},
        "replace": {"headers": {"d": "1"}, "querystring": {"d": "1"}},
        "rename": {"headers": {"e": "f"}, "querystring": {"e": "f"}},
        "remove": {"headers": ["g"], "querystring": ["g"]}}}));
    let rule = &compiled.rules[0];
    let headers: Vec<_> = rule
        .headers
        .iter()
        .map(|write| match write.verb {
            HeaderVerb::Remove => 0,
            HeaderVerb::Rename { .. } => 1,
            HeaderVerb::Replace(_) => 2,
            HeaderVerb::Add(_) => 3,
            HeaderVerb::Append(_) => 4,
            HeaderVerb::Set(_) => 5,
        })
        .collect();
    let query: Vec<_> = rule
        .query
        .iter()
        .map(|write| match write.verb {
            QueryVerb::Remove => 0,
            QueryVerb::Rename { .. } => 1,
            QueryVerb::Replace(_) => 2,
            QueryVerb::Add(_) => 3,
            QueryVerb::Append(_) => 4,
            QueryVerb::Set(_) => 5,
        })
        .collect();
    assert_eq!((headers, query), ((0..6).collect(), (0..6).collect()));
}

#[test]
fn references_are_distinct_and_rules_know_theirs_by_index() {
    let compiled = compiled(&json!({"resolver": {"upstream": "u"}, "rules": [
        {"request": {"set": {"headers": {"a": "{vault://v/one}{vault://v/two}", "b": "{vault://v/one}"}}}},
        {"request": {"set": {"headers": {"a": "{vault://v/three}", "b": "{vault://v/two}"}}}}]}));
    let texts: Vec<_> = compiled
        .references
        .iter()
        .map(|asked| &*asked.text)
        .collect();
    assert_eq!(
        texts,
        ["{vault://v/one}", "{vault://v/two}", "{vault://v/three}"]
    );
    assert_eq!(compiled.rules[0].references, [0, 1]);
    assert_eq!(compiled.rules[1].references, [2, 1]);
}

#[test]
fn without_rules_there_is_one_for_everything() {
    let compiled = compiled(&json!({"resolver": {"upstream": "u"},
        "basic_auth": {"username": "u", "password": "p"}, "on_error": {"default": "x"}}));
    assert_eq!(compiled.rules.len(), 1);
    assert!(compiled.rules[0].matcher.takes_all());
    assert_eq!(compiled.rules[0].on_error, OnError::Default("x".into()));
    assert!(!compiled.looks_at.path);
}
