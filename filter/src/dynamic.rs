//! References that are known only with the request: those that stand in fields which a rule names
//! under `resolve`, and those of a rule's own values that have parameters.
//!
//! What a client can write must not widen what it gets. So nothing is looked at that is not named;
//! every reference is held to the rule's `allow`, has neither options nor a version, and leads nowhere
//! by way of `..`; and a request with one that cannot be used is refused as a whole, since a field of
//! which a part was left as it is would go on as what nobody meant.

use vaultref_contract::{Reference, ReferenceText};

use crate::body::BodyError;
use crate::compile::{Asked, BodyRule, Kind, Rule};
use crate::request::WriteError;
use crate::{Host, Status};

mod allow;
mod fields;
mod parameter;

pub(crate) use allow::Allow;
pub(crate) use parameter::Parametric;

use parameter::Sources;

/// What a rule asks for with each request.
#[derive(Debug)]
pub(crate) struct Dynamic {
    pub(crate) allow: Allow,
    /// The most references in the fields of one request.
    pub(crate) max: usize,
    /// Headers that may hold references, in lower case.
    pub(crate) headers: Vec<Named>,
    /// Query parameters that may.
    pub(crate) query: Vec<Named>,
    /// The rule's references with parameters. Values know them by their index behind those without.
    pub(crate) parametric: Vec<Parametric>,
}

/// A field that may hold references.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// Where it is named in the configuration.
    pub(crate) place: String,
}

/// What one request asks for.
pub(crate) struct Demand {
    /// The rule's references with parameters, with these filled in.
    pub(crate) made: Vec<Asked>,
    pub(crate) found: Option<Found>,
}

/// The fields of a request in which there are references.
pub(crate) struct Found {
    /// Writes them.
    pub(crate) rule: Rule,
    /// The references by which its values know them.
    pub(crate) asked: Vec<Asked>,
    /// How many references there were, with those that were found before.
    pub(crate) count: usize,
}

/// Why a request cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The body cannot be read.
    Body(BodyError),
    /// The host refused, or has no place for a field.
    Host(WriteError),
    /// A reference or a parameter is not what it must be, or there are too many.
    Malformed,
    /// A reference is not on the list.
    NotAllowed,
}

impl From<Status> for Unfit {
    fn from(status: Status) -> Self {
        Self::Host(WriteError::Host(status))
    }
}

impl Dynamic {
    /// Finds out what the current request asks for. Nothing is written, and nobody asked.
    pub(crate) fn read<'a, H: Host>(
        &'a self,
        host: &'a H,
        kind: Kind,
        rule: &Rule,
    ) -> Result<Demand, Unfit> {
        let mut request = Sources::new(host, kind);
        let mut made = Vec::with_capacity(self.parametric.len());
        for parametric in &self.parametric {
            let reference = parametric.make(&mut request)?;
            made.push(self.admit(&reference)?);
        }
        let found = fields::find(self, host, kind, rule, &mut request)?;
        Ok(Demand { made, found })
    }

    /// Finds out what the fields of a body ask for; the request's other fields had `spent` references.
    pub(crate) fn read_body(
        &self,
        rule: &Rule,
        body: &BodyRule,
        bytes: &[u8],
        spent: usize,
    ) -> Result<Option<Found>, Unfit> {
        fields::find_in_body(self, rule, body, bytes, spent)
    }

    /// Lets a reference pass that is allowed, in one spelling: who may choose others must not fill the
    /// table with one secret.
    fn admit(&self, reference: &ReferenceText) -> Result<Asked, Unfit> {
        let reference = &ReferenceText::parse(&reference.reference().to_string())
            .map_err(|_| Unfit::Malformed)?;
        if !is_plain(reference.reference()) {
            return Err(Unfit::Malformed);
        }
        if !self.allow.permits(reference.reference()) {
            return Err(Unfit::NotAllowed);
        }
        Ok(Asked::new(reference))
    }
}

impl Rule {
    /// Whether some of its values differ from request to request.
    pub(crate) fn has_parameters(&self) -> bool {
        let dynamic = self.dynamic.as_ref();
        dynamic.is_some_and(|dynamic| !dynamic.parametric.is_empty())
    }
}

/// Whether every segment of a reference is a name that leads nowhere else.
fn is_plain(reference: &Reference) -> bool {
    let key = reference.key().map(allow::plain_key);
    let key = key.iter().flat_map(|key| key.split('/'));
    let mut segments = reference.resource().split('/').chain(key);
    segments.all(|segment| {
        let is_odd = |c: char| c == '\\' || c.is_control();
        !matches!(segment, "" | "." | "..") && !segment.contains(is_odd)
    })
}

/// The index of what is asked for, which is added if it is not there yet.
fn index_of(asked: &mut Vec<Asked>, new: Asked) -> usize {
    let known = asked.iter().position(|known| known.text == new.text);
    known.unwrap_or_else(|| {
        asked.push(new);
        asked.len().saturating_sub(1)
    })
}

#[cfg(test)]
mod tests;
