//! How Kong hands a configuration over that was given as an object.
//!
//! It was decoded and is encoded again by Lua, which knows neither the order of members nor the
//! difference between an empty list and an empty object, and writes `/` as `\\/`.

use serde_json::{Map, Value};

/// The configuration as the filter gets it: a JSON object written anew, anything else (a text, for
/// Kong) as it is. `seed` decides the order of members.
pub(crate) fn configuration(given: &[u8], seed: u64) -> Vec<u8> {
    match serde_json::from_slice(given) {
        Ok(Value::Object(members)) => {
            let mut text = String::new();
            object(&mut text, &members, seed);
            text.into_bytes()
        }
        _ => given.to_vec(),
    }
}

fn value(text: &mut String, given: &Value, seed: u64) {
    match given {
        Value::Array(items) if items.is_empty() => text.push_str("{}"),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                value(text, item, seed);
            }
            text.push(']');
        }
        Value::Bool(_) | Value::Null => text.push_str(&given.to_string()),
        Value::Number(number) => match number.as_f64() {
            // Lua has one kind of number, and prints a whole one without a point.
            Some(whole) if whole.fract() == 0.0 => text.push_str(&format!("{whole:.0}")),
            _ => text.push_str(&number.to_string()),
        },
        Value::Object(members) => object(text, members, seed),
        Value::String(string) => quoted(text, string),
    }
}

fn object(text: &mut String, members: &Map<String, Value>, seed: u64) {
    let mut members: Vec<(&String, &Value)> = members.iter().collect();
    members.sort_by_key(|(name, _)| hash(name, seed));
    text.push('{');
    for (index, (name, member)) in members.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        quoted(text, name);
        text.push(':');
        value(text, member, seed);
    }
    text.push('}');
}

fn quoted(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' | '/' | '\\' => text.extend(['\\', character]),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => text.push(character),
        }
    }
    text.push('"');
}

/// FNV-1a: any order will do that differs from seed to seed.
fn hash(name: &str, seed: u64) -> u64 {
    name.bytes()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(given: &str) -> String {
        String::from_utf8(configuration(given.as_bytes(), 1)).expect("text")
    }

    #[test]
    fn an_object_is_written_as_lua_does() {
        let table = [
            (r#"{"a": [], "b": [[]]}"#, vec![r#""a":{}"#, r#""b":[{}]"#]),
            (r#"{"path": "/v1"}"#, vec![r#"{"path":"\/v1"}"#]),
            (
                r#"{"/a": "\u0001\u007f\n\"\\ü"}"#,
                vec![r#"{"\/a":"\u0001\u007f\n\"\\ü"}"#],
            ),
            (
                r#"{"n": [1, 2.0, 0.5, true, null]}"#,
                vec![r#"{"n":[1,2,0.5,true,null]}"#],
            ),
            (r#"{"twice": 1, "twice": 2}"#, vec![r#"{"twice":2}"#]),
        ];
        for (given, parts) in table {
            let encoded = encoded(given);
            for part in parts {
                assert!(encoded.contains(part), "{given} became {encoded}");
            }
        }
    }

    #[test]
    fn what_is_no_object_stays() {
        for given in ["", "text", "[]", "{\"a\":", "\"/\""] {
            assert_eq!(encoded(given), given);
        }
    }

    #[test]
    fn the_order_of_members_is_any() {
        let given = br#"{"a":1,"b":2,"c":3}"#;
        let first = configuration(given, 0);
        assert!((1..20).any(|seed| configuration(given, seed) != first));
    }
}
