//! A rule in use: what is sent for it now, and when that changes.
//!
//! All values of a rule change together. While one of its references cannot be read, a change of
//! another is held back for a short time, since the two may belong together (a username and its
//! password in two files); then what is known is sent, so that a vault that is down does not keep
//! another one's rotation from arriving.

use std::rc::Rc;

use vaultref_contract::wire::FailureKind;

use crate::body::BodyError;
use crate::compile::{Answer, OnError, Rule};
use crate::redact::{self, Needles};
use crate::render::Unrenderable;
use crate::request::{Field, WriteError};
use crate::table::{Age, Entry, EntryId, SECOND, Sent, Table};
use crate::{Host, Level};

/// How long a change is held back at most.
const HOLD: Age = 10 * SECOND;

/// How long the log hears no more of requests that could not be served for what they brought.
const QUIET: Age = 10 * SECOND;

/// A rule of a root.
pub(crate) struct Slot {
    pub(crate) rule: Rc<Rule>,
    /// The entries of the rule's references, in the rule's order; none while its root rests.
    pub(crate) entries: Vec<EntryId>,
    pub(crate) state: State,
    /// What is masked in responses, as of the state.
    pub(crate) needles: Needles,
    /// What the state was made from: the versions of the entries.
    versions: Vec<u64>,
    /// Until when every value that is sent may be used.
    usable_until: Age,
    held_since: Option<Age>,
    /// What is wrong, as it was last logged.
    trouble: Option<String>,
    /// Until when the log hears no more of what single requests bring.
    quiet_until: Age,
    /// Why a request could not be written to, as it was last logged.
    write_error: Option<WriteError>,
    /// The log says that an upstream repeats a secret.
    is_redacting: bool,
    /// Why bodies could not be written, as far as that was logged: a bit for each reason. How often
    /// there is one is the clients' choice.
    body_errors: u16,
}

/// What a request of a rule gets.
pub(crate) enum State {
    /// This answer.
    Refuse(Rc<Answer>),
    /// These fields.
    Serve(Rc<Vec<Field>>),
    /// Nothing yet: some reference was never answered.
    Unknown,
}

impl Slot {
    pub(crate) fn new(rule: Rc<Rule>) -> Self {
        Self {
            rule,
            entries: Vec::new(),
            state: State::Unknown,
            needles: Needles::default(),
            versions: Vec::new(),
            usable_until: 0,
            held_since: None,
            trouble: None,
            quiet_until: 0,
            write_error: None,
            is_redacting: false,
            body_errors: 0,
        }
    }

    /// Drops everything that was made from values.
    pub(crate) fn rest(&mut self) {
        self.entries = Vec::new();
        self.state = State::Unknown;
        self.needles = Needles::default();
        self.versions = Vec::new();
        self.held_since = None;
    }

    /// What its requests are sent with.
    pub(crate) fn sent(&self, table: &Table) -> Vec<Sent> {
        table.sent_as(&self.entries, self.versions.iter().copied())
    }

    /// Whether the state is to be made anew. In the middle of a poll, or after an answer to a single
    /// request, what has changed is `partial`, and only a rule that has nothing yet, or no longer all,
    /// is made of that: the others are to change when all of it is there.
    pub(crate) fn is_due(&self, table: &Table, dirty: bool, partial: bool) -> bool {
        let at_once = !partial || self.is_unknown() || self.has_lost(table);
        (dirty && at_once) || self.is_held()
    }

    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self.state, State::Unknown)
    }

    /// Whether a value of the rule is gone: too old, or taken back.
    fn has_lost(&self, table: &Table) -> bool {
        let mut entries = self.entries.iter().map(|id| table.get(*id));
        entries.any(|entry| entry.is_none_or(|entry| entry.secret().is_none()))
    }

    fn is_held(&self) -> bool {
        self.held_since.is_some()
    }

    /// Makes the state anew if something that it was made from has changed; says whether it did.
    pub(crate) fn refresh(&mut self, host: &impl Host, table: &Table, age: Age) -> bool {
        // Its values are made for each request.
        if self.rule.has_parameters() {
            return false;
        }
        let entries: Vec<Option<&Entry>> = self.entries.iter().map(|id| table.get(*id)).collect();
        let versions: Vec<u64> = entries
            .iter()
            .map(|entry| entry.map_or(0, Entry::version))
            .collect();
        let usable_until = entries
            .iter()
            .flatten()
            .map(|entry| entry.usable_until())
            .min()
            .unwrap_or(Age::MAX);
        let made = !self.is_unknown() || !self.versions.is_empty();
        if made && versions == self.versions {
            self.usable_until = usable_until;
            self.held_since = None;
            return false;
        }
        if self.holds_back(&entries, age) {
            return false;
        }
        let decision = decide(&self.rule, &self.entries, table, false);
        if !matches!(decision.state, State::Unknown) {
            self.log(host, decision.trouble);
        }
        self.state = decision.state;
        self.needles = redact::needles(&self.rule, &self.entries, table);
        self.versions = versions;
        self.usable_until = usable_until;
        self.held_since = None;
        true
    }

    /// Logs what is wrong, once; and once that it is well again.
    fn log(&mut self, host: &impl Host, trouble: Option<String>) {
        if self.trouble == trouble {
            return;
        }
        match &trouble {
            Some(trouble) => host.log(Level::Warn, trouble),
            None => {
                let message = format!("rule {}: has all its secrets again", self.rule.name());
                host.log(Level::Info, &message);
            }
        }
        self.trouble = trouble;
    }

    /// Whether this trouble is not in the log yet; the next time it is.
    pub(crate) fn is_new_trouble(&mut self, trouble: &str) -> bool {
        let news = self.trouble.as_deref() != Some(trouble);
        if news {
            self.trouble = Some(trouble.to_owned());
        }
        news
    }

    /// Whether the log is to hear of a request that could not be served for what it brought: how many
    /// of them there are is the clients' choice.
    pub(crate) fn may_tell(&mut self, age: Age) -> bool {
        let may_tell = age >= self.quiet_until;
        if may_tell {
            self.quiet_until = age.saturating_add(QUIET);
        }
        may_tell
    }

    /// Whether this error is not in the log yet; the next time it is.
    pub(crate) fn is_news(&mut self, error: WriteError) -> bool {
        self.write_error.replace(error) != Some(error)
    }

    /// Whether the log does not say yet that an upstream repeats a secret of the rule; from now on it
    /// does.
    pub(crate) fn is_first_redaction(&mut self) -> bool {
        !std::mem::replace(&mut self.is_redacting, true)
    }

    /// Whether this error of a body is not in the log yet; from now on it is.
    pub(crate) fn is_new_body_error(&mut self, error: BodyError) -> bool {
        let bit = 1 << (error as u16);
        let known = self.body_errors;
        self.body_errors |= bit;
        known & bit == 0
    }

    /// Whether the old values stay in use although some have changed.
    fn holds_back(&mut self, entries: &[Option<&Entry>], age: Age) -> bool {
        let complete = matches!(self.state, State::Serve(_)) && self.trouble.is_none();
        let all_there = entries
            .iter()
            .flatten()
            .all(|entry| entry.secret().is_some());
        let failing = entries
            .iter()
            .flatten()
            .any(|entry| entry.failure().is_some());
        if !complete || !all_there || !failing || age >= self.usable_until {
            return false;
        }
        let since = *self.held_since.get_or_insert(age);
        age.saturating_sub(since) < HOLD
    }
}

/// What a rule's requests get, and what is wrong if it is not what the rule says.
pub(crate) struct Decision {
    pub(crate) state: State,
    pub(crate) trouble: Option<String>,
}

/// Decides by what is known. With `last_word`, what is not known counts as failed.
pub(crate) fn decide(rule: &Rule, entries: &[EntryId], table: &Table, last_word: bool) -> Decision {
    let entry = |index: usize| entries.get(index).and_then(|id| table.get(*id));
    if !last_word && table.is_any_undecided(entries) {
        return Decision {
            state: State::Unknown,
            trouble: None,
        };
    }
    let mut fields = Vec::with_capacity(rule.values.len());
    let mut trouble = None;
    let mut refused = None;
    for value in &rule.values {
        let error = match value.render(|index| entry(index).and_then(Entry::secret)) {
            Ok(secret) => {
                fields.push(Field::Value(secret));
                continue;
            }
            Err(error) => error,
        };
        let (index, why) = match error {
            Unrenderable::ControlCharacter(index) => (index, "the secret has a control character"),
            Unrenderable::ColonInUsername(index) => (index, "the secret for a username has a ':'"),
            Unrenderable::NotText(index) => (index, "the secret is no text"),
            Unrenderable::Missing(index) => {
                let failure = entry(index).and_then(Entry::failure);
                (index, failure.map_or("no answer", FailureKind::name))
            }
        };
        let vault = entry(index).map_or("", |entry| &*entry.asked.vault);
        trouble.get_or_insert_with(|| {
            format!(
                "rule {}: no value for {} from the vault '{vault}': {why}; requests {}",
                rule.name(),
                value.place,
                consequence(&rule.on_error),
            )
        });
        match &rule.on_error {
            OnError::Default(text) => fields.push(Field::Value(value.literal(text))),
            OnError::Answer(answer) => refused = Some(Rc::clone(answer)),
            OnError::WithoutField => fields.push(Field::Omit),
        }
    }
    Decision {
        state: refused.map_or_else(|| State::Serve(Rc::new(fields)), State::Refuse),
        trouble,
    }
}

fn consequence(on_error: &OnError) -> String {
    match on_error {
        OnError::Default(_) => "get the default".to_owned(),
        OnError::Answer(answer) => format!("are answered with {}", answer.status),
        OnError::WithoutField => "go without the field".to_owned(),
    }
}
