//! Writes a rule's fields into the request at hand.
//!
//! If the values are there, they are written at once. If the request has to wait, every field is
//! overwritten first ([`guard`]), with what the client sent remembered where it is needed again, and
//! written when the values have come ([`complete`]): whatever happens in between, neither the
//! reference nor the client's own value goes to the upstream in a credential's place.

use vaultref_contract::Secret;

use crate::compile::{HeaderVerb, Kind, QueryVerb, Rule};
use crate::query::{self, Parameter};
use crate::{Host, Status};

const UPSTREAM_URI: [&str; 2] = ["ngx", "upstream_uri"];

/// What a field gets.
pub(crate) enum Field {
    /// Nothing: it is left out.
    Omit,
    /// This value, ready for the wire.
    Value(Secret),
}

/// Why a request cannot be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// Servers differ in which parameters of the query there are.
    Ambiguous,
    /// The host refused.
    Host(Status),
    /// The gateway has no place from which a query string goes upstream.
    NoQuery,
}

impl From<Status> for WriteError {
    fn from(status: Status) -> Self {
        Self::Host(status)
    }
}

/// Writes all fields of a rule.
pub(crate) fn apply(
    host: &impl Host,
    kind: Kind,
    rule: &Rule,
    fields: &[Field],
) -> Result<(), WriteError> {
    for write in &rule.headers {
        let name = write.name.as_str();
        match &write.verb {
            HeaderVerb::Add(index) => {
                if let Some(Field::Value(value)) = fields.get(*index)
                    && host.request_header(name)?.is_none()
                {
                    host.set_request_header(name, value.expose())?;
                }
            }
            HeaderVerb::Append(index) => {
                if let Some(Field::Value(value)) = fields.get(*index) {
                    host.add_request_header(name, value.expose())?;
                }
            }
            HeaderVerb::Remove => host.remove_request_header(name)?,
            HeaderVerb::Rename { to } => rename(host, name, to)?,
            HeaderVerb::Replace(index) => {
                if host.request_header(name)?.is_some() {
                    overwrite(host, name, fields.get(*index))?;
                }
            }
            HeaderVerb::Set(index) => overwrite(host, name, fields.get(*index))?,
        }
    }
    if rule.query.is_empty() {
        return Ok(());
    }
    let path = read_clear_path(host, kind, rule)?;
    write_path(host, kind, rule, &path, fields)
}

/// What was decided for a request on what the client sent, while it waits.
pub(crate) struct Plan {
    /// One for each header that the rule writes.
    headers: Vec<Step>,
    /// The path and query of the client.
    path: Option<Vec<u8>>,
}

enum Step {
    /// One more value behind the client's own.
    Append { own: Vec<Vec<u8>> },
    /// Nothing is left to be done.
    Done,
    /// The field is written.
    Write,
}

/// Does what needs no secret, and overwrites every field that is to be written.
pub(crate) fn guard(host: &impl Host, kind: Kind, rule: &Rule) -> Result<Plan, WriteError> {
    let mut headers = Vec::with_capacity(rule.headers.len());
    for write in &rule.headers {
        let name = write.name.as_str();
        let step = match &write.verb {
            HeaderVerb::Add(_) if host.request_header(name)?.is_some() => Step::Done,
            HeaderVerb::Add(_) | HeaderVerb::Set(_) => Step::Write,
            HeaderVerb::Append(_) => Step::Append {
                own: values(host, name)?,
            },
            HeaderVerb::Remove => {
                host.remove_request_header(name)?;
                Step::Done
            }
            HeaderVerb::Rename { to } => {
                rename(host, name, to)?;
                Step::Done
            }
            HeaderVerb::Replace(_) if host.request_header(name)?.is_none() => Step::Done,
            HeaderVerb::Replace(_) => Step::Write,
        };
        if !matches!(step, Step::Done) {
            host.set_request_header(name, b"")?;
        }
        headers.push(step);
    }
    let mut path = None;
    if !rule.query.is_empty() {
        let own = read_clear_path(host, kind, rule)?;
        let guarded = query::rewrite(&own, &rule.query, |_| Parameter::Value(b""));
        set_path(host, kind, &guarded)?;
        path = Some(own);
    }
    Ok(Plan { headers, path })
}

/// Writes the fields of a request that was guarded.
pub(crate) fn complete(
    host: &impl Host,
    kind: Kind,
    rule: &Rule,
    plan: &Plan,
    fields: &[Field],
) -> Result<(), WriteError> {
    for (write, step) in rule.headers.iter().zip(&plan.headers) {
        let name = write.name.as_str();
        let field = match &write.verb {
            HeaderVerb::Add(index)
            | HeaderVerb::Append(index)
            | HeaderVerb::Replace(index)
            | HeaderVerb::Set(index) => fields.get(*index),
            HeaderVerb::Remove | HeaderVerb::Rename { .. } => continue,
        };
        match step {
            Step::Done => {}
            Step::Write => overwrite(host, name, field)?,
            Step::Append { own } => append(host, kind, name, own, field)?,
        }
    }
    match &plan.path {
        None => Ok(()),
        Some(path) => write_path(host, kind, rule, path, fields),
    }
}

/// Writes a header, or takes it away if it is to have no value: the client's own must not stay.
fn overwrite(host: &impl Host, name: &str, field: Option<&Field>) -> Result<(), Status> {
    match field {
        Some(Field::Value(value)) => host.set_request_header(name, value.expose()),
        Some(Field::Omit) => host.remove_request_header(name),
        None => Err(Status::NotFound),
    }
}

/// Writes a header anew with the client's values and one more.
fn append(
    host: &impl Host,
    kind: Kind,
    name: &str,
    own: &[Vec<u8>],
    field: Option<&Field>,
) -> Result<(), Status> {
    let Some((first, others)) = own.split_first() else {
        return overwrite(host, name, field);
    };
    // In nginx a set changes the first value only, which the guard has emptied. It comes last there:
    // what a trap on the way leaves is not the client's value alone.
    if kind == Kind::Envoy {
        host.set_request_header(name, first)?;
    }
    for other in others {
        host.add_request_header(name, other)?;
    }
    if let Some(Field::Value(value)) = field {
        host.add_request_header(name, value.expose())?;
    }
    if kind == Kind::Nginx {
        host.set_request_header(name, first)?;
    }
    Ok(())
}

/// Gives a header another name, with all its values, in place of whatever had that name.
fn rename(host: &impl Host, from: &str, to: &str) -> Result<(), Status> {
    let values = values(host, from)?;
    let Some((first, others)) = values.split_first() else {
        return Ok(());
    };
    host.set_request_header(to, first)?;
    for other in others {
        host.add_request_header(to, other)?;
    }
    host.remove_request_header(from)
}

fn values(host: &impl Host, name: &str) -> Result<Vec<Vec<u8>>, Status> {
    let pairs = host.request_headers()?.into_iter();
    let same = pairs.filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    Ok(same.map(|(_, value)| value).collect())
}

pub(crate) fn read_path(host: &impl Host, kind: Kind) -> Result<Vec<u8>, WriteError> {
    let path = match kind {
        Kind::Envoy => host.request_header(":path")?,
        // Setting the property where it does not exist ends the request, so it is read first.
        Kind::Nginx => host.property(&UPSTREAM_URI).ok(),
    };
    path.filter(|path| !path.is_empty())
        .ok_or(WriteError::NoQuery)
}

/// The path of a request whose query the rule writes.
#[inline(never)]
fn read_clear_path(host: &impl Host, kind: Kind, rule: &Rule) -> Result<Vec<u8>, WriteError> {
    let path = read_path(host, kind)?;
    if query::is_ambiguous(&path, &rule.query) {
        return Err(WriteError::Ambiguous);
    }
    Ok(path)
}

fn write_path(
    host: &impl Host,
    kind: Kind,
    rule: &Rule,
    path: &[u8],
    fields: &[Field],
) -> Result<(), WriteError> {
    let is_lost = |index: usize| fields.get(index).is_none();
    let lost = rule.query.iter().any(|write| match write.verb {
        QueryVerb::Add(index)
        | QueryVerb::Append(index)
        | QueryVerb::Replace(index)
        | QueryVerb::Set(index) => is_lost(index),
        QueryVerb::Remove | QueryVerb::Rename { .. } => false,
    });
    if lost {
        return Err(WriteError::Host(Status::NotFound));
    }
    let written = query::rewrite(path, &rule.query, |index| match fields.get(index) {
        Some(Field::Value(value)) => Parameter::Value(value.expose()),
        Some(Field::Omit) | None => Parameter::Omit,
    });
    let written = Secret::new(written);
    set_path(host, kind, written.expose())
}

fn set_path(host: &impl Host, kind: Kind, path: &[u8]) -> Result<(), WriteError> {
    match kind {
        Kind::Envoy => host.set_request_header(":path", path)?,
        Kind::Nginx => host.set_property(&UPSTREAM_URI, path)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
