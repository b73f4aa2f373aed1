//! `vaultref parse`: how a reference is read. No configuration, no vault, no secret.

use std::io::BufRead as _;

use clap::Args;
use serde_json::{Map, Value, json};
use vaultref_contract::{OptionValue, Reference};

use super::{Status, output};

#[derive(Args, Debug)]
pub(super) struct Parse {
    /// The reference; `-` reads one a line from stdin and prints one JSON a line
    #[arg(value_name = "REF")]
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Parse {
    pub(super) fn run(self) -> Status {
        if self.reference == "-" {
            return lines();
        }
        let parsed = Reference::parse(&self.reference);
        if self.json {
            let status = match parsed {
                Ok(_) => Status::Ok,
                Err(_) => Status::Usage,
            };
            return match output::line(&shown(&self.reference).to_string()) {
                Status::Ok => status,
                failed => failed,
            };
        }
        match parsed {
            Ok(reference) => output::line(&told(&reference)),
            Err(error) => {
                output::problem(&format!("{}: {error}", self.reference));
                Status::Usage
            }
        }
    }
}

fn lines() -> Status {
    for line in std::io::stdin().lock().split(b'\n') {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                output::problem(&format!("cannot read stdin: {}", error.kind()));
                return Status::Internal;
            }
        };
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let shown = match std::str::from_utf8(line) {
            Ok(text) => shown(text),
            Err(_) => json!({"reference": String::from_utf8_lossy(line), "error": "not UTF-8"}),
        };
        let status = output::line(&shown.to_string());
        if status != Status::Ok {
            return status;
        }
    }
    Status::Ok
}

/// The fields that Kong's own parser gives, by its names.
fn shown(text: &str) -> Value {
    match Reference::parse(text) {
        Err(error) => json!({"reference": text, "error": error.to_string()}),
        Ok(reference) => {
            let mut fields = Map::new();
            fields.insert("name".to_owned(), json!(reference.vault()));
            fields.insert("resource".to_owned(), json!(reference.resource()));
            if let Some(key) = reference.key() {
                fields.insert("key".to_owned(), json!(key));
            }
            if let Some(version) = reference.version() {
                fields.insert("version".to_owned(), json!(version));
            }
            if let Some(options) = reference.options() {
                let options = options
                    .iter()
                    .map(|(name, value)| (name.to_owned(), option(value)));
                fields.insert("config".to_owned(), Value::Object(options.collect()));
            }
            json!({"reference": text, "ok": fields})
        }
    }
}

fn option(value: &OptionValue) -> Value {
    match value {
        OptionValue::Flag => json!(true),
        OptionValue::List(values) => values.iter().map(option).collect(),
        OptionValue::Text(text) => json!(text),
    }
}

fn told(reference: &Reference) -> String {
    let mut lines = vec![
        format!("vault     {}", reference.vault()),
        format!("resource  {:?}", reference.resource()),
    ];
    if let Some(key) = reference.key() {
        lines.push(format!("key       {key:?}"));
    }
    if let Some(version) = reference.version() {
        lines.push(format!("version   {version}"));
    }
    for (name, value) in reference
        .options()
        .into_iter()
        .flat_map(|options| options.iter())
    {
        lines.push(format!("option    {name:?} = {}", option(value)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_kong_shows() {
        let vectors = include_str!("../../../wit/tests/references.jsonl").lines();
        let mut seen = 0;
        for line in vectors {
            let vector: Value = serde_json::from_str(line).expect("a vector");
            let text = vector["reference"].as_str().expect("a reference");
            let shown = shown(text);
            assert_eq!(shown["reference"], text);
            assert_eq!(shown.get("ok"), vector.get("ok"), "{text}");
            assert_eq!(
                shown.get("error").is_some(),
                vector.get("error").is_some(),
                "{text}"
            );
            seen += 1;
        }
        assert_eq!(seen, 120);
    }
}
