//! The types of `wire` are written by hand; here they are held to the WIT. For each type a value is
//! made from the WIT alone, which the Rust type must read and write back the same: a name, a case,
//! a field or a type that differs fails.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use vaultref_contract::wire::{
    self, Failure, FailureKind, Lifetime, Refusal, RefusalKind, ReplyError, ResolveRequest,
    ResolveResponse,
};
use wit_parser::{FunctionKind, Handle, Resolve, Type, TypeDefKind, TypeId, WorldKey};

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

    /// The names of a variant's or an enum's cases, or of a record's fields.
    fn parts_of(&self, name: &str) -> Vec<String> {
        match &self.0.types[self.type_named(name)].kind {
            TypeDefKind::Enum(cases) => cases.cases.iter().map(|case| case.name.clone()).collect(),
            TypeDefKind::Record(record) => record.fields.iter().map(|f| snake(&f.name)).collect(),
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter();
                cases.map(|case| case.name.clone()).collect()
            }
            other => panic!("{name} is {other:?}"),
        }
    }

    /// The type that a name stands for, which another interface may use under a name of its own.
    fn aliased(&self, of: Type) -> TypeId {
        let Type::Id(id) = of else {
            panic!("{of:?} has no name");
        };
        match self.0.types[id].kind {
            TypeDefKind::Type(Type::Id(other)) => self.aliased(Type::Id(other)),
            _ => id,
        }
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

/// The names of all cases of an enum. A case that is missing here does not compile, since the match
/// has no wildcard; one that the WIT does not have is seen by whoever compares.
macro_rules! cases {
    ($type:ty { $($pattern:pat => $name:literal),+ $(,)? }) => {{
        #[allow(dead_code, reason = "it is there to be compiled")]
        fn name(value: &$type) -> &'static str {
            match value {
                $($pattern => $name),+
            }
        }
        vec![$($name),+]
    }};
}

/// The names of all fields of a struct. One that is missing here does not compile.
macro_rules! fields {
    ($type:path { $($field:ident),+ $(,)? }) => {{
        #[allow(dead_code, unused_variables, reason = "it is there to be compiled")]
        fn take(value: $type) {
            let $type { $($field),+ } = value;
        }
        vec![$(stringify!($field)),+]
    }};
}

#[test]
fn the_wire_types_have_no_case_and_no_field_that_the_wit_does_not_have() {
    let failure_kinds = cases!(FailureKind {
        FailureKind::Denied => "denied",
        FailureKind::InvalidReference => "invalid-reference",
        FailureKind::KeyNotFound => "key-not-found",
        FailureKind::NotFound => "not-found",
        FailureKind::Pending => "pending",
        FailureKind::Unavailable => "unavailable",
        FailureKind::UnknownVault => "unknown-vault",
        FailureKind::WrongType => "wrong-type",
    });
    let refusal_kinds = cases!(RefusalKind {
        RefusalKind::BadRequest => "bad-request",
        RefusalKind::Forbidden => "forbidden",
        RefusalKind::Internal => "internal",
        RefusalKind::TooLarge => "too-large",
        RefusalKind::Unauthorized => "unauthorized",
    });
    let outcomes = cases!(wire::Outcome {
        wire::Outcome::Failure(_) => "failure",
        wire::Outcome::Secret(_) => "secret",
        wire::Outcome::Unchanged(_) => "unchanged",
    });
    let values = cases!(wire::Value {
        wire::Value::Bytes(_) => "bytes",
        wire::Value::Text(_) => "text",
    });
    let wit = Wit::load();
    for (name, parts) in [
        (
            "failure",
            fields!(Failure {
                kind,
                retryable,
                retry_after
            }),
        ),
        ("failure-kind", failure_kinds),
        (
            "lifetime",
            fields!(Lifetime {
                fresh_for,
                usable_for,
                stale
            }),
        ),
        ("outcome", outcomes),
        ("refusal", fields!(Refusal { kind, message })),
        ("refusal-kind", refusal_kinds),
        (
            "resolve-request",
            fields!(ResolveRequest {
                references,
                known,
                wait_ms,
                refresh
            }),
        ),
        ("resolve-response", fields!(ResolveResponse { results })),
        (
            "secret",
            fields!(wire::SecretValue {
                value,
                revision,
                lifetime
            }),
        ),
        ("value", values),
    ] {
        assert_eq!(parts, wit.parts_of(name), "{name}");
    }
}

#[test]
fn the_function_takes_a_request_and_gives_an_answer_or_a_refusal() {
    let wit = Wit::load();
    let (id, resolver) = wit
        .0
        .interfaces
        .iter()
        .find(|(_, interface)| interface.name.as_deref() == Some("resolver"))
        .expect("interface resolver");
    let names: Vec<_> = resolver.functions.keys().collect();
    assert_eq!(names, ["resolve"], "no list, no get-all");
    let resolve = &resolver.functions["resolve"];
    assert_eq!(resolve.kind, FunctionKind::Freestanding);
    let [request] = resolve.params.as_slice() else {
        panic!("{:?}", resolve.params);
    };
    assert_eq!(request.name, "request");
    assert_eq!(wit.aliased(request.ty), wit.type_named("resolve-request"));
    let result = wit.aliased(resolve.result.expect("a result"));
    let TypeDefKind::Result(result) = &wit.0.types[result].kind else {
        panic!("{:?}", wit.0.types[result].kind);
    };
    let ok = wit.aliased(result.ok.expect("an answer"));
    assert_eq!(ok, wit.type_named("resolve-response"));
    let refusal = wit.aliased(result.err.expect("a refusal"));
    assert_eq!(refusal, wit.type_named("refusal"));
    // And the host is who has it.
    let (_, host) = wit.0.worlds.iter().next().expect("a world");
    assert_eq!(host.name, "host");
    let exports: Vec<_> = host.exports.keys().collect();
    assert_eq!(exports, [&WorldKey::Interface(id)]);
}

/// The functions of an interface, with the types that their results are made of.
fn functions(wit: &Wit, interface: &str) -> Vec<(String, Vec<String>)> {
    let interfaces = &mut wit.0.interfaces.iter();
    let (_, interface) = interfaces
        .find(|(_, found)| found.name.as_deref() == Some(interface))
        .expect("the interface");
    let functions = interface.functions.values().map(|function| {
        let mut within = Vec::new();
        let mut open: Vec<Type> = function.result.into_iter().collect();
        while let Some(of) = open.pop() {
            let Type::Id(id) = of else { continue };
            let found = &wit.0.types[id];
            within.extend(found.name.clone());
            match &found.kind {
                TypeDefKind::Enum(_) => {}
                TypeDefKind::Handle(Handle::Borrow(id) | Handle::Own(id)) => {
                    within.extend(wit.0.types[*id].name.clone());
                }
                TypeDefKind::List(of) | TypeDefKind::Option(of) | TypeDefKind::Type(of) => {
                    open.push(*of);
                }
                TypeDefKind::Record(record) => {
                    open.extend(record.fields.iter().map(|field| field.ty));
                }
                TypeDefKind::Result(result) => open.extend(result.ok.into_iter().chain(result.err)),
                TypeDefKind::Variant(variant) => {
                    open.extend(variant.cases.iter().filter_map(|case| case.ty));
                }
                other => panic!("{other:?}"),
            }
        }
        (function.name.clone(), within)
    });
    functions.collect()
}

#[test]
fn a_component_gets_secrets_one_by_one_and_values_through_reveal_alone() {
    let wit = Wit::load();
    let secrets = functions(&wit, "secrets");
    let names: Vec<_> = secrets.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["[method]secret.revision", "[method]secret.lifetime", "get"];
    assert_eq!(names, expected, "no list, no get-all");
    for (name, within) in &secrets {
        assert!(!within.iter().any(|of| of == "value"), "{name}: {within:?}");
    }
    let reveal = functions(&wit, "reveal");
    let [(name, within)] = &reveal[..] else {
        panic!("{reveal:?}")
    };
    assert_eq!(name, "reveal");
    assert!(within.iter().any(|of| of == "value"), "{within:?}");
}

/// What the Rust side makes of the function's result, both ways.
#[test]
fn an_answer_or_a_refusal_is_read_as_it_was_written() {
    let wit = Wit::load();
    for sample in wit.samples_of(wit.type_named("refusal")) {
        let refusal: Refusal = serde_json::from_value(sample).expect("the WIT's refusal");
        let written = wire::encode_reply(Err(&refusal));
        let read = wire::decode_reply(written.expose(), 1);
        assert!(
            matches!(&read, Err(ReplyError::Refused(read)) if *read == refusal),
            "{read:?}"
        );
    }
    for sample in wit.samples_of(wit.type_named("resolve-response")) {
        let response: ResolveResponse =
            serde_json::from_value(sample.clone()).expect("the WIT's answer");
        let count = response.results.len();
        let written = wire::encode_reply(Ok(&response.results));
        let read = wire::decode_reply(written.expose(), count).expect("an answer");
        let written = wire::encode_reply(Ok(&read));
        let again: Value = serde_json::from_slice(written.expose()).expect("JSON");
        assert_eq!(again, sample);
    }
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
