//! The published schemas of the filter's configuration: that they are current, that they say what the
//! filter's reader does, and that Kong could load its own.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use jsonschema::{Validator, draft4, draft202012};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use vaultref_filter::{Callbacks, Config, Kind, check, schema};
use vaultref_scenarios::paths;

/// The files are what `vaultref schema` prints.
#[test]
fn the_published_files_are_current() -> Result<()> {
    let files = [
        ("filter/vaultref.schema.json", &["schema"][..]),
        ("examples/kong/vaultref.meta.json", &["schema", "--kong"]),
    ];
    for (file, command) in files {
        let printed = Command::new(paths::vaultref()?).args(command).output()?;
        assert!(printed.status.success(), "{command:?}");
        let printed = String::from_utf8(printed.stdout)?;
        let kept = fs::read_to_string(paths::root().join(file)).with_context(|| file.to_owned())?;
        assert_eq!(
            kept,
            printed,
            "{file}: vaultref {} > {file}",
            command.join(" ")
        );
    }
    Ok(())
}

#[test]
fn both_are_schemas_of_their_draft() {
    let schema = schema::configuration();
    draft202012::meta::validate(&schema).unwrap_or_else(|error| panic!("{error}"));
    let kong = &schema::kong()["config_schema"];
    draft4::meta::validate(kong).unwrap_or_else(|error| panic!("{error}"));
}

/// A keyword that draft 4 does not know would say nothing there, and what stands beside a `$ref` is
/// not looked at. Kong's validator hands patterns to `string.format` and takes no other option.
#[test]
fn kongs_schema_has_only_what_draft_4_and_its_validator_know() {
    const KNOWN: [&str; 21] = [
        "additionalProperties",
        "allOf",
        "anyOf",
        "default",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "items",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "not",
        "oneOf",
        "pattern",
        "required",
        "title",
        "type",
    ];
    let kong = schema::kong();
    let root = &kong["config_schema"];
    each_schema(root, "", &mut |schema, place| {
        let members = schema
            .as_object()
            .unwrap_or_else(|| panic!("{place}: {schema}"));
        if members.contains_key("$ref") {
            assert_eq!(members.len(), 1, "{place}");
            return;
        }
        for (keyword, value) in members {
            let is_root = place.is_empty() && matches!(&**keyword, "$schema" | "definitions");
            let is_known = KNOWN.contains(&&**keyword) || keyword == "properties" || is_root;
            assert!(is_known, "{place}: {keyword}");
            if keyword == "pattern" {
                let pattern = value.as_str().unwrap_or_default();
                assert!(!pattern.contains(['%', ']']), "{place}: {pattern}");
            }
        }
    });
    // Kong takes a configuration that is an object only then.
    assert_eq!(root["type"], "object");
}

/// Whoever fills in a form sees these texts.
#[test]
fn every_field_says_what_it_is() {
    let root = schema::configuration();
    let mut without = BTreeSet::new();
    each_schema(&root, "", &mut |schema, place| {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let is_condition = place.contains("oneOf") || place.contains("not");
            if !is_condition && field.get("description").is_none() {
                without.insert(format!("{place}/properties/{name}"));
            }
        }
    });
    assert_eq!(without, BTreeSet::new());
}

#[test]
fn valid_and_invalid_configurations_are_told_apart() {
    let with = |rest: Value| {
        let mut whole = json!({"resolver": {"upstream": "u"}});
        if let (Value::Object(whole), Value::Object(rest)) = (&mut whole, rest) {
            whole.extend(rest);
        }
        whole
    };
    let rule = |rest: Value| with(json!({"rules": [rest]}));
    let set = json!({"set": {"headers": {"x": "{vault://a/b}"}, "querystring": {"k": "v"}}});
    let table = [
        (true, with(json!({"request": set}))),
        (true, with(json!({"request": {}}))),
        (true, with(json!({"rules": []}))),
        (
            true,
            with(json!({"request": set, "response": {"redact_headers": true}})),
        ),
        (true, with(json!({"refresh_on_status": [401, 403]}))),
        (
            true,
            rule(
                json!({"match": {"host": ["*.a"], "path_regex": "/v[0-9]+/x", "querystring": {"k": "v"},
            "properties": {"xds.route_name": "r"}}}),
            ),
        ),
        (
            true,
            rule(json!({"match": {"path": "/v1"}, "refresh_on_status": [400, 599]})),
        ),
        (
            true,
            rule(
                json!({"request": {"set": {"body": {"/a/b": "{vault://a/b}"}}, "remove": {"body": ["/c"]}},
            "body": {"max_bytes": 16_777_216, "on_excess": "refuse"}}),
            ),
        ),
        (
            true,
            with(
                json!({"request": {"add": {"body": {"name": "v"}}}, "body": {"on_excess": "pass"}}),
            ),
        ),
        (
            true,
            rule(
                json!({"match": {"host": ["a"], "methods": ["GET"], "path_prefix": "/v1", "headers": {"a": "b"},
                    "path": "/v1/x", "path_regex": "/v[0-9]/.*", "querystring": {"a": "b"},
                    "properties": {"connection.requested_server_name": "a"}}, "request": set}),
            ),
        ),
        (
            true,
            rule(json!({"basic_auth": {"username": "u", "password": "p"}})),
        ),
        (
            true,
            rule(
                json!({"request": {"remove": {"headers": ["x"]}, "rename": {"querystring": {"a": "b"}}}}),
            ),
        ),
        (true, rule(json!({"refresh_on_status": [401, 403]}))),
        (true, with(json!({"refresh_on_status": [401]}))),
        (
            true,
            with(json!({"rules": [], "response": {"redact_headers": true}})),
        ),
        (true, rule(json!({"on_error": {"status": 400}}))),
        (true, rule(json!({"on_error": {"status": 599}}))),
        (
            true,
            rule(json!({"on_error": {"status": 500, "body": "{}"}})),
        ),
        (true, rule(json!({"on_error": {"without_field": true}}))),
        (
            true,
            rule(json!({"on_error": {"status": 500, "without_field": false}})),
        ),
        (
            true,
            rule(
                json!({"resolve": {"headers": ["x"], "querystring": ["k"], "allow": ["v/*"], "max": 256}}),
            ),
        ),
        (
            true,
            with(json!({"resolve": {"headers": ["x"], "allow": ["v/*"]}})),
        ),
        (
            true,
            json!({"resolver": {"host_function": true}, "rules": []}),
        ),
        (
            true,
            json!({"resolver": {"upstream": "u", "host_function": false, "timeout_ms": 60_000, "token_env": "T"}, "rules": []}),
        ),
        (false, json!([])),
        (false, json!({})),
        (false, json!({"rules": []})),
        (false, with(json!({}))),
        (false, with(json!({"rules": [], "request": {}}))),
        (false, with(json!({"rules": [], "on_error": {}}))),
        (
            false,
            with(json!({"rules": [], "refresh_on_status": [401]})),
        ),
        (
            false,
            with(json!({"rules": [], "response": {"redact_headers": 1}})),
        ),
        (
            false,
            with(json!({"rules": [], "response": {"headers": true}})),
        ),
        (false, rule(json!({"refresh_on_status": [200]}))),
        (false, rule(json!({"refresh_on_status": 401}))),
        (false, with(json!({"rules": {"a": 1}}))),
        (false, with(json!({"rules": [7]}))),
        (false, with(json!({"request": "set"}))),
        (false, with(json!({"reqest": {}, "request": {}}))),
        (false, json!({"resolver": {}, "rules": []})),
        (false, json!({"resolver": {"upstream": ""}, "rules": []})),
        (
            false,
            json!({"resolver": {"upstream": "u", "host_function": true}, "rules": []}),
        ),
        (
            false,
            json!({"resolver": {"host_function": false}, "rules": []}),
        ),
        (
            false,
            json!({"resolver": {"upstream": "u", "retries": 1}, "rules": []}),
        ),
        (
            false,
            json!({"resolver": {"upstream": "u", "timeout_ms": 0}, "rules": []}),
        ),
        (
            false,
            json!({"resolver": {"upstream": "u", "timeout_ms": 60_001}, "rules": []}),
        ),
        (
            false,
            json!({"resolver": {"upstream": "u", "timeout_ms": "1s"}, "rules": []}),
        ),
        (
            false,
            json!({"resolver": {"upstream": "u", "timeout_ms": 0.5}, "rules": []}),
        ),
        (
            false,
            with(json!({"rules": [], "resolve": {"headers": ["x"], "allow": ["v/*"]}})),
        ),
        (
            false,
            rule(json!({"resolve": {"headers": ["x"], "allow": []}})),
        ),
        (
            false,
            rule(json!({"resolve": {"headers": ["x"], "allow": ["v"]}})),
        ),
        (
            false,
            rule(json!({"resolve": {"headers": ["x"], "allow": ["v/*"], "max": 257}})),
        ),
        (
            false,
            rule(json!({"resolve": {"cookies": ["x"], "allow": ["v/*"]}})),
        ),
        (false, rule(json!({"matsch": {}}))),
        (false, rule(json!({"match": {"host": []}}))),
        (false, rule(json!({"match": {"host": [""]}}))),
        (false, rule(json!({"match": {"host": "a"}}))),
        (false, rule(json!({"match": {"path_prefix": "v1"}}))),
        (false, rule(json!({"match": {"path": "v1"}}))),
        (false, rule(json!({"match": {"path_regex": ""}}))),
        (false, rule(json!({"match": {"querystring": {"a": 1}}}))),
        (
            false,
            rule(json!({"match": {"properties": ["xds.route_name"]}})),
        ),
        (false, rule(json!({"match": {"headers": {"a": 1}}}))),
        (false, rule(json!({"match": {"headers": {"a": null}}}))),
        (false, rule(json!({"request": {"set": {"headers": ["a"]}}}))),
        (false, rule(json!({"request": {"set": {"cookies": {}}}}))),
        (
            false,
            rule(json!({"request": {"remove": {"headers": {"a": "b"}}}})),
        ),
        (false, rule(json!({"basic_auth": {"username": "u"}}))),
        (false, rule(json!({"on_error": {"status": 399}}))),
        (false, rule(json!({"on_error": {"status": 600}}))),
        (
            false,
            rule(json!({"on_error": {"body": "x", "default": "x"}})),
        ),
        (
            false,
            rule(json!({"on_error": {"body": "x", "without_field": true}})),
        ),
        (
            false,
            rule(json!({"on_error": {"status": 500, "default": "x"}})),
        ),
        (
            false,
            rule(json!({"on_error": {"without_field": true, "default": "x"}})),
        ),
        (false, with(json!({"rules": [], "body": {}}))),
        (
            false,
            with(json!({"request": {}, "response": {"redact": true}})),
        ),
        (
            false,
            with(json!({"request": {}, "response": {"redact_headers": "yes"}})),
        ),
        (false, rule(json!({"refresh_on_status": 401}))),
        (false, rule(json!({"refresh_on_status": [399]}))),
        (false, rule(json!({"match": {"path": "v1"}}))),
        (false, rule(json!({"match": {"path_regex": ""}}))),
        (false, rule(json!({"match": {"querystring": ["k"]}}))),
        (false, rule(json!({"request": {"set": {"body": ["/a"]}}}))),
        (
            false,
            rule(json!({"request": {"remove": {"body": {"/a": "x"}}}})),
        ),
        (false, rule(json!({"body": {"max_bytes": 0}}))),
        (false, rule(json!({"body": {"max_bytes": 16_777_217}}))),
        (false, rule(json!({"body": {"on_excess": "ignore"}}))),
    ];
    let schemas = Schemas::new();
    for (valid, configuration) in table {
        assert_eq!(schemas.accept(&configuration), valid, "{configuration}");
        assert_eq!(is_usable(&configuration), valid, "{configuration}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// What the filter can use the schemas allow, and what they allow the filter can read. (Between the
    /// two is what no schema can say: two writes to one field, a reference that cannot be read.)
    #[test]
    fn the_schemas_and_the_filter_agree(choices in prop::collection::vec(any::<u8>(), 0..120)) {
        let root = schema::configuration();
        let mut choices = Choices(choices.into_iter());
        let configuration = choices.instance(&root, &root);
        let allowed = Schemas::new().accept(&as_written(&configuration, &root, &root));
        if is_usable(&configuration) {
            prop_assert!(allowed, "the filter can use {configuration}");
        }
        if allowed {
            let read = Config::parse(configuration.to_string().as_bytes());
            prop_assert!(read.is_ok(), "{}: {configuration}", read.expect_err("an error"));
        }
    }
}

/// The generator above makes both kinds.
#[test]
fn what_is_generated_is_sometimes_right_and_sometimes_wrong() {
    let (root, schemas) = (schema::configuration(), Schemas::new());
    let mut random = 1_u64;
    let mut count = [0; 2];
    for _ in 0..1_000 {
        let choices = (0..120).map(|_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random.to_be_bytes()[0]
        });
        let choices: Vec<u8> = choices.collect();
        let configuration = Choices(choices.into_iter()).instance(&root, &root);
        let allowed = schemas.accept(&as_written(&configuration, &root, &root));
        count[usize::from(allowed)] += 1;
    }
    assert!(count.iter().all(|&count| count > 25), "{count:?}");
}

/// Both schemas, which are one in what they allow.
struct Schemas {
    published: Validator,
    kong: Validator,
}

impl Schemas {
    fn new() -> Self {
        Self {
            published: draft202012::new(&schema::configuration()).expect("a schema"),
            kong: draft4::new(&schema::kong()["config_schema"]).expect("a schema"),
        }
    }

    fn accept(&self, configuration: &Value) -> bool {
        let published = self.published.is_valid(configuration);
        assert_eq!(
            self.kong.is_valid(configuration),
            published,
            "{configuration}"
        );
        published
    }
}

/// Whether Envoy could use a configuration.
fn is_usable(configuration: &Value) -> bool {
    let token = |_: &str| Some("token".to_owned());
    check(
        configuration.to_string().as_bytes(),
        Kind::Envoy,
        Callbacks::Every,
        token,
    )
    .is_ok()
}

/// A configuration without what only machines write: `null` for a field that is not there, an empty
/// list for an empty object and the other way round. The filter takes both, the schemas do not say so.
fn as_written(value: &Value, schema: &Value, root: &Value) -> Value {
    let schema = resolved(schema, root);
    match (value, schema["type"].as_str()) {
        (Value::Array(items), Some("object")) if items.is_empty() => json!({}),
        (Value::Object(members), Some("array")) if members.is_empty() => json!([]),
        (Value::Array(items), _) => {
            let items = items.iter();
            items
                .map(|item| as_written(item, &schema["items"], root))
                .collect()
        }
        (Value::Object(members), _) => {
            let known = &schema["properties"];
            let written = members.iter().filter_map(|(name, value)| {
                let is_absent = value.is_null() && known.get(name).is_some();
                (!is_absent).then(|| (name.clone(), as_written(value, &known[name], root)))
            });
            written.collect()
        }
        _ => value.clone(),
    }
}

fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(target) => &root["$defs"][target.trim_start_matches("#/$defs/")],
        None => schema,
    }
}

/// Calls for a schema and each one in it, with its place.
fn each_schema(schema: &Value, place: &str, visit: &mut impl FnMut(&Value, &str)) {
    visit(schema, place);
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        let place = format!("{place}/{keyword}");
        match (&**keyword, value) {
            ("$defs" | "definitions" | "properties", Value::Object(members)) => {
                for (name, schema) in members {
                    each_schema(schema, &format!("{place}/{name}"), visit);
                }
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(items)) => {
                for schema in items {
                    each_schema(schema, &place, visit);
                }
            }
            ("additionalProperties" | "items" | "not", Value::Object(_)) => {
                each_schema(value, &place, visit);
            }
            _ => {}
        }
    }
}

/// Makes values that a schema allows, with now and then something that it does not.
struct Choices(std::vec::IntoIter<u8>);

impl Choices {
    /// Nothing odd, and nothing more, once there are no more choices.
    fn next(&mut self) -> u8 {
        self.0.next().unwrap_or_default()
    }

    fn instance(&mut self, schema: &Value, root: &Value) -> Value {
        let schema = resolved(schema, root);
        if self.next() >= 252 {
            return self.odd();
        }
        if let Some(values) = schema["enum"].as_array() {
            return values[usize::from(self.next()) % values.len()].clone();
        }
        match schema["type"].as_str() {
            Some("array") => {
                let count = self.next() % 3;
                (0..count)
                    .map(|_| self.instance(&schema["items"], root))
                    .collect()
            }
            Some("boolean") => Value::Bool(self.next() % 2 == 1),
            Some("integer") => {
                let numbers = [1, 0, 399, 400, 503, 599, 600, 1000, 60_000, 60_001];
                numbers[usize::from(self.next()) % numbers.len()].into()
            }
            Some("object") => self.object(schema, root),
            Some("string") => {
                let texts = [
                    "/v1",
                    "a",
                    "",
                    "GET",
                    "x-a",
                    "Bearer {vault://a/b}",
                    "{vault://a/b",
                    "{{vault://",
                    "/a?b",
                    "host",
                ];
                texts[usize::from(self.next()) % texts.len()].into()
            }
            other => panic!("a type that this test does not know: {other:?}: {schema}"),
        }
    }

    fn object(&mut self, schema: &Value, root: &Value) -> Value {
        let mut members = Map::new();
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let share = if required.contains(&&**name) { 250 } else { 90 };
            if self.next() < share {
                let value = self.instance(field, root);
                members.insert(name.clone(), value);
            }
        }
        if schema["additionalProperties"].is_object() {
            for name in ["x", "authorization", "Host", "a b"] {
                if self.next() > 200 {
                    let value = self.instance(&schema["additionalProperties"], root);
                    members.insert(name.to_owned(), value);
                }
            }
        }
        if self.next() >= 253 {
            members.insert("unknown".to_owned(), self.odd());
        }
        Value::Object(members)
    }

    fn odd(&mut self) -> Value {
        let odd = [
            json!(null),
            json!([]),
            json!({}),
            json!("text"),
            json!(1),
            json!(-1),
            json!(0.5),
            json!(true),
            json!([null]),
            json!({"a": null}),
        ];
        odd[usize::from(self.next()) % odd.len()].clone()
    }
}
