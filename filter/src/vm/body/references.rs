//! References that stand in a request's body.
//!
//! The body is there as a whole, and nothing of it has been sent. In Envoy it waits for what is not
//! known, as headers do. nginx can neither ask nor wait then: what is not known counts as failed, and
//! the next poll asks for it, so that a later request finds it.

use std::rc::Rc;

use super::{Due, Held};
use crate::Host;
use crate::body::BodyError;
use crate::compile::{Kind, Rule, Target};
use crate::dynamic::Found;
use crate::table::EntryId;
use crate::vm::{Refusal, Vm};
use crate::waiting::{MAX_WAITING, Waiting};

impl<H: Host> Vm<H> {
    /// Writes a body that may have references; says whether it may go on now.
    #[inline(never)]
    pub(super) fn resolve_body(
        &mut self,
        context: u32,
        rule: &Rc<Rule>,
        due: &Due,
        bytes: &[u8],
    ) -> Result<bool, Refusal> {
        let (Some(body), Some(dynamic), Some(poller)) = (&rule.body, &rule.dynamic, due.poller)
        else {
            return Err(Refusal::Unable);
        };
        let found = match dynamic.read_body(rule, body, bytes, due.spent) {
            Ok(Some(found)) => found,
            Ok(None) => return self.replace_body(rule, bytes, due, None).map(|()| true),
            Err(unfit) => return Err(self.unfit(rule, unfit)),
        };
        self.advance();
        let Some(entries) = self.bring(poller, &found.asked) else {
            return Err(self.no_room(rule));
        };
        let ask = self.to_ask(poller, &entries);
        let mut waiting = Waiting {
            context,
            poller,
            rule: Rc::clone(rule),
            // Not kept: it holds as much of the client's text as the body does.
            found: None,
            entries,
            of_rule: 0,
            found_count: 0,
            plan: None,
            calls: Vec::new(),
            deadline: 0,
            takes_body: true,
            held: Some(Held {
                size: bytes.len(),
                is_whole: true,
            }),
            body: Some(due.clone()),
        };
        if !ask.is_empty() && self.ask_for_body(&mut waiting, &ask) {
            self.waiting.push(waiting);
            return Ok(false);
        }
        self.finish_body(&waiting, due, found, bytes).map(|()| true)
    }

    /// Asks for what a body needs, as far as that is possible; says whether it waits for it.
    fn ask_for_body(&mut self, waiting: &mut Waiting, ask: &[EntryId]) -> bool {
        let mut pollers = self.pollers.iter_mut();
        let Some(poller) = pollers.find(|known| known.id == waiting.poller) else {
            return false;
        };
        let resolver = Rc::clone(&poller.resolver);
        match &resolver.target {
            Target::Upstream(_) if self.kind == Kind::Nginx => {
                poller.table.want(ask);
                false
            }
            _ if self.waiting.len() >= MAX_WAITING => false,
            Target::Upstream(upstream) => {
                waiting.deadline = self.deadline(&resolver);
                waiting.calls = self.call_for(waiting.poller, ask, upstream);
                !waiting.calls.is_empty()
            }
            Target::HostFunction => {
                waiting.deadline = self.deadline(&resolver);
                self.ask_host_for(waiting, ask)
            }
        }
    }

    /// Ends the wait of a body. Its request is current.
    pub(in crate::vm) fn finish_waiting_body(
        &mut self,
        waiting: &Waiting,
        due: &Due,
    ) -> Result<(), Refusal> {
        let size = waiting.held.map_or(0, |held| held.size);
        let written = match self.host.request_body(size) {
            Ok(bytes) if bytes.len() == size => self.finish_with(waiting, due, &bytes),
            _ => Err(self.body_refusal(&waiting.rule, BodyError::Unreadable)),
        };
        let written = written.map(|()| true);
        self.note_stage(waiting.context, &written);
        written.map(drop)
    }

    /// Ends it with the bytes that it was found in before.
    fn finish_with(&mut self, waiting: &Waiting, due: &Due, bytes: &[u8]) -> Result<(), Refusal> {
        let rule = &waiting.rule;
        let (Some(body), Some(dynamic)) = (&rule.body, &rule.dynamic) else {
            return Err(Refusal::Unable);
        };
        match dynamic.read_body(rule, body, bytes, due.spent) {
            Ok(Some(found)) => self.finish_body(waiting, due, found, bytes),
            Ok(None) => Err(Refusal::Unable),
            Err(unfit) => Err(self.unfit(rule, unfit)),
        }
    }

    /// Writes a body with what is known by now.
    fn finish_body(
        &mut self,
        waiting: &Waiting,
        due: &Due,
        found: Found,
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        let (rule, entries) = (&waiting.rule, &waiting.entries);
        let mut pollers = self.pollers.iter();
        let poller = pollers.find(|known| known.id == waiting.poller);
        let Some(table) = poller.map(|poller| &poller.table) else {
            return Err(Refusal::Unable);
        };
        if !table.is_of(entries, &found.asked) {
            return Err(Refusal::Unable);
        }
        if table.is_apart(entries, &due.sent) {
            self.tell(
                rule,
                "a secret has changed while a request came; it is answered with 503",
            );
            return Err(Refusal::Unable);
        }
        let found = Rc::new(found.rule);
        let fields = self.last_word(waiting.poller, &found, entries, rule)?;
        let of_found = found.body.as_ref().map(|found| (&found.writes, &**fields));
        self.replace_body(rule, bytes, due, of_found)?;
        if rule.is_remembered {
            let needles = self.needles_of(waiting.poller, &found, entries);
            self.served.extend(waiting.context, &needles, entries);
        }
        Ok(())
    }
}
