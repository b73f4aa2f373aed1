//! The JSON Schema of the configuration, made from the types that it is read into, so that an editor
//! or a control plane can check one before a gateway does.
//!
//! It says what a text may look like, as the reader does. What a gateway refuses for other reasons (a
//! reference that cannot be read, two writes to one field) it cannot say; `vaultref check` does. Only
//! tools have it, no module.

use std::collections::BTreeMap;

use schemars::Schema;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Map, Value, json};

use crate::Config;

mod draft4;

/// An object whose values are texts. Its reader keeps their order, for which there is no schema.
pub(crate) type Members = BTreeMap<String, String>;

/// The schema, of JSON Schema's draft 2020-12.
#[must_use]
pub fn configuration() -> Value {
    let mut schema = schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<Config>();
    Plain.transform(&mut schema);
    schema.insert("title".to_owned(), "Vaultref filter".into());
    sorted(schema.to_value())
}

/// Kong's metadata of the filter, which it reads from `vaultref.meta.json` beside the module.
#[must_use]
pub fn kong() -> Value {
    json!({"config_schema": sorted(draft4::from(configuration()))})
}

/// Leaves out what only Rust's types say. The reader takes `null` for an absent field; a schema that
/// offered it everywhere would help nobody.
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        if object.get("format").and_then(Value::as_str) == Some("uint64") {
            object.remove("format");
        }
        if object.get("default").is_some_and(is_empty) {
            object.remove("default");
        }
        if let Some(Value::Array(kinds)) = object.get_mut("type") {
            kinds.retain(|kind| kind != "null");
            if let [one] = &kinds[..] {
                let one = one.clone();
                object.insert("type".to_owned(), one);
            }
        }
        if let Some(Value::Array(mut choices)) = object.remove("anyOf") {
            choices.retain(|choice| choice != &json!({"type": "null"}));
            match &choices[..] {
                [Value::Object(one)] => object.extend(one.clone()),
                _ => {
                    object.insert("anyOf".to_owned(), Value::Array(choices));
                }
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Names in alphabetical order, so that a published file changes only where the schema does.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            let members: BTreeMap<_, _> = members.map(|(name, it)| (name, sorted(it))).collect();
            Value::Object(Map::from_iter(members))
        }
        other => other,
    }
}

/// Either `rules`, or the fields of the one rule for everything.
pub(crate) fn one_rule_or_many(schema: &mut Schema) {
    let single = json!([
        {"required": ["request"]},
        {"required": ["basic_auth"]},
        {"required": ["on_error"]},
        {"required": ["refresh_on_status"]},
        {"required": ["body"]},
        {"required": ["resolve"]},
    ]);
    let choices = json!([
        {"required": ["rules"], "not": {"anyOf": single}},
        {"not": {"required": ["rules"]}, "anyOf": single},
    ]);
    schema.insert("oneOf".to_owned(), choices);
}

/// Either `upstream` or `host_function: true`.
pub(crate) fn one_target(schema: &mut Schema) {
    let choices = json!([
        {"required": ["upstream"], "properties": {"host_function": {"enum": [false]}}},
        {"required": ["host_function"], "properties": {"host_function": {"enum": [true]}},
         "not": {"required": ["upstream"]}},
    ]);
    schema.insert("oneOf".to_owned(), choices);
}

/// At most one of `status` (or `body`), `without_field: true` and `default`.
pub(crate) fn one_way_out(schema: &mut Schema) {
    let without = json!({"enum": [true]});
    let pairs = json!([
        {"required": ["status", "default"]},
        {"required": ["status", "without_field"], "properties": {"without_field": without}},
        {"required": ["default", "without_field"], "properties": {"without_field": without}},
        {"required": ["body", "default"]},
        {"required": ["body", "without_field"], "properties": {"without_field": without}},
    ]);
    schema.insert("not".to_owned(), json!({"anyOf": pairs}));
}
