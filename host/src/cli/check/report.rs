//! What is told of a check: each reference and each fault with its place. Never a value.

use serde_json::json;
use vaultref_contract::ReferenceText;
use vaultref_contract::wire::FailureKind;

use super::super::{Status, output};

/// A place in a file as a person finds it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: String,
    /// From 1; none if it is about the file as a whole.
    pub(super) line: Option<usize>,
    /// In characters, from 1.
    pub(super) column: Option<usize>,
    /// A JSON pointer; the name of a variable or setting after a `/`; empty if there is neither.
    pub(super) pointer: String,
}

/// One line of the report.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) place: Place,
    pub(super) reference: Option<ReferenceText>,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Fault(Kind, String),
    Fine,
    /// Nothing speaks against it, but no vault was asked.
    Unchecked,
}

/// What kind of fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A gateway could not use the configuration of the filter.
    Configuration,
    /// As the resolver says.
    Failure(FailureKind),
    /// The reference stands where nobody resolves it.
    Literal,
    /// The file is not what it should be: YAML, JSON.
    Syntax,
    /// The file cannot be read.
    Unreadable,
    /// The resolver could not use the configuration, or not that of a vault.
    Vaults,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Configuration | Self::Vaults => "bad-configuration",
            Self::Failure(kind) => kind.name(),
            Self::Literal => "literal",
            Self::Syntax => "bad-syntax",
            Self::Unreadable => "unreadable",
        }
    }

    fn status(self) -> Status {
        match self {
            Self::Configuration
            | Self::Literal
            | Self::Syntax
            | Self::Unreadable
            | Self::Vaults => Status::Usage,
            Self::Failure(kind) => Status::of(kind),
        }
    }
}

/// All findings, in the order of the files and of the places in them.
#[derive(Debug, Default)]
pub(super) struct Report(pub(super) Vec<Finding>);

impl Report {
    /// Prints it and gives the exit code.
    pub(super) fn print(&self, json: bool) -> Status {
        let printed = if json {
            output::line(&self.to_json().to_string())
        } else {
            let mut lines: Vec<_> = self.0.iter().map(Finding::line).collect();
            lines.push(self.summary());
            output::lines(lines.iter().map(String::as_str))
        };
        let statuses = self.0.iter().filter_map(|finding| match finding.verdict {
            Verdict::Fault(kind, _) => Some(kind.status()),
            Verdict::Fine | Verdict::Unchecked => None,
        });
        Status::most_telling(statuses.chain([printed]))
    }

    fn count(&self, is_counted: impl Fn(&Finding) -> bool) -> usize {
        self.0.iter().filter(|finding| is_counted(finding)).count()
    }

    fn counts(&self) -> [usize; 4] {
        let of = |verdict: fn(&Verdict) -> bool| self.count(|finding| verdict(&finding.verdict));
        [
            self.count(|finding| finding.reference.is_some()),
            of(|verdict| matches!(verdict, Verdict::Fine)),
            of(|verdict| matches!(verdict, Verdict::Unchecked)),
            of(|verdict| matches!(verdict, Verdict::Fault(..))),
        ]
    }

    fn summary(&self) -> String {
        let [references, fine, unchecked, faults] = self.counts();
        let unchecked = match unchecked {
            0 => String::new(),
            unchecked => format!(", {unchecked} unchecked"),
        };
        format!("references: {references}; {fine} ok{unchecked}; faults: {faults}")
    }

    fn to_json(&self) -> serde_json::Value {
        let [references, fine, unchecked, faults] = self.counts();
        json!({
            "findings": self.0.iter().map(Finding::to_json).collect::<Vec<_>>(),
            "summary": {
                "references": references,
                "ok": fine,
                "unchecked": unchecked,
                "faults": faults,
            },
        })
    }
}

impl Finding {
    fn vault(&self) -> Option<&str> {
        self.reference
            .as_ref()
            .map(|reference| reference.reference().vault())
    }

    /// `file:line:column: verdict: reference (vault …) at pointer: cause`, without what there is not.
    fn line(&self) -> String {
        let place = &self.place;
        let mut line = place.file.clone();
        for number in [place.line, place.column].into_iter().flatten() {
            line.push_str(&format!(":{number}"));
        }
        line.push_str(&format!(": {}", self.verdict.name()));
        if let Some(reference) = &self.reference {
            let vault = self.vault().unwrap_or_default();
            line.push_str(&format!(": {} (vault {vault})", reference.as_str()));
        }
        if !place.pointer.is_empty() {
            line.push_str(&format!(" at {}", place.pointer));
        }
        if let Verdict::Fault(_, cause) = &self.verdict {
            line.push_str(&format!(": {cause}"));
        }
        line
    }

    fn to_json(&self) -> serde_json::Value {
        let mut shown = json!({
            "file": self.place.file,
            "pointer": self.place.pointer,
            "verdict": self.verdict.word(),
        });
        if let Some(line) = self.place.line {
            shown["line"] = json!(line);
        }
        if let Some(column) = self.place.column {
            shown["column"] = json!(column);
        }
        if let Some(reference) = &self.reference {
            shown["reference"] = json!(reference.as_str());
            shown["vault"] = json!(self.vault());
        }
        if let Verdict::Fault(kind, cause) = &self.verdict {
            shown["kind"] = json!(kind.name());
            shown["cause"] = json!(cause);
        }
        shown
    }
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Fault(..) => "fault",
            Self::Fine => "ok",
            Self::Unchecked => "unchecked",
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Fault(kind, _) => kind.name(),
            other => other.word(),
        }
    }
}
