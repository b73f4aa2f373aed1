//! What must hold of a request that went upstream, found out without the filter's own code.
//!
//! Which rule a request is for is the filter's decision, and to decide it here as well would be to
//! write the filter twice. So each rule gets one more write, a constant header with the rule's label,
//! and a last rule takes what no other does. A request that arrives without a label was let through;
//! one that has it is held to what that rule writes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use vaultref_harness::{Headers, Request, Response, UpstreamRequest};

use super::resolver::{Resolver, SECRET};
use super::steps::{OWN, TOKEN};

mod rule;
mod text;

use rule::{Rule, values};

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
        judged.map_err(|why| {
            let own = Headers::from_iter(sent.headers.iter().cloned());
            let body = [sent.body.clone(), sent.pieces.concat()].concat();
            let sent = shown(&sent.path, &own, &body);
            let got = shown(&got.path, &got.headers, &got.body);
            format!("rule {label}: {why}; sent {sent}; upstream got {got}")
        })
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

fn shown(path: &[u8], headers: &Headers, body: &[u8]) -> String {
    let (path, body) = (path.escape_ascii(), body.escape_ascii());
    format!("{path} {headers:?} '{body}'")
}

#[cfg(test)]
mod tests;
