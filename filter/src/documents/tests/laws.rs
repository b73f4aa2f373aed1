//! What holds for any configuration, and for any answers.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Filters, known};
use crate::documents::{DocumentId, News};
use crate::testing::{failure, reply, secret, unchanged};

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

/// What may happen to a VM.
#[derive(Clone, Debug)]
enum Step {
    /// An answer to the oldest call, damaged at a place.
    Answer {
        kind: usize,
        damage: Option<(u16, u8)>,
    },
    Configure(Vec<u8>),
    News(usize),
    Remove(usize),
    Tick(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let damage = prop::option::weighted(0.3, any::<(u16, u8)>());
    let answer = (0..5_usize, damage).prop_map(|(kind, damage)| Step::Answer { kind, damage });
    let ticks = prop_oneof![Just(0), Just(200), Just(1_000), Just(4_000_000)];
    prop_oneof![
        4 => answer,
        3 => configuration().prop_map(Step::Configure),
        3 => (0..4_usize).prop_map(Step::News),
        1 => (0..4_usize).prop_map(Step::Remove),
        4 => ticks.prop_map(Step::Tick),
    ]
}

/// A configuration, or what is almost one.
fn configuration() -> impl Strategy<Value = Vec<u8>> {
    let reference = "\\{vault://v/[a-c]\\}";
    let named = prop_oneof![
        reference.prop_map(Value::from),
        prop::collection::vec(reference, 0..3).prop_map(Value::from),
        value(),
    ];
    let members = prop::collection::vec((text(), value()), 0..3);
    let damage = prop::option::weighted(0.3, any::<(u16, u8)>());
    (named, members, damage).prop_map(|(named, members, damage)| {
        let mut whole: Map<String, Value> = members.into_iter().collect();
        whole.insert("named".to_owned(), named);
        whole.insert("vaultref".to_owned(), json!({"upstream": "daemon"}));
        damaged(Value::Object(whole).to_string().into_bytes(), damage)
    })
}

fn damaged(mut bytes: Vec<u8>, damage: Option<(u16, u8)>) -> Vec<u8> {
    if let Some((at, byte)) = damage {
        let at = usize::from(at) % (bytes.len() + 1);
        match bytes.get_mut(at) {
            Some(there) if byte != 0 => *there = byte,
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// The filters of a VM, with what each was given.
struct Stage {
    filters: Filters,
    known: Vec<(DocumentId, Value)>,
}

impl Stage {
    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Answer { kind, damage } => self.answer(kind, damage),
            Step::Configure(bytes) => self.configure(&bytes)?,
            Step::News(at) => self.look_at(at)?,
            Step::Remove(at) if at < self.known.len() => {
                let (id, _) = self.known.remove(at);
                self.filters.documents.remove(id);
                prop_assert!(self.filters.documents.news(id).is_none());
                self.filters.ticking = self.known.last().map(|(id, _)| *id);
            }
            Step::Tick(milliseconds) if self.filters.ticking.is_some() => {
                self.filters.tick(milliseconds);
            }
            Step::Remove(_) | Step::Tick(_) => {}
        }
        Ok(())
    }

    fn configure(&mut self, bytes: &[u8]) -> Result<(), TestCaseError> {
        self.filters.host.configuration.replace(bytes.to_vec());
        let documents = &mut self.filters.documents;
        let Ok(id) = documents.configure(bytes.len(), &["named"]) else {
            return Ok(());
        };
        // Bytes that are no JSON may be a `Struct`; those are not looked into here.
        let written = serde_json::from_slice(bytes).unwrap_or_default();
        self.known.push((id, written));
        self.filters.ticking = Some(id);
        Ok(())
    }

    fn answer(&mut self, kind: usize, damage: Option<(u16, u8)>) {
        if self.filters.host.dispatched.borrow().is_empty() {
            return;
        }
        let call = self.filters.host.dispatched.borrow_mut().remove(0);
        let answer = reply(&call.body, |reference, known| match kind {
            0 => failure("not-found"),
            1 if !known.is_null() => unchanged(),
            2 => secret("{vault://v/a}", "r2"),
            3 => secret("\"\n\u{1}\u{10ffff}", "r3"),
            _ => secret(reference, "r1"),
        });
        let body = damaged(answer.to_string().into_bytes(), damage);
        // It may have been given up, or be that of one that was removed.
        let _ = self.filters.deliver(call.token, "1", body);
    }

    /// Looks for news, and at what is handed over.
    fn look_at(&mut self, at: usize) -> Result<(), TestCaseError> {
        let Some((id, written)) = self.known.get(at) else {
            return Ok(());
        };
        let Some(News::Resolved(text)) = self.filters.documents.news(*id) else {
            return Ok(());
        };
        let handed_over: Value = serde_json::from_slice(text.expose()).expect("JSON");
        let Value::Object(written) = written else {
            return Ok(());
        };
        let handed_over = handed_over.as_object().expect("an object");
        let kept = written.iter().filter(|(name, _)| *name != "vaultref");
        prop_assert_eq!(handed_over.len(), kept.clone().count());
        for (name, value) in kept.filter(|(name, _)| *name != "named") {
            prop_assert_eq!(handed_over.get(name), Some(value));
        }
        // What stood in the field has the shape that it had.
        let (before, now) = (written.get("named"), handed_over.get("named"));
        prop_assert_eq!(before.map(shape), now.map(shape));
        Ok(())
    }
}

/// A value with all its texts left out.
fn shape(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(members) => {
            let members = members.iter();
            Value::Object(
                members
                    .map(|(name, value)| (name.clone(), shape(value)))
                    .collect(),
            )
        }
        Value::String(_) => json!(""),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn nothing_ends_the_vm_or_changes_what_is_not_named(
        steps in prop::collection::vec(step(), 1..40),
        is_nginx in any::<bool>(),
    ) {
        let filters = if is_nginx { Filters::in_nginx() } else { Filters::in_envoy() };
        let mut stage = Stage { filters, known: Vec::new() };
        for step in steps {
            stage.take(step)?;
        }
    }

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
