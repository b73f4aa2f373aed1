//! What one run has shown: where it has been, and whether something was wrong.

use std::collections::BTreeSet;

use super::random::hash;

/// What one run has shown.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Everything by which a run can differ from others: places in the code, log lines without their
    /// names, answers, costs to the nearest power of two. Hashed.
    pub features: BTreeSet<u64>,
    /// The filter's log, natively and through the module.
    pub log: Vec<String>,
    /// What must not happen and has.
    pub finding: Option<String>,
}

impl Report {
    /// Notes a feature of this kind.
    pub(super) fn note(&mut self, kind: &str, what: impl AsRef<[u8]>) {
        let bytes = [kind.as_bytes(), b"\0", what.as_ref()].concat();
        self.features.insert(hash(&bytes));
    }

    /// Notes a line of the log, without what differs from one configuration to the next.
    pub(super) fn note_logged(&mut self, line: &str) {
        self.log.push(line.to_owned());
        self.note_line(line);
    }

    /// Notes a message.
    pub(super) fn note_line(&mut self, line: &str) {
        self.note("log", template(line));
    }

    /// Something is wrong; the first is kept.
    pub(super) fn found(&mut self, what: impl Into<String>) {
        self.finding.get_or_insert_with(|| what.into());
    }
}

/// The first and the last words of a line: what stands between them are mostly names, of which there
/// is no end, and each would count as something new.
fn template(line: &str) -> String {
    let pieces = line.split('\'').step_by(2);
    let unquoted = pieces.collect::<Vec<_>>().join(" ");
    let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let words: Vec<&str> = unquoted
        .split([' ', ':', ';', ','])
        .filter(is_word)
        .collect();
    let last = words.len().saturating_sub(4).max(3.min(words.len()));
    [&words[..3.min(words.len())], &words[last..]]
        .concat()
        .join(" ")
}
