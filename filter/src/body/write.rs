//! Writes the fields that a rule names.

use vaultref_contract::Secret;

use super::json::{Edit, Verb};
use super::{BodyError, form, json};
use crate::compile::{BodyWrites, JsonVerb, JsonWrite};
use crate::query::Parameter;
use crate::request::Field;

/// A body with a rule's fields in it.
pub(crate) fn write(
    body: &[u8],
    writes: &BodyWrites,
    fields: &[Field],
) -> Result<Secret, BodyError> {
    let value = |index: usize| match fields.get(index) {
        Some(Field::Value(value)) => Some(value.expose()),
        Some(Field::Omit) | None => None,
    };
    match writes {
        BodyWrites::Form(writes) => form::edit(body, writes, |index| {
            value(index).map_or(Parameter::Omit, Parameter::Value)
        }),
        BodyWrites::Json(writes) => {
            let edit = |write| edit(write, &value);
            let edits: Vec<Edit<'_>> = writes.iter().map(edit).collect();
            json::edit(body, &edits)
        }
    }
}

fn edit<'a>(write: &'a JsonWrite, value: &impl Fn(usize) -> Option<&'a [u8]>) -> Edit<'a> {
    let verb = match &write.verb {
        JsonVerb::Add(index) => Verb::Add(value(*index)),
        JsonVerb::Append(index) => Verb::Append(value(*index)),
        JsonVerb::Remove => Verb::Remove,
        JsonVerb::Rename(to) => Verb::Rename(to),
        JsonVerb::Replace(index) => Verb::Replace(value(*index)),
        JsonVerb::Set(index) => Verb::Set(value(*index)),
    };
    let path = &write.path;
    Edit { path, verb }
}
