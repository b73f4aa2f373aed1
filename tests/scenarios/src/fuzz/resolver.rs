//! What the resolver answers, and what it has ever given out: so that a value is known again wherever
//! it turns up.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::random::hash;

/// What every secret begins with; nothing else in an input does.
pub(super) const SECRET: &str = "S3CR-";

/// The resolver's side of one run.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    /// The values of each reference that were ever given, newest last.
    given: BTreeMap<String, Vec<Vec<u8>>>,
    version: u64,
    /// What its function in the host answers.
    pub(super) mood: String,
}

/// How it answers, as words in an input.
pub(super) const MOODS: [&str; 20] = [
    "ok",
    "known",
    "brief",
    "bytes",
    "control",
    "denied",
    "empty",
    "endless",
    "few",
    "invalid-reference",
    "key-not-found",
    "long",
    "mixed",
    "nested",
    "not-found",
    "pending",
    "refused",
    "unauthorized",
    "unavailable",
    "colon",
];

impl Resolver {
    /// From now on secrets are others.
    pub(super) fn rotate(&mut self) {
        self.version += 1;
    }

    /// Answers a question as the contract has it, in this mood.
    pub(super) fn answer(&mut self, question: &[u8], mood: &str) -> Vec<u8> {
        let question: Value = serde_json::from_slice(question).unwrap_or_default();
        let references = question["references"].as_array().cloned();
        let references = references.unwrap_or_default();
        if matches!(mood, "refused" | "unauthorized") {
            let kind = match mood {
                "refused" => "forbidden",
                _ => mood,
            };
            let refusal = json!({ "refusal": { "kind": kind, "message": "not this client" } });
            return refusal.to_string().into_bytes();
        }
        let mut results: Vec<Value> = Vec::new();
        for (at, reference) in references.iter().enumerate() {
            let reference = reference.as_str().unwrap_or_default();
            let is_known = !question["known"][at].is_null();
            let mood = match mood {
                "mixed" => {
                    let chance = hash(reference.as_bytes()).wrapping_add(self.version);
                    MOODS[usize::try_from(chance % 16).unwrap_or(0)]
                }
                other => other,
            };
            results.push(self.outcome(reference, is_known, mood));
        }
        if mood == "few" {
            results.pop();
        }
        json!({ "results": results }).to_string().into_bytes()
    }

    /// Every value of a reference.
    pub(super) fn given(&self, reference: &str) -> &[Vec<u8>] {
        self.given.get(reference).map_or(&[], Vec::as_slice)
    }

    /// Every reference of which a value was given.
    pub(super) fn references(&self) -> impl Iterator<Item = &str> {
        self.given.keys().map(String::as_str)
    }

    fn outcome(&mut self, reference: &str, is_known: bool, mood: &str) -> Value {
        let usable_for = match mood {
            "brief" => 1,
            "endless" => u64::MAX,
            _ => 3600,
        };
        let lifetime =
            json!({ "fresh_for": usable_for, "usable_for": usable_for, "stale": mood == "brief" });
        if is_known && mood == "known" {
            return json!({ "unchanged": lifetime });
        }
        const FAILURES: [&str; 6] = [
            "denied",
            "invalid-reference",
            "key-not-found",
            "not-found",
            "pending",
            "unavailable",
        ];
        if FAILURES.contains(&mood) {
            return json!({ "failure": { "kind": mood, "retryable": mood == "pending" } });
        }
        let value = self.value(reference, mood);
        let shown = match String::from_utf8(value.clone()) {
            Ok(text) => json!({ "text": text }),
            Err(_) => json!({ "bytes": STANDARD.encode(&value) }),
        };
        let values = self.given.entry(reference.to_owned()).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
        let revision = format!("{mood}{}", self.version);
        json!({ "secret": { "value": shown, "revision": revision, "lifetime": lifetime } })
    }

    fn value(&self, reference: &str, mood: &str) -> Vec<u8> {
        let name = secret_name(reference);
        let text = format!("{name}{}", self.version);
        match mood {
            "bytes" => [b"\xff\xfe", text.as_bytes()].concat(),
            "colon" => format!("{text}:x").into_bytes(),
            "control" => format!("{text}\r\nx-injected: 1").into_bytes(),
            "empty" => Vec::new(),
            "long" => text.repeat(600).into_bytes(),
            // A reference in a secret is a text.
            "nested" => format!("{text}{{vault://decoy/x}}&\"\\").into_bytes(),
            _ => text.into_bytes(),
        }
    }
}

/// What the secrets of a reference begin with.
pub(super) fn secret_name(reference: &str) -> String {
    let low = hash(reference.as_bytes()) & 0xffff_ffff;
    format!("{SECRET}{low:08x}-")
}
