//! The types of `wire` are written by hand; here they are held to the WIT. For each type a value is
//! made from the WIT alone, which the Rust type must read and write back the same: a name, a case,
//! a field or a type that differs fails.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use vaultref_contract::wire::{
    self, Failure, FailureKind, Lifetime, Refusal, RefusalKind, ResolveRequest, ResolveResponse,
};
use wit_parser::{Resolve, Type, TypeDefKind, TypeId};

struct Wit(Resolve);

impl Wit {
    fn load() -> Self {
        let mut resolve = Resolve::default();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vaultref.wit");
        resolve
            .push_source(path, include_str!("../vaultref.wit"))
            .expect("valid WIT");
        Self(resolve)
    }

    fn type_named(&self, name: &str) -> TypeId {
        let (_, types) = self
            .0
            .interfaces
            .iter()
            .find(|(_, interface)| interface.name.as_deref() == Some("types"))
            .expect("interface types");
        types.types[name]
    }

    fn names(&self) -> Vec<String> {
        let types = self
            .0
            .interfaces
            .iter()
            .find(|(_, i)| i.name.as_deref() == Some("types"));
        types
            .expect("interface types")
            .1
            .types
            .keys()
            .cloned()
            .collect()
    }

    /// Values of the type that together use every field and every case, each option both ways.
    fn samples(&self, of: Type) -> Vec<Value> {
        match of {
            Type::Bool => vec![json!(true), json!(false)],
            Type::String => vec![json!("text")],
            Type::U32 => vec![json!(u32::MAX)],
            Type::U64 => vec![json!(u64::MAX)],
            Type::Id(id) => self.samples_of(id),
            other => panic!("{other:?} has no JSON form yet"),
        }
    }

    fn samples_of(&self, id: TypeId) -> Vec<Value> {
        match &self.0.types[id].kind {
            TypeDefKind::Type(of) => self.samples(*of),
            TypeDefKind::List(Type::U8) => vec![json!("/wA=")],
            TypeDefKind::List(of) => vec![Value::Array(self.samples(*of))],
            TypeDefKind::Option(of) => [self.samples(*of), vec![Value::Null]]
                .into_iter()
                .flatten()
                .collect(),
            TypeDefKind::Enum(cases) => cases.cases.iter().map(|case| json!(case.name)).collect(),
            TypeDefKind::Variant(variant) => variant
                .cases
                .iter()
                .flat_map(|case| {
                    let inner = self.samples(case.ty.expect("a case with a value"));
                    inner
                        .into_iter()
                        .map(|value| json!({ snake(&case.name): value }))
                })
                .collect(),
            TypeDefKind::Record(record) => {
                let fields: Vec<_> = record
                    .fields
                    .iter()
                    .map(|f| (snake(&f.name), self.samples(f.ty)))
                    .collect();
                let longest = fields
                    .iter()
                    .map(|(_, values)| values.len())
                    .max()
                    .unwrap_or(1);
                (0..longest)
                    .map(|n| {
                        let members = fields
                            .iter()
                            .map(|(name, values)| (name.clone(), values[n % values.len()].clone()));
                        Value::Object(members.collect::<Map<_, _>>())
                    })
                    .collect()
            }
            other => panic!("{other:?} has no JSON form yet"),
        }
    }
}

fn snake(name: &str) -> String {
    name.replace('-', "_")
}

fn reads_and_writes_back<T: DeserializeOwned + Serialize>(wit: &Wit, name: &str) -> usize {
    let samples = wit.samples_of(wit.type_named(name));
    for sample in &samples {
        let read: T = serde_json::from_value(sample.clone())
            .unwrap_or_else(|error| panic!("{name}: {sample} from the WIT: {error}"));
        let written = serde_json::to_value(&read).expect("JSON");
        assert_eq!(written, *sample, "{name}");
    }
    samples.len()
}

#[test]
fn the_wire_types_are_those_of_the_wit() {
    let wit = Wit::load();
    reads_and_writes_back::<Failure>(&wit, "failure");
    reads_and_writes_back::<Lifetime>(&wit, "lifetime");
    reads_and_writes_back::<Refusal>(&wit, "refusal");
    reads_and_writes_back::<ResolveRequest>(&wit, "resolve-request");
    let kinds = reads_and_writes_back::<FailureKind>(&wit, "failure-kind");
    assert_eq!(kinds, FailureKind::ALL.len());
    let kinds = reads_and_writes_back::<RefusalKind>(&wit, "refusal-kind");
    assert_eq!(kinds, RefusalKind::ALL.len());
}

/// Types with a value have no `Serialize`; what they write goes through `encode_reply`.
#[test]
fn an_answer_is_that_of_the_wit() {
    let wit = Wit::load();
    for sample in wit.samples_of(wit.type_named("resolve-response")) {
        let read: ResolveResponse =
            serde_json::from_value(sample.clone()).expect("the WIT's answer");
        let written = wire::encode_reply(Ok(&read.results));
        let written: Value = serde_json::from_slice(written.expose()).expect("JSON");
        assert_eq!(written, sample);
    }
}

#[test]
fn a_field_that_the_wit_does_not_have_is_refused() {
    let wit = Wit::load();
    for name in [
        "failure",
        "lifetime",
        "refusal",
        "resolve-request",
        "secret",
    ] {
        let mut sample = wit.samples_of(wit.type_named(name)).remove(0);
        sample
            .as_object_mut()
            .expect("a record")
            .insert("extra".to_owned(), json!(1));
        let refused = match name {
            "failure" => serde_json::from_value::<Failure>(sample).is_err(),
            "lifetime" => serde_json::from_value::<Lifetime>(sample).is_err(),
            "refusal" => serde_json::from_value::<Refusal>(sample).is_err(),
            "secret" => serde_json::from_value::<wire::SecretValue>(sample).is_err(),
            _ => serde_json::from_value::<ResolveRequest>(sample).is_err(),
        };
        assert!(refused, "{name}");
    }
}

#[test]
fn every_type_of_the_wit_is_covered() {
    let covered = [
        "failure",
        "failure-kind",
        "lifetime",
        "outcome",
        "refusal",
        "refusal-kind",
        "resolve-request",
        "resolve-response",
        "revision",
        "secret",
        "value",
    ];
    let mut names = Wit::load().names();
    names.sort();
    assert_eq!(names, covered);
}

#[test]
fn failure_kinds_are_named_as_they_are_written() {
    for kind in FailureKind::ALL {
        assert_eq!(
            serde_json::to_value(kind).expect("JSON"),
            json!(kind.name())
        );
    }
}
