//! A fuzzer of the filter that is led by where inputs get to.
//!
//! An input is a [`Script`]: configurations, requests, answers of the resolver and whatever else a
//! gateway may call, in any order. It is run twice, through the library natively and through the
//! shipped module in the harness, which behaves as Envoy or as nginx. One that gets where none has
//! been (a place in the module's code, a log line, an answer) is kept, and others are made of it.
//!
//! What must hold after any input: nothing traps or panics, no worker dies, no callback runs on
//! without end; no request goes on with a reference or the client's own value in a field that a rule
//! writes, or with a secret that its rule does not name; no secret is in a log or in an answer.
//!
//! The same seed makes the same inputs as long as the modules are the same.

mod campaign;
mod corpus;
mod coverage;
mod dictionary;
mod form;
mod module;
mod mutate;
mod native;
mod oracle;
mod random;
mod report;
mod resolver;
mod script;
mod steps;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use campaign::{Campaign, Found};
pub use corpus::{distil, folder, load, save};
pub use module::Modules;
pub use report::Report;
pub use script::{Script, Step};

/// Runs an input natively and through the module.
#[must_use]
pub fn run(modules: &Modules, script: &Script) -> Report {
    let mut report = native::run(script);
    let ran = catch_unwind(AssertUnwindSafe(|| module::run(modules, script)));
    let through = ran.unwrap_or_else(|_| {
        let mut report = Report::default();
        report.found("the harness has panicked");
        report
    });
    report.features.extend(through.features);
    report.log.extend(through.log);
    report.finding = report.finding.or(through.finding);
    report
}
