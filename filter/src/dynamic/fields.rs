//! Finds the references in the fields of a request that a rule names.

use vaultref_contract::{Part, Scan, Template};

use super::parameter::Sources;
use super::{Dynamic, Found, Unfit, index_of};
use crate::Host;
use crate::body::{form, json};
use crate::compile::{
    Asked, BodyName, BodyRule, BodyWrites, HeaderVerb, HeaderWrite, JsonVerb, JsonWrite, Kind,
    QueryVerb, QueryWrite, Rule,
};
use crate::matching::Matcher;
use crate::query;
use crate::render::{Encoding, Piece, Value, ValueKind};

/// What every reference begins with.
const OPEN: &[u8] = b"{vault://";

/// Finds those of the headers and the query string; none if there are none.
pub(super) fn find<H: Host>(
    dynamic: &Dynamic,
    host: &H,
    kind: Kind,
    rule: &Rule,
    request: &mut Sources<'_, H>,
) -> Result<Option<Found>, Unfit> {
    let mut search = Search::new(dynamic, 0);
    let (mut headers, mut query) = (Vec::new(), Vec::new());
    if !dynamic.headers.is_empty() {
        let pairs = request.pairs()?;
        for named in &dynamic.headers {
            let same = pairs
                .iter()
                .filter(|(other, _)| other.eq_ignore_ascii_case(named.name.as_bytes()));
            let mut values = same.map(|(_, value)| value.clone());
            if let Some(value) = search.value(&named.place, &mut values, Encoding::Header)? {
                let name = named.name.clone();
                let verb = HeaderVerb::Set(value);
                headers.push(HeaderWrite { name, verb });
            }
        }
    }
    if !dynamic.query.is_empty() {
        let path = crate::request::read_path(host, kind).map_err(Unfit::Host)?;
        let parameters = query::query_of(&path);
        for named in &dynamic.query {
            let value = search.parameter(&named.place, parameters, &named.name)?;
            if let Some(value) = value {
                let verb = QueryVerb::Set(value);
                query.push(QueryWrite::new(named.name.clone(), verb));
            }
        }
    }
    let mut found = search.found(rule);
    if let Some(found) = &mut found {
        (found.rule.headers, found.rule.query) = (headers, query);
    }
    Ok(found)
}

/// Finds those of a body; none if there are none. The other fields of the request had `spent` of them.
#[inline(never)]
pub(super) fn find_in_body(
    dynamic: &Dynamic,
    rule: &Rule,
    body: &BodyRule,
    bytes: &[u8],
    spent: usize,
) -> Result<Option<Found>, Unfit> {
    match body.writes {
        BodyWrites::Form(_) => form::check(bytes),
        BodyWrites::Json(_) => json::check(bytes),
    }
    .map_err(Unfit::Body)?;
    let mut search = Search::new(dynamic, spent);
    let (mut of_form, mut of_json) = (Vec::new(), Vec::new());
    for named in &body.resolved {
        match &named.name {
            BodyName::Form(name) => {
                if let Some(value) = search.parameter(&named.place, bytes, name)? {
                    of_form.push(QueryWrite::new(name.clone(), QueryVerb::Set(value)));
                }
            }
            BodyName::Json(path) => {
                let text = json::text(bytes, path).map_err(Unfit::Body)?;
                let mut values = text.into_iter().map(String::into_bytes);
                if let Some(value) = search.value(&named.place, &mut values, Encoding::Json)? {
                    let path = path.clone();
                    let verb = JsonVerb::Set(value);
                    of_json.push(JsonWrite { path, verb });
                }
            }
        }
    }
    let writes = match body.writes {
        BodyWrites::Form(_) => BodyWrites::Form(of_form),
        BodyWrites::Json(_) => BodyWrites::Json(of_json),
    };
    let mut found = search.found(rule);
    if let Some(found) = &mut found {
        found.rule.body = Some(Box::new(BodyRule {
            writes,
            resolved: Vec::new(),
            max_bytes: body.max_bytes,
            passes_excess: false,
            needs_body: false,
            place: body.place.clone(),
        }));
    }
    Ok(found)
}

/// What was found so far.
struct Search<'a> {
    dynamic: &'a Dynamic,
    /// How many references there were.
    count: usize,
    values: Vec<Value>,
    asked: Vec<Asked>,
}

impl<'a> Search<'a> {
    fn new(dynamic: &'a Dynamic, spent: usize) -> Self {
        Self {
            dynamic,
            count: spent,
            values: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// A rule that has the values that were found, and writes nothing yet.
    fn found(self, rule: &Rule) -> Option<Found> {
        if self.values.is_empty() {
            return None;
        }
        let rule = Rule {
            place: rule.place.clone(),
            matcher: Matcher::default(),
            headers: Vec::new(),
            query: Vec::new(),
            body: None,
            values: self.values,
            on_error: rule.on_error.clone(),
            refresh_on_status: Vec::new(),
            is_redacted: rule.is_redacted,
            is_remembered: false,
            references: Vec::new(),
            dynamic: None,
        };
        Some(Found {
            rule,
            asked: self.asked,
            count: self.count,
        })
    }

    /// The same for a parameter of a query string, or a field of a form, which is written like one.
    fn parameter(&mut self, place: &str, query: &[u8], name: &str) -> Result<Option<usize>, Unfit> {
        let mut values = query::values(query, name).map(query::decode);
        self.value(place, &mut values, Encoding::Query)
    }

    /// The index of the value that a field gets which has these; none if none has a reference. They are
    /// looked at one by one: how many there are is the client's choice.
    fn value(
        &mut self,
        place: &str,
        values: &mut dyn Iterator<Item = Vec<u8>>,
        encoding: Encoding,
    ) -> Result<Option<usize>, Unfit> {
        let mut found = None;
        let mut is_first = true;
        for value in values {
            let template = self.template(&value)?;
            // Which of two the upstream takes is not known here, and nginx overwrites the first alone.
            if !is_first && (found.is_some() || template.is_some()) {
                return Err(Unfit::Malformed);
            }
            is_first = false;
            found = template;
        }
        let Some(template) = found else {
            return Ok(None);
        };
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
            place: place.to_owned(),
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
