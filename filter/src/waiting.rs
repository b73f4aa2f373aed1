//! Requests that wait for their secrets, and the streams whose headers have not come yet.
//!
//! Both are bounded: what a client can cause must not fill the gateway's memory.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::compile::Rule;
use crate::request::Plan;
use crate::table::{Age, EntryId, Question};
use crate::vm::{Due, Held};

/// The most requests that may wait at one time in a VM.
pub(crate) const MAX_WAITING: usize = 1024;

/// The most streams that are remembered between their creation and their headers.
const MAX_STREAMS: usize = 4096;

/// A request that is paused.
pub(crate) struct Waiting {
    /// The context of its stream.
    pub(crate) context: u32,
    /// The poller whose references it needs.
    pub(crate) poller: u32,
    /// Kept even if the configuration changes meanwhile.
    pub(crate) rule: Rc<Rule>,
    /// Writes the fields of the request in which there are references.
    pub(crate) found: Option<Rc<Rule>>,
    /// The references of the rule, and then those of `found`.
    pub(crate) entries: Vec<EntryId>,
    /// How many of them are the rule's.
    pub(crate) of_rule: usize,
    /// How many references there are in the fields that `found` writes.
    pub(crate) found_count: usize,
    /// What was decided when it was guarded; none if it does not wait.
    pub(crate) plan: Option<Plan>,
    /// Its own calls that are still to be answered; none if the host's function is asked.
    pub(crate) calls: Vec<Call>,
    /// When it is given up.
    pub(crate) deadline: Age,
    /// Whether its body is written once its headers are.
    pub(crate) takes_body: bool,
    /// What has come of its body all the same.
    pub(crate) held: Option<Held>,
    /// What its body gets beside `found`, if it is the body that waits: the headers have been written.
    pub(crate) body: Option<Due>,
}

impl Waiting {
    /// The references of the rule, and those of `found`.
    pub(crate) fn split(&self) -> (&[EntryId], &[EntryId]) {
        self.entries
            .split_at_checked(self.of_rule)
            .unwrap_or_default()
    }
}

/// A call made for a request.
pub(crate) struct Call {
    pub(crate) token: u32,
    /// What was asked; nothing if the answer cannot be told from another one.
    pub(crate) questions: Vec<Question>,
}

/// Which root a stream belongs to, from its creation until its headers come.
///
/// Envoy makes a stream's context right before the headers, so the newest is nearly always the one
/// that is asked for. What is forgotten for want of room is refused later.
pub(crate) struct Streams(VecDeque<(u32, u32)>);

impl Streams {
    pub(crate) const fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(crate) fn add(&mut self, context: u32, root: u32) {
        if self.0.len() >= MAX_STREAMS {
            self.0.pop_front();
        }
        self.0.push_back((context, root));
    }

    /// The stream's root; forgets the stream.
    pub(crate) fn take(&mut self, context: u32) -> Option<u32> {
        if let Some((newest, root)) = self.0.back()
            && *newest == context
        {
            let root = *root;
            self.0.pop_back();
            return Some(root);
        }
        let at = self.0.iter().rposition(|(known, _)| *known == context)?;
        self.0.remove(at).map(|(_, root)| root)
    }
}
