//! The schema in draft 4 of JSON Schema, the only one that Kong reads. With a schema that is none of
//! draft 4 Kong does not start.

use serde_json::{Map, Value, json};

const DRAFT: &str = "http://json-schema.org/draft-04/schema#";

/// Converts a schema as it is published. It has none of what could not be said in draft 4 at all; a
/// test looks.
pub(super) fn from(schema: Value) -> Value {
    let mut schema = converted(schema);
    if let Value::Object(members) = &mut schema {
        members.insert("$schema".to_owned(), DRAFT.into());
    }
    schema
}

fn converted(schema: Value) -> Value {
    let members = match schema {
        Value::Object(members) => members,
        Value::Bool(false) => return json!({"not": {}}),
        _ => return json!({}),
    };
    if let Some(target) = members.get("$ref").and_then(Value::as_str) {
        // What stands beside a reference counts for nothing there.
        return json!({"$ref": target.replacen("/$defs/", "/definitions/", 1)});
    }
    let mut result = Map::new();
    for (keyword, value) in members {
        match keyword.as_str() {
            "$defs" => result.insert("definitions".to_owned(), each_member(value)),
            "properties" | "patternProperties" => result.insert(keyword, each_member(value)),
            "additionalProperties" if value.is_boolean() => result.insert(keyword, value),
            "additionalProperties" | "items" | "not" => result.insert(keyword, converted(value)),
            "allOf" | "anyOf" | "oneOf" => result.insert(keyword, each_item(value)),
            "const" => result.insert("enum".to_owned(), json!([value])),
            "exclusiveMaximum" | "exclusiveMinimum" => {
                let bound = keyword.replacen("exclusiveM", "m", 1);
                result.insert(keyword, true.into());
                result.insert(bound, value)
            }
            "$comment" | "examples" => None,
            _ => result.insert(keyword, value),
        };
    }
    Value::Object(result)
}

fn each_member(schemas: Value) -> Value {
    match schemas {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, schema)| (name, converted(schema)))
            .collect(),
        other => other,
    }
}

fn each_item(schemas: Value) -> Value {
    match schemas {
        Value::Array(items) => items.into_iter().map(converted).collect(),
        other => other,
    }
}
