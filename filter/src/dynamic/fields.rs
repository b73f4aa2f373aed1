//! Finds the references in the fields of a request that a rule names.

use vaultref_contract::{Part, Scan, Template};

use super::parameter::Sources;
use super::{Dynamic, Found, Named, Unfit, index_of};
use crate::Host;
use crate::compile::{Asked, HeaderVerb, HeaderWrite, Kind, QueryVerb, QueryWrite, Rule};
use crate::matching::Matcher;
use crate::query;
use crate::render::{Encoding, Piece, Value, ValueKind};

/// What every reference begins with.
const OPEN: &[u8] = b"{vault://";

/// Finds them; none if there are none.
pub(super) fn find<H: Host>(
    dynamic: &Dynamic,
    host: &H,
    kind: Kind,
    rule: &Rule,
    request: &mut Sources<'_, H>,
) -> Result<Option<Found>, Unfit> {
    let mut search = Search {
        dynamic,
        count: 0,
        headers: Vec::new(),
        query: Vec::new(),
        values: Vec::new(),
        asked: Vec::new(),
    };
    if !dynamic.headers.is_empty() {
        let pairs = request.pairs()?;
        for named in &dynamic.headers {
            let same = pairs
                .iter()
                .filter(|(other, _)| other.eq_ignore_ascii_case(named.name.as_bytes()));
            let values = same.map(|(_, value)| value.as_slice());
            if let Some(value) = search.value(named, values, Encoding::Header)? {
                let write = HeaderWrite {
                    name: named.name.clone(),
                    verb: HeaderVerb::Set(value),
                };
                search.headers.push(write);
            }
        }
    }
    if !dynamic.query.is_empty() {
        let path = crate::request::read_path(host, kind).map_err(Unfit::Host)?;
        let parameters = query::query_of(&path);
        for named in &dynamic.query {
            let values: Vec<Vec<u8>> = query::values(parameters, &named.name)
                .map(query::decode)
                .collect();
            let values = values.iter().map(Vec::as_slice);
            if let Some(value) = search.value(named, values, Encoding::Query)? {
                let write = QueryWrite {
                    written: query::encode(named.name.as_bytes()),
                    name: named.name.clone(),
                    verb: QueryVerb::Set(value),
                };
                search.query.push(write);
            }
        }
    }
    if search.values.is_empty() {
        return Ok(None);
    }
    let rule = Rule {
        place: rule.place.clone(),
        matcher: Matcher::default(),
        headers: search.headers,
        query: search.query,
        body: None,
        values: search.values,
        on_error: rule.on_error.clone(),
        refresh_on_status: Vec::new(),
        is_redacted: rule.is_redacted,
        is_remembered: false,
        references: Vec::new(),
        dynamic: None,
    };
    let asked = search.asked;
    Ok(Some(Found { rule, asked }))
}

/// What was found so far.
struct Search<'a> {
    dynamic: &'a Dynamic,
    count: usize,
    headers: Vec<HeaderWrite>,
    query: Vec<QueryWrite>,
    values: Vec<Value>,
    asked: Vec<Asked>,
}

impl Search<'_> {
    /// The index of the value that a field gets which has these; none if none has a reference.
    fn value<'v>(
        &mut self,
        named: &Named,
        values: impl Iterator<Item = &'v [u8]>,
        encoding: Encoding,
    ) -> Result<Option<usize>, Unfit> {
        let mut templates = Vec::new();
        let mut occurrences = 0_usize;
        for value in values {
            occurrences = occurrences.saturating_add(1);
            templates.extend(self.template(value)?);
        }
        let Some(template) = templates.first() else {
            return Ok(None);
        };
        // Which of two the upstream takes is not known here, and nginx overwrites the first alone.
        if occurrences > 1 {
            return Err(Unfit::Malformed);
        }
        let mut pieces = Vec::new();
        for part in template.parts() {
            pieces.push(match part {
                Part::Text(text) => Piece::Text(text.clone()),
                Part::Reference(found) => {
                    // Neither options nor a version: those are for whoever writes the configuration.
                    if found.as_str().contains(['?', '#']) {
                        return Err(Unfit::Malformed);
                    }
                    let asked = self.dynamic.admit(found)?;
                    Piece::Reference(index_of(&mut self.asked, asked))
                }
            });
        }
        self.values.push(Value {
            place: named.place.clone(),
            kind: ValueKind::Text(pieces),
            encoding,
        });
        Ok(Some(self.values.len().saturating_sub(1)))
    }

    /// A value taken apart, if it has references.
    fn template(&mut self, value: &[u8]) -> Result<Option<Template>, Unfit> {
        if !value.windows(OPEN.len()).any(|window| window == OPEN) {
            return Ok(None);
        }
        let text = std::str::from_utf8(value).map_err(|_| Unfit::Malformed)?;
        let mut has_references = false;
        // Counted one by one, since how many there are is the client's choice.
        for scanned in Scan::new(text) {
            if scanned.found.is_err() || self.count >= self.dynamic.max {
                return Err(Unfit::Malformed);
            }
            self.count = self.count.saturating_add(1);
            has_references = true;
        }
        if !has_references {
            return Ok(None);
        }
        Template::parse(text)
            .map(Some)
            .map_err(|_| Unfit::Malformed)
    }
}
