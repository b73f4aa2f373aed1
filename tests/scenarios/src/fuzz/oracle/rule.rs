//! What one rule writes, and whether a request has it.

use serde_json::{Map, Value};
use vaultref_contract::Template;
use vaultref_harness::{Request, UpstreamRequest};

use super::text::{Text, has_reference};
use crate::fuzz::form;
use crate::fuzz::resolver::{Resolver, secret_name};

#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    pub(super) writes: Vec<Write>,
    /// Those of the body.
    pub(super) body: Vec<Write>,
    /// Places in the body that are taken away, or get what stands elsewhere.
    pub(super) moved: Vec<String>,
    /// A body that is too large goes on as it is.
    pub(super) passes_excess: bool,
    pub(super) default: Option<String>,
    pub(super) may_omit: bool,
    /// Secrets that the upstream repeats are masked.
    pub(super) masks: bool,
    /// Headers, query parameters and fields of bodies in which the client's references are honoured.
    pub(super) resolved: [Vec<String>; 3],
    /// What these references may be.
    pub(super) allow: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) verb: &'static str,
    pub(super) is_header: bool,
    pub(super) name: String,
    pub(super) value: Text,
}

impl Rule {
    pub(super) fn read(rule: &Map<String, Value>) -> Self {
        let mut read = Self::default();
        for verb in ["add", "append", "replace", "set"] {
            for (kind, is_header) in [("headers", true), ("querystring", false)] {
                let fields = rule.get("request").map(|request| &request[verb][kind]);
                for (name, text) in fields.and_then(Value::as_object).into_iter().flatten() {
                    let Some(text) = text.as_str() else { continue };
                    read.writes.push(Write {
                        verb,
                        is_header,
                        name: name.clone(),
                        value: Text::read(text),
                    });
                }
            }
        }
        read.read_body(rule);
        if let Some(basic) = rule.get("basic_auth") {
            let half = |name: &str| Template::parse(basic[name].as_str().unwrap_or_default());
            let value = match (half("username"), half("password")) {
                (Ok(username), Ok(password)) => Text::Basic(username, password),
                _ => Text::Opaque(String::new()),
            };
            read.writes.push(Write {
                verb: "set",
                is_header: true,
                name: "authorization".to_owned(),
                value,
            });
        }
        if let Some(on_error) = rule.get("on_error") {
            read.default = on_error["default"].as_str().map(str::to_owned);
            read.may_omit = on_error["without_field"] == true;
        }
        for (at, kind) in ["headers", "querystring", "body"].into_iter().enumerate() {
            let names = rule.get("resolve").map(|resolve| &resolve[kind]);
            let names = names.and_then(Value::as_array).into_iter().flatten();
            read.resolved[at] = names.filter_map(Value::as_str).map(str::to_owned).collect();
        }
        let allow = rule.get("resolve").map(|resolve| &resolve["allow"]);
        let allow = allow.and_then(Value::as_array).into_iter().flatten();
        read.allow = allow.filter_map(Value::as_str).map(str::to_owned).collect();
        read
    }

    fn read_body(&mut self, rule: &Map<String, Value>) {
        let Some(request) = rule.get("request") else {
            return;
        };
        for verb in ["add", "append", "replace", "set"] {
            for (name, text) in request[verb]["body"].as_object().into_iter().flatten() {
                self.body.push(Write {
                    verb,
                    is_header: false,
                    name: name.clone(),
                    value: Text::read(text.as_str().unwrap_or_default()),
                });
            }
        }
        let removed = request["remove"]["body"].as_array().into_iter().flatten();
        self.moved
            .extend(removed.filter_map(Value::as_str).map(str::to_owned));
        let renamed = request["rename"]["body"].as_object().into_iter().flatten();
        for (from, to) in renamed {
            self.moved.push(from.clone());
            self.moved.push(to.as_str().unwrap_or_default().to_owned());
        }
        let body = rule.get("body");
        self.passes_excess = body.is_some_and(|body| body["on_excess"] == "pass");
    }

    pub(super) fn judge(
        &self,
        sent: &Request,
        got: &UpstreamRequest,
        resolver: &Resolver,
        is_lenient: bool,
    ) -> Result<(), String> {
        for write in &self.writes {
            let (own, now) = match write.is_header {
                true => (
                    values(&sent.headers, &write.name),
                    values(got.headers.pairs(), &write.name),
                ),
                false => (
                    form::query_values(&sent.path, &write.name),
                    form::query_values(&got.path, &write.name),
                ),
            };
            let is_right = |value: &Vec<u8>| {
                (is_lenient && value.is_empty())
                    || self.default.as_ref().is_some_and(|text| {
                        write.value.has_references() && text.as_bytes() == value.as_slice()
                    })
                    || write.value.is_value(value, resolver)
            };
            let omitted = self.may_omit && write.value.has_references();
            let as_set = now.len() == 1 && now.iter().all(is_right) || (omitted && now.is_empty());
            let right = match write.verb {
                "add" if !own.is_empty() => now == own || (is_lenient && as_set),
                "append" => {
                    let (last, others) = match now.split_last() {
                        Some((last, others)) => (Some(last), others),
                        None => (None, &now[..]),
                    };
                    let one_more = last.is_some_and(is_right) && (others == own || is_lenient);
                    one_more || (omitted && now == own)
                }
                "replace" if own.is_empty() => now.is_empty(),
                "replace" if is_lenient && now == own => true,
                _ => as_set,
            };
            if !right {
                let (verb, name) = (write.verb, &write.name);
                return Err(format!("{verb} of '{name}' is wrong"));
            }
            if !write.is_header && form::has_more_at_semicolons(&got.path, &write.name) {
                return Err(format!(
                    "some servers divide at ';' and find more of '{}'",
                    write.name
                ));
            }
        }
        for name in &self.resolved[0] {
            let now = values(got.headers.pairs(), name);
            if now.iter().any(|value| has_reference(value)) {
                return Err(format!("a reference in '{name}' was not resolved"));
            }
        }
        for name in &self.resolved[1] {
            let now = form::query_values(&got.path, name);
            if now.iter().any(|value| has_reference(value)) {
                return Err(format!("a reference in '{name}' was not resolved"));
            }
        }
        self.judge_secrets(got, resolver)
    }

    /// Looks at the body of a request that is with the upstream as a whole.
    pub(super) fn judge_body(
        &self,
        sent: &Request,
        got: &UpstreamRequest,
        resolver: &Resolver,
    ) -> Result<(), String> {
        let own = [sent.body.clone(), sent.pieces.concat()].concat();
        if own.is_empty() || (self.passes_excess && own == got.body) {
            return Ok(());
        }
        for write in &self.body {
            let is_form = !write.name.starts_with('/');
            let (own, now) = match is_form {
                true => (
                    form::values(&own, &write.name),
                    form::values(&got.body, &write.name),
                ),
                false if self.is_entangled(write) => continue,
                false => match (
                    json_values(&own, &write.name),
                    json_values(&got.body, &write.name),
                ) {
                    (Some(own), Some(now)) => (own, now),
                    _ => continue,
                },
            };
            let is_right = |value: &Vec<u8>| {
                let default = self.default.as_ref();
                let is_default = default.is_some_and(|text| text.as_bytes() == value.as_slice());
                (is_default && write.value.has_references())
                    || write.value.is_value(value, resolver)
            };
            let omitted = self.may_omit && write.value.has_references();
            let as_set = now.len() == 1 && now.iter().all(is_right) || (omitted && now.is_empty());
            let right = match write.verb {
                "add" if !own.is_empty() => now == own,
                "append" => !is_form || now.last().is_some_and(is_right) || (omitted && now == own),
                "replace" if own.is_empty() => now.is_empty(),
                _ => as_set,
            };
            if !right {
                let (verb, name) = (write.verb, &write.name);
                return Err(format!("{verb} of '{name}' in the body is wrong"));
            }
        }
        for name in &self.resolved[2] {
            let now = match name.starts_with('/') {
                true => json_text(&got.body, name),
                false => form::values(&got.body, name),
            };
            if now.iter().any(|value| has_reference(value)) && !self.is_moved(name) {
                return Err(format!(
                    "a reference in the body's '{name}' was not resolved"
                ));
            }
        }
        Ok(())
    }

    /// Whether something else may stand in this place of a body afterwards: a list closes its gaps.
    fn is_moved(&self, name: &str) -> bool {
        let is_item = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        name.starts_with('/')
            && name.split('/').skip(1).any(is_item)
            && (self.may_omit || !self.moved.is_empty())
    }

    /// Whether other writes reach into the place of this one, or a list may move it.
    fn is_entangled(&self, write: &Write) -> bool {
        let name = &write.name;
        let reaches = |other: &str| {
            let inner = |one: &str, two: &str| {
                one.strip_prefix(two)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            inner(other, name) || inner(name, other)
        };
        let others = self
            .body
            .iter()
            .filter(|other| !std::ptr::eq(*other, write));
        let mut others = others.map(|other| &other.name).chain(&self.moved);
        let is_index = |part: &str| part == "-" || part.bytes().all(|byte| byte.is_ascii_digit());
        name.split('/').skip(1).any(is_index) || others.any(|other| reaches(other))
    }

    /// Whether a client may choose this reference.
    fn allows(&self, reference: &str) -> bool {
        let inner = reference.trim_start_matches("{vault://");
        let name = inner.trim_end_matches('}').split(['?', '#']).next();
        let name = name.unwrap_or_default();
        let walks = name.split('/').any(|part| matches!(part, "." | ".."));
        let is_allowed = |pattern: &String| is_like(pattern, name);
        !walks && self.allow.iter().any(is_allowed)
    }

    /// Every secret in the request is one that this rule names.
    fn judge_secrets(&self, got: &UpstreamRequest, resolver: &Resolver) -> Result<(), String> {
        let own: Vec<String> = self
            .writes
            .iter()
            .chain(&self.body)
            .flat_map(|write| write.value.references())
            .map(secret_name)
            .collect();
        for reference in resolver.references() {
            let name = secret_name(reference);
            let may = own.contains(&name) || self.allows(reference);
            if !may && got.contains_bytes(&name) {
                return Err(format!("it has the secret of {reference}"));
            }
        }
        Ok(())
    }
}

/// Whether a text is what a pattern says, in which a star stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let mut ends = (0..=text.len()).filter(|at| text.is_char_boundary(*at));
            ends.any(|at| is_like(rest, &text[at..]))
        }),
    }
}

/// What stands at a place of a document; none if it is no JSON.
fn json_values(body: &[u8], pointer: &str) -> Option<Vec<Vec<u8>>> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let value = json.pointer(pointer).map(|value| match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    });
    Some(value.into_iter().collect())
}

/// The text at a place of a document, if there is one.
fn json_text(body: &[u8], pointer: &str) -> Vec<Vec<u8>> {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = json.pointer(pointer).and_then(Value::as_str);
    text.map(|text| text.as_bytes().to_vec())
        .into_iter()
        .collect()
}

pub(super) fn values(pairs: &[(Vec<u8>, Vec<u8>)], name: &str) -> Vec<Vec<u8>> {
    let same = pairs
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    same.map(|(_, value)| value.clone()).collect()
}
