//! `google.protobuf.Struct` on the wire, which is how Envoy hands over a configuration that is
//! written as a YAML block; a `TypedStruct` comes with its type's address around it.
//!
//! Messages are declared by hand: there are four of them, and their maps are read as lists so that
//! a name that stands twice is seen.

use super::json::Json;
use prost::Message;

/// How many envelopes (`Any`, `TypedStruct`) may be around the struct.
const MAX_ENVELOPES: usize = 2;

#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<Member>,
}

#[derive(Clone, PartialEq, Message)]
struct Member {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<StructValue>,
}

#[derive(Clone, PartialEq, Message)]
struct StructValue {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(message, tag = "5")]
    Struct(Struct),
    #[prost(message, tag = "6")]
    List(List),
}

#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    values: Vec<StructValue>,
}

/// `TypedStruct` and `Any` have the same shape: an address, then the bytes of a message.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The value of a struct; none if the bytes are none.
pub(super) fn decode(bytes: &[u8]) -> Option<Json> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=MAX_ENVELOPES {
        if let Some(value) = decode_struct(&bytes) {
            return Some(value);
        }
        let envelope = Envelope::decode(bytes.as_slice()).ok()?;
        if envelope.type_url.is_empty() {
            return None;
        }
        bytes = envelope.value;
    }
    None
}

fn decode_struct(bytes: &[u8]) -> Option<Json> {
    let decoded = Struct::decode(bytes).ok()?;
    // Unknown fields are skipped by protobuf's rules; a configuration without any field is none.
    if decoded.fields.is_empty() {
        return None;
    }
    object(decoded)
}

/// Recursion is bounded: protobuf's decoder takes no message nested deeper than a hundred.
fn object(decoded: Struct) -> Option<Json> {
    let members = decoded.fields.into_iter();
    let members = members.map(|member| Some((member.name, json(member.value?)?)));
    members.collect::<Option<_>>().map(Json::Object)
}

fn json(value: StructValue) -> Option<Json> {
    Some(match value.kind? {
        Kind::Null(_) => Json::Null,
        Kind::Number(number) => number.into(),
        Kind::Text(text) => Json::Text(text),
        Kind::Bool(yes) => Json::Bool(yes),
        Kind::Struct(inner) => object(inner)?,
        Kind::List(list) => {
            let values = list.values.into_iter();
            Json::List(values.map(json).collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: Kind) -> Option<StructValue> {
        Some(StructValue { kind: Some(kind) })
    }

    fn member(name: &str, kind: Kind) -> Member {
        Member {
            name: name.to_owned(),
            value: value(kind),
        }
    }

    fn example() -> Struct {
        let list = List {
            values: [Kind::Text("x".into()), Kind::Null(0), Kind::Number(0.5)]
                .into_iter()
                .filter_map(value)
                .collect(),
        };
        Struct {
            fields: vec![
                member("number", Kind::Number(1000.0)),
                member("yes", Kind::Bool(true)),
                member("list", Kind::List(list)),
                member(
                    "inner",
                    Kind::Struct(Struct {
                        fields: vec![member("text", Kind::Text("ü".into()))],
                    }),
                ),
            ],
        }
    }

    fn expected() -> Json {
        serde_json::from_str(
            r#"{"number": 1000, "yes": true, "list": ["x", null, 0.5], "inner": {"text": "ü"}}"#,
        )
        .expect("JSON")
    }

    #[test]
    fn a_struct_and_its_envelopes_are_read() {
        let mut bytes = example().encode_to_vec();
        for envelopes in 0..=MAX_ENVELOPES {
            assert_eq!(decode(&bytes), Some(expected()), "{envelopes}");
            let type_url = "type.googleapis.com/xds.type.v3.TypedStruct".to_owned();
            bytes = Envelope {
                type_url,
                value: bytes,
            }
            .encode_to_vec();
        }
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn bytes_of_the_wire_as_others_write_them_are_read() {
        // Struct{fields: {"a": {string_value: "b"}}}
        let bytes = b"\x0a\x08\x0a\x01a\x12\x03\x1a\x01b";
        assert_eq!(
            decode(bytes),
            Some(Json::Object(vec![("a".into(), Json::Text("b".into()))]))
        );
    }

    #[test]
    fn what_is_no_struct_is_none() {
        let empty = Struct {
            fields: vec![Member {
                name: "a".into(),
                value: None,
            }],
        };
        let mut deep = Struct::default();
        for _ in 0..60 {
            deep = Struct {
                fields: vec![member("a", Kind::Struct(deep))],
            };
        }
        for bytes in [
            empty.encode_to_vec(),
            deep.encode_to_vec(),
            Vec::new(),
            b"plain text".to_vec(),
        ] {
            assert_eq!(decode(&bytes), None, "{bytes:?}");
        }
    }
}
