//! When the resolver is asked, and asked again.
//!
//! There is one poller for each distinct resolver of a VM, however many configurations use it.

use std::rc::Rc;

use vaultref_contract::Secret;
use vaultref_contract::wire::{
    FailureKind, MAX_REFERENCES, Outcome, RESOLVE_FUNCTION, decode_reply,
};

use crate::compile::{Kind, Resolver, Target};
use crate::metrics::Counts;
use crate::table::{Age, Entry, EntryId, MILLISECOND, Question, SECOND, Table};
use crate::{Host, Level};

mod call;

pub(crate) use call::{Answer, Unanswered, dispatch, read};
use call::{denied, message};

/// How often a healthy resolver is asked for what has changed: by the tick before a second is over, so
/// that what is new there is here within one.
const PERIOD: Age = 700 * MILLISECOND;
/// How often one is asked that fails.
const RETRY: Age = SECOND;
/// How soon it is asked again after a failure, for the first [`QUICK_RETRIES`] times.
const QUICK: Age = 200 * MILLISECOND;
const QUICK_RETRIES: u32 = 5;
/// Added to what a call may take before one whose callback did not come is given up.
pub(crate) const SLACK: Age = SECOND;

/// How long the resolver may take to answer for what is wanted, in milliseconds.
const ASIDE_WAIT: u32 = 100;

/// Keeps the references of one resolver up to date.
pub(crate) struct Poller {
    pub(crate) id: u32,
    pub(crate) resolver: Rc<Resolver>,
    pub(crate) table: Table,
    flights: Vec<Flight>,
    next: Age,
    retries: u32,
    round_failed: bool,
    /// Since they were last written.
    pub(crate) counts: Counts,
    /// Some values were refused by an upstream, which the next poll says.
    is_doubted: bool,
    /// From when on there may be a poll before its time for that.
    next_doubt: Age,
    /// Values have changed since rules were last rendered.
    pub(crate) dirty: bool,
    /// What is wrong, as it was last logged.
    trouble: Option<String>,
    /// The log says that every reference has its first answer.
    is_complete: bool,
    /// The host's function was called, and came back.
    has_function: bool,
}

/// A call of a poll that is under way.
struct Flight {
    token: u32,
    questions: Vec<Question>,
    give_up: Age,
    /// It is for what requests wanted: neither the next poll nor the rules wait for it.
    is_aside: bool,
}

/// Where the poller for a resolver stands in a list; it is made if there is none.
pub(crate) fn poller_for(
    pollers: &mut Vec<Poller>,
    next_id: &mut u32,
    resolver: &Rc<Resolver>,
) -> usize {
    let known = pollers
        .iter()
        .position(|poller| poller.resolver == *resolver);
    known.unwrap_or_else(|| {
        let id = *next_id;
        *next_id = id.wrapping_add(1);
        pollers.push(Poller::new(id, Rc::clone(resolver)));
        pollers.len().saturating_sub(1)
    })
}

impl Poller {
    fn new(id: u32, resolver: Rc<Resolver>) -> Self {
        Self {
            id,
            resolver,
            table: Table::default(),
            flights: Vec::new(),
            next: 0,
            retries: 0,
            round_failed: false,
            counts: Counts::default(),
            is_doubted: false,
            next_doubt: 0,
            dirty: false,
            trouble: None,
            is_complete: false,
            has_function: false,
        }
    }

    /// Has the next tick ask, whenever the last one did.
    pub(crate) fn hurry(&mut self) {
        self.next = 0;
        self.retries = 0;
        self.is_complete = false;
    }

    /// Has the next poll say that an upstream has refused these values, and the next tick poll, unless
    /// it did so for that reason within the last second. Says whether that is news.
    pub(crate) fn doubt(&mut self, ids: &[EntryId]) -> bool {
        let is_news = self.table.doubt(ids);
        self.is_doubted |= is_news;
        is_news
    }

    /// Whether a poll is under way.
    pub(crate) fn is_polling(&self) -> bool {
        self.flights.iter().any(|flight| !flight.is_aside)
    }

    /// Whether the last that was heard of the resolver is that it cannot be asked.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Whether a call of the poll has this token.
    pub(crate) fn has(&self, token: u32) -> bool {
        self.flights.iter().any(|flight| flight.token == token)
    }

    /// Forgets a call of the poll: its token was given out again, so its answer cannot be told.
    pub(crate) fn forget(&mut self, token: u32) {
        self.lose(|flight| flight.token == token);
        self.round_failed = true;
    }

    /// Gives up these calls; says whether the poll waited for one of them.
    fn lose(&mut self, is_lost: impl Fn(&Flight) -> bool) -> Option<bool> {
        let flights = std::mem::take(&mut self.flights).into_iter();
        let (lost, open): (Vec<_>, Vec<_>) = flights.partition(is_lost);
        self.flights = open;
        for flight in &lost {
            self.table.unanswered(&flight.questions);
        }
        (!lost.is_empty()).then(|| lost.iter().any(|flight| !flight.is_aside))
    }

    /// Does what is due: gives up calls that are lost, and asks for everything when it is time.
    pub(crate) fn tick(&mut self, host: &impl Host, kind: Kind, age: Age) {
        if let Some(was_polling) = self.lose(|flight| flight.give_up <= age) {
            self.fail(host, "a call to the resolver was never answered".to_owned());
            if was_polling && !self.is_polling() {
                self.end_round(host, age);
            }
        }
        let is_due = age >= self.next || (self.is_doubted && age >= self.next_doubt);
        if self.is_polling() || !is_due {
            return;
        }
        let kept = self.table.kept();
        // One call aside at a time: that for these may still be open.
        let wanted = match self.flights.is_empty() {
            true => self.table.wanted(),
            false => Vec::new(),
        };
        if kept.is_empty() && wanted.is_empty() {
            return;
        }
        // In nginx a function that it does not have traps, and each trap in a tick doubles the
        // ticks. So a request tries it first.
        let is_untried = self.resolver.target == Target::HostFunction && !self.has_function;
        if kind == Kind::Nginx && is_untried {
            return;
        }
        if std::mem::take(&mut self.is_doubted) {
            self.next_doubt = age.saturating_add(SECOND);
        }
        self.round_failed = false;
        self.next = age.saturating_add(PERIOD);
        let mut goes_on = true;
        // Nobody waits for what is wanted, and its vault may be slow: the others' rotation is not to wait.
        for (ids, is_aside) in [(&kept, false), (&wanted, true)] {
            let mut rest = ids.as_slice();
            while goes_on
                && let Some((batch, others)) = rest.split_at_checked(self.table.batch(rest))
                && !batch.is_empty()
            {
                rest = others;
                goes_on = self.poll(host, kind, batch, is_aside, age);
            }
        }
        if !kept.is_empty() && !self.is_polling() {
            self.end_round(host, age);
        }
    }

    /// Makes one call of a poll, or aside of it; says whether there is a point in making more.
    fn poll(
        &mut self,
        host: &impl Host,
        kind: Kind,
        batch: &[EntryId],
        is_aside: bool,
        age: Age,
    ) -> bool {
        let mut questions = self.questions(batch, true);
        for question in &mut questions {
            question.is_doubted = self.table.take_doubt(question.id);
            let refreshes = self.counts.refreshes;
            self.counts.refreshes = refreshes.saturating_add(question.is_doubted.into());
        }
        let Target::Upstream(upstream) = &self.resolver.target else {
            self.call(host, questions, age);
            return true;
        };
        let (resolver, table) = (&self.resolver, &self.table);
        let wait = if is_aside { ASIDE_WAIT } else { u32::MAX };
        match dispatch(host, upstream, resolver, table, &questions, wait) {
            // A token that is in the air already cannot tell whose answer it is.
            Ok(token) if self.has(token) => self.forget(token),
            Ok(token) => {
                let patience = self.resolver.patience(kind);
                self.flights.push(Flight {
                    token,
                    questions,
                    give_up: age.saturating_add(patience).saturating_add(SLACK),
                    is_aside,
                });
            }
            Err(status) => {
                self.fail(host, Unanswered::NotSent(status).to_string());
                // What one call meets, the others would meet as well.
                return false;
            }
        }
        true
    }

    /// Takes the answer to a call of the poll. The round is over when none is left.
    pub(crate) fn answered(&mut self, host: &impl Host, token: u32, answer: Answer, age: Age) {
        let Some(at) = self.flights.iter().position(|flight| flight.token == token) else {
            return;
        };
        let flight = self.flights.swap_remove(at);
        let result = read(host, answer, flight.questions.len());
        self.receive(host, flight.questions, result, age);
        if !flight.is_aside && !self.is_polling() {
            self.end_round(host, age);
        }
    }

    /// Takes what came of a call; says whether there was an answer.
    pub(crate) fn receive(
        &mut self,
        host: &impl Host,
        questions: Vec<Question>,
        result: Result<Vec<Outcome>, Unanswered>,
        age: Age,
    ) -> bool {
        let error = match result {
            Ok(outcomes) => {
                self.take(questions, outcomes, age);
                return true;
            }
            Err(error) => error,
        };
        self.note(host, &error);
        self.table.unanswered(&questions);
        let is_cut_off = matches!(error, Unanswered::CutOff(_));
        if is_cut_off {
            // The daemon serves this client no longer: what it was given is forbidden now.
            let outcomes = denied(questions.len());
            self.take(questions, outcomes, age);
        }
        is_cut_off
    }

    fn take(&mut self, questions: Vec<Question>, outcomes: Vec<Outcome>, age: Age) {
        for outcome in &outcomes {
            match outcome {
                Outcome::Failure(failure) => match failure.kind {
                    FailureKind::Pending => {}
                    FailureKind::Denied => {
                        self.counts.failed = self.counts.failed.saturating_add(1);
                        self.counts.denied = self.counts.denied.saturating_add(1);
                    }
                    _ => self.counts.failed = self.counts.failed.saturating_add(1),
                },
                Outcome::Secret(_) => {
                    self.counts.resolved = self.counts.resolved.saturating_add(1);
                }
                Outcome::Unchanged(_) => {}
            }
        }
        self.table.take(questions, outcomes, age);
        self.dirty = true;
    }

    /// The questions for these entries; with what is known, or as if nothing were.
    pub(crate) fn questions(&self, ids: &[EntryId], with_known: bool) -> Vec<Question> {
        let questions = ids.iter().map(|id| Question {
            id: *id,
            known: self
                .table
                .get(*id)
                .and_then(|entry| entry.revision().cloned())
                .filter(|_| with_known),
            is_doubted: false,
        });
        questions.collect()
    }

    /// Asks the host's function, which answers at once; says whether it did.
    pub(crate) fn ask_host(&mut self, host: &impl Host, ids: &[EntryId], age: Age) -> bool {
        let mut answered = true;
        for batch in ids.chunks(MAX_REFERENCES) {
            let questions = self.questions(batch, true);
            answered &= self.call(host, questions, age);
        }
        answered
    }

    /// Notes that a request's own call failed.
    pub(crate) fn note(&mut self, host: &impl Host, error: &Unanswered) {
        self.fail(host, error.to_string());
    }

    /// The tokens of the poll's calls.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = u32> {
        self.flights.iter().map(|flight| flight.token)
    }

    fn call(&mut self, host: &impl Host, questions: Vec<Question>, age: Age) -> bool {
        let message = message(&self.table, &questions, 0);
        let answer = host.call_foreign_function(RESOLVE_FUNCTION, &message);
        self.has_function = true;
        let result = answer
            .map(Secret::new)
            .map_err(Unanswered::NotSent)
            .and_then(|bytes| Ok(decode_reply(bytes.expose(), questions.len())?));
        self.receive(host, questions, result, age)
    }

    /// Notes trouble; the log hears of it once.
    fn fail(&mut self, host: &impl Host, why: String) {
        self.round_failed = true;
        if self.trouble.as_ref() != Some(&why) {
            host.log(Level::Warn, &format!("the resolver cannot be asked: {why}"));
            self.trouble = Some(why);
        }
    }

    fn end_round(&mut self, host: &impl Host, age: Age) {
        if !self.round_failed && self.trouble.take().is_some() {
            host.log(Level::Info, "the resolver answers again");
        }
        let undecided = self.table.configured().any(Entry::is_undecided);
        if !self.is_complete && !self.round_failed && !undecided {
            self.is_complete = true;
            let count = self.table.configured().count();
            let message = format!("the resolver has answered for all {count} references");
            host.log(Level::Info, &message);
        }
        if self.round_failed || self.table.configured().any(Entry::is_open) {
            self.retries = self.retries.saturating_add(1);
            let pause = if self.retries <= QUICK_RETRIES {
                QUICK
            } else {
                RETRY
            };
            self.next = age.saturating_add(pause);
        } else {
            self.retries = 0;
        }
    }
}
