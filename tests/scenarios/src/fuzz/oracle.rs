//! What must hold of a request that went upstream, found out without the filter's own code.
//!
//! Which rule a request is for is the filter's decision, and to decide it here as well would be to
//! write the filter twice. So each rule gets one more write, a constant header with the rule's label,
//! and a last rule takes what no other does. A request that arrives without a label was let through;
//! one that has it is held to what that rule writes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use vaultref_contract::{Part, Template};
use vaultref_harness::{Headers, Request, Response, UpstreamRequest};

use super::form;
use super::resolver::{Resolver, SECRET, secret_name};
use super::steps::{OWN, TOKEN};

/// The header with a rule's label.
pub(super) const LABEL: &str = "x-fuzz-rule";

/// The configurations that the filter was given.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    rules: BTreeMap<String, Rule>,
    configurations: usize,
    masks: bool,
    /// What rules say in the upstream's place.
    bodies: Vec<Vec<u8>>,
    /// Some request need not have a label.
    pub(super) is_blind: bool,
    /// What marks a client's values stands in a configuration as well, and so in the log.
    pub(super) is_own_public: bool,
    /// A request may leave as the guard has left it.
    pub(super) is_lenient: bool,
}

#[derive(Clone, Debug, Default)]
struct Rule {
    writes: Vec<Write>,
    /// Those of the body.
    body: Vec<Write>,
    /// Places in the body that are taken away, or get what stands elsewhere.
    moved: Vec<String>,
    /// A body that is too large goes on as it is.
    passes_excess: bool,
    default: Option<String>,
    may_omit: bool,
    /// Secrets that the upstream repeats are masked.
    masks: bool,
    /// Headers and query parameters in which the client's references are honoured.
    resolved: [Vec<String>; 3],
}

#[derive(Clone, Debug)]
struct Write {
    verb: &'static str,
    is_header: bool,
    name: String,
    value: Text,
}

#[derive(Clone, Debug)]
enum Text {
    Basic(Template, Template),
    /// Not of the grammar that is known here.
    Opaque(String),
    Plain(Template),
}

impl Oracle {
    /// Takes a configuration, and gives it back with labels; as it is if it is none.
    pub(super) fn label(&mut self, configuration: &[u8], with_last: bool) -> Vec<u8> {
        self.look_at(configuration);
        let Ok(Value::Object(mut whole)) = serde_json::from_slice(configuration) else {
            self.is_blind = true;
            return configuration.to_vec();
        };
        self.is_blind |= !with_last;
        self.configurations += 1;
        let number = self.configurations;
        self.masks = whole
            .get("response")
            .is_some_and(|response| response["redact_headers"] == true);
        let is_given = |name: &str| !whole.get(name).unwrap_or(&Value::Null).is_null();
        let is_single = [
            "request",
            "basic_auth",
            "body",
            "on_error",
            "refresh_on_status",
        ]
        .into_iter()
        .any(is_given);
        if is_single && !is_given("rules") {
            self.label_rule(&mut whole, format!("c{number}"));
        } else {
            let rules = whole.entry("rules").or_insert(Value::Null);
            if is_empty(rules) {
                *rules = json!([]);
            }
            if let Value::Array(rules) = rules {
                if with_last {
                    rules.push(json!({}));
                }
                for (at, rule) in rules.iter_mut().enumerate() {
                    if is_empty(rule) {
                        *rule = json!({});
                    }
                    if let Value::Object(rule) = rule {
                        self.label_rule(rule, format!("c{number}-r{at}"));
                    }
                }
            }
        }
        Value::Object(whole).to_string().into_bytes()
    }

    /// Looks at a configuration that gets no labels.
    pub(super) fn look_at(&mut self, configuration: &[u8]) {
        let mut windows = configuration.windows(OWN.len());
        self.is_own_public |= windows.any(|window| window == OWN.as_bytes());
    }

    /// Whether a log line has something that is in no log.
    pub(super) fn is_leak(&self, line: &str) -> bool {
        let is_own = !self.is_own_public && line.contains(OWN);
        is_own || line.contains(SECRET) || line.contains(TOKEN)
    }

    fn label_rule(&mut self, rule: &mut Map<String, Value>, label: String) {
        let mut read = Rule::read(rule);
        read.masks = self.masks;
        self.rules.insert(label.clone(), read);
        if let Some(on_error) = rule.get("on_error") {
            let body = &on_error["body"];
            self.bodies.push(match body.as_str() {
                Some(text) => text.as_bytes().to_vec(),
                None => body.to_string().into_bytes(),
            });
        }
        let headers = object(rule, "request")
            .and_then(|request| object(request, "set"))
            .and_then(|set| object(set, "headers"));
        if let Some(headers) = headers {
            headers.insert(LABEL.to_owned(), label.into());
        }
    }

    /// Looks at what went upstream: all of it, or the headers alone.
    pub(super) fn judge(
        &self,
        sent: &Request,
        got: &UpstreamRequest,
        resolver: &Resolver,
        is_whole: bool,
    ) -> Result<(), String> {
        let labels = values(got.headers.pairs(), LABEL);
        let label = match labels.as_slice() {
            [label] => String::from_utf8_lossy(label).into_owned(),
            [] if self.is_blind => return self.untouched(got),
            _ => {
                return Err(format!(
                    "it was let through: its label is {labels:?}: {got:?}"
                ));
            }
        };
        if label.is_empty() && self.is_lenient {
            return Ok(());
        }
        let Some(rule) = self.rules.get(&label) else {
            return match self.is_blind {
                true => Ok(()),
                false => Err(format!(
                    "it was let through: no rule is called '{label}': {got:?}"
                )),
            };
        };
        let judged = rule.judge(sent, got, resolver, self.is_lenient);
        let judged = judged.and_then(|()| match is_whole && !self.is_lenient {
            true => rule.judge_body(sent, got, resolver),
            false => Ok(()),
        });
        judged.map_err(|why| format!("rule {label}: {why}; sent {sent:?}; upstream got {got:?}"))
    }

    /// Looks at the headers of the upstream's answer, as the client got them.
    pub(super) fn judge_response(
        &self,
        got: &UpstreamRequest,
        headers: &Headers,
    ) -> Result<(), String> {
        let label = got.header(LABEL).unwrap_or_default();
        let masks = self.rules.get(&label).is_some_and(|rule| rule.masks);
        match masks && !self.is_lenient && headers.contains_bytes(SECRET) {
            true => Err(format!("the client gets a secret: {headers:?}")),
            false => Ok(()),
        }
    }

    /// Looks at what a client got in the upstream's place.
    pub(super) fn judge_answer(&self, response: &Response) -> Result<(), String> {
        let body = &response.body;
        let has = |piece: &str| {
            let piece = piece.as_bytes();
            let mut windows = body.windows(piece.len());
            windows.any(|window| window == piece) || response.headers.contains_bytes(piece)
        };
        let is_own = self.bodies.contains(body);
        if has(SECRET)
            || has(TOKEN)
            || (!is_own && (has("vault://") || (has(OWN) && !self.is_own_public)))
        {
            return Err(format!("the client was answered {response:?}"));
        }
        Ok(())
    }

    fn untouched(&self, got: &UpstreamRequest) -> Result<(), String> {
        match got.contains_bytes(SECRET) {
            true => Err(format!("no rule's request has a secret: {got:?}")),
            false => Ok(()),
        }
    }
}

/// What stands for nothing at all, or for what has nothing in it.
fn is_empty(json: &Value) -> bool {
    match json {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// A member that is an object, or is to be one.
fn object<'a>(
    within: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    let member = within.entry(name).or_insert(Value::Null);
    if is_empty(member) {
        *member = json!({});
    }
    member.as_object_mut()
}

impl Rule {
    fn read(rule: &Map<String, Value>) -> Self {
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

    fn judge(
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
        }
        // (Without `allow` nothing is honoured.)
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
    fn judge_body(
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
        Ok(())
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

    /// Every secret in the request is one that this rule names.
    fn judge_secrets(&self, got: &UpstreamRequest, resolver: &Resolver) -> Result<(), String> {
        let is_open = self.resolved.iter().any(|names| !names.is_empty())
            || self.writes.iter().any(|write| write.value.is_open())
            || self.body.iter().any(|write| write.value.is_open());
        if is_open {
            return Ok(());
        }
        let own: Vec<String> = self
            .writes
            .iter()
            .chain(&self.body)
            .flat_map(|write| write.value.references())
            .map(secret_name)
            .collect();
        for reference in resolver.references() {
            let name = secret_name(reference);
            if !own.contains(&name) && got.contains_bytes(&name) {
                return Err(format!("it has the secret of {reference}"));
            }
        }
        Ok(())
    }
}

impl Text {
    fn read(text: &str) -> Self {
        match Template::parse(text) {
            Ok(template) => Self::Plain(template),
            Err(_) => Self::Opaque(text.to_owned()),
        }
    }

    fn references(&self) -> Vec<&str> {
        match self {
            Self::Basic(username, password) => username
                .references()
                .chain(password.references())
                .map(vaultref_contract::ReferenceText::as_str)
                .collect(),
            Self::Opaque(_) => Vec::new(),
            Self::Plain(template) => template
                .references()
                .map(vaultref_contract::ReferenceText::as_str)
                .collect(),
        }
    }

    fn has_references(&self) -> bool {
        matches!(self, Self::Opaque(_)) || !self.references().is_empty()
    }

    /// Whether what it asks for is known only with the request.
    fn is_open(&self) -> bool {
        matches!(self, Self::Opaque(_)) || self.references().iter().any(|text| text.contains("$("))
    }

    fn is_value(&self, value: &[u8], resolver: &Resolver) -> bool {
        match self {
            Self::Opaque(text) => !text.contains("vault://") || !has_reference(value),
            Self::Plain(template) => is_rendered(template.parts(), value, resolver),
            Self::Basic(username, password) => {
                let pair = value.strip_prefix(b"Basic ");
                let pair = pair.and_then(|text| STANDARD.decode(text).ok());
                pair.is_some_and(|pair| {
                    let mut colons = pair.iter().enumerate();
                    colons.any(|(at, byte)| {
                        *byte == b':'
                            && is_rendered(username.parts(), &pair[..at], resolver)
                            && is_rendered(password.parts(), &pair[at + 1..], resolver)
                    })
                })
            }
        }
    }
}

/// Whether a value is what these pieces make with secrets that were given for their references.
fn is_rendered(parts: &[Part], value: &[u8], resolver: &Resolver) -> bool {
    let Some((first, rest)) = parts.split_first() else {
        return value.is_empty();
    };
    let goes_on = |piece: &[u8]| {
        value
            .strip_prefix(piece)
            .is_some_and(|left| is_rendered(rest, left, resolver))
    };
    match first {
        Part::Text(text) => goes_on(text.as_bytes()),
        Part::Reference(found) => {
            let text = found.as_str();
            match text.split_once("$(") {
                None => resolver.given(text).iter().any(|secret| goes_on(secret)),
                Some((start, _)) => resolver
                    .references()
                    .filter(|known| known.starts_with(start))
                    .any(|known| resolver.given(known).iter().any(|secret| goes_on(secret))),
            }
        }
    }
}

/// Whether a reference that could be asked for stands in a text.
fn has_reference(value: &[u8]) -> bool {
    // Not those of a secret, which are a text.
    let text = String::from_utf8_lossy(value).replace("{vault://decoy/x}", "");
    Template::parse(&text).is_ok_and(|template| template.has_references())
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

pub(super) fn values(pairs: &[(Vec<u8>, Vec<u8>)], name: &str) -> Vec<Vec<u8>> {
    let same = pairs
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    same.map(|(_, value)| value.clone()).collect()
}

#[cfg(test)]
mod tests;
