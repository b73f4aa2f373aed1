//! What holds for any configuration.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Filters, known};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c.~/]{0,3}",
        any::<String>(),
        Just("{vault://v/other}".to_owned()),
        Just("{{vault://v/other}".to_owned()),
        Just("{vault://".to_owned()),
        Just("named".to_owned()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // (The parser at hand is not exact for all others, and a whole one comes out without `.0`.)
        any::<i32>().prop_map(|number| json!(f64::from(number) + 0.5)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_not_named_comes_out_as_it_went_in(
        members in prop::collection::vec((text(), value()), 0..6),
        is_resolved in any::<bool>(),
    ) {
        let mut written: Map<String, Value> = members.into_iter().collect();
        written.remove("vaultref");
        written.insert("named".to_owned(), json!(["{vault://v/x}", 7]));
        let mut expected = Value::Object(written.clone());
        expected["named"][0] = json!("<x>");
        written.insert("vaultref".to_owned(), json!({"upstream": "daemon"}));
        let mut filters = Filters::in_envoy();
        let text = Value::Object(written).to_string();
        let id = filters.configure(&text, &["named", "absent.named"]).expect("good");
        if is_resolved {
            filters.answer(known);
            let handed_over = filters.handed_over(id).expect("resolved");
            prop_assert_eq!(serde_json::from_str::<Value>(&handed_over).expect("JSON"), expected);
        } else {
            prop_assert_eq!(filters.handed_over(id), None);
        }
    }

    #[test]
    fn no_bytes_end_the_vm(bytes in any::<Vec<u8>>(), fields in prop::collection::vec(text(), 0..3)) {
        let mut filters = Filters::in_envoy();
        *filters.host.configuration.borrow_mut() = bytes.clone();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let _ = filters.documents.configure(bytes.len(), &fields);
    }
}
