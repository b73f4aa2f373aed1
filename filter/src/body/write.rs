//! Writes the fields that a rule names.

use vaultref_contract::Secret;

use super::json::{Edit, Verb};
use super::{BodyError, form, json};
use crate::compile::{BodyWrites, JsonVerb, JsonWrite, QueryWrite};
use crate::query::Parameter;
use crate::request::Field;

/// A body with the fields of two rules in it, which have none in common and are for the same kind of
/// body: those of a configured rule, and those in which the request has references.
pub(crate) fn write(
    body: &[u8],
    (writes, fields): (&BodyWrites, &[Field]),
    found: Option<(&BodyWrites, &[Field])>,
) -> Result<Secret, BodyError> {
    match (writes, found) {
        (BodyWrites::Json(writes), Some((BodyWrites::Json(found), found_fields))) => {
            // Both at once: one that leaves out an item of a list would move the others' places.
            let mut edits = edits(writes, fields);
            edits.extend(self::edits(found, found_fields));
            json::edit(body, &edits)
        }
        (BodyWrites::Json(writes), _) => json::edit(body, &edits(writes, fields)),
        (BodyWrites::Form(writes), Some((BodyWrites::Form(found), found_fields))) => {
            let resolved = edit_form(body, found, found_fields)?;
            edit_form(resolved.expose(), writes, fields)
        }
        (BodyWrites::Form(writes), _) => edit_form(body, writes, fields),
    }
}

fn edit_form(body: &[u8], writes: &[QueryWrite], fields: &[Field]) -> Result<Secret, BodyError> {
    form::edit(body, writes, |index| {
        value(fields, index).map_or(Parameter::Omit, Parameter::Value)
    })
}

fn edits<'a>(writes: &'a [JsonWrite], fields: &'a [Field]) -> Vec<Edit<'a>> {
    let edit = |write| edit(write, &|index| value(fields, index));
    writes.iter().map(edit).collect()
}

fn value(fields: &[Field], index: usize) -> Option<&[u8]> {
    match fields.get(index) {
        Some(Field::Value(value)) => Some(value.expose()),
        Some(Field::Omit) | None => None,
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
