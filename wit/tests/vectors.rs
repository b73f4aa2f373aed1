//! The results of Kong's own parser: field for field ours are the same. (The wording of an error is
//! ours to choose.)

use serde_json::{Map, Value, json};
use vaultref_contract::{OptionValue, Reference};

fn option(value: &OptionValue) -> Value {
    match value {
        OptionValue::Flag => json!(true),
        OptionValue::List(values) => values.iter().map(option).collect(),
        OptionValue::Text(text) => json!(text),
    }
}

fn shown(reference: &Reference) -> Value {
    let mut fields = Map::new();
    fields.insert("name".to_owned(), json!(reference.vault()));
    fields.insert("resource".to_owned(), json!(reference.resource()));
    if let Some(key) = reference.key() {
        fields.insert("key".to_owned(), json!(key));
    }
    if let Some(version) = reference.version() {
        fields.insert("version".to_owned(), json!(version));
    }
    if let Some(options) = reference.options() {
        let options: Map<_, _> = options
            .iter()
            .map(|(name, value)| (name.to_owned(), option(value)))
            .collect();
        fields.insert("config".to_owned(), Value::Object(options));
    }
    Value::Object(fields)
}

#[test]
fn all_vectors_come_out_as_in_kong() {
    let mut seen = 0;
    for line in include_str!("references.jsonl").lines() {
        let vector: Value = serde_json::from_str(line).expect("a vector");
        let text = vector["reference"].as_str().expect("a reference");
        match (Reference::parse(text), vector.get("ok")) {
            (Ok(reference), Some(expected)) => {
                assert_eq!(shown(&reference), *expected, "{text}");
                let printed = reference.to_string();
                assert_eq!(
                    Reference::parse(&printed),
                    Ok(reference),
                    "{text} as {printed}"
                );
            }
            (Err(_), None) => {}
            (result, expected) => panic!("{text}: {result:?}, Kong has {expected:?}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 120);
}
