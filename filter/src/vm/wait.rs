//! Requests that have to wait: how they begin to, what ends it, and what happens if nothing does.

use std::rc::Rc;

use vaultref_contract::wire::MAX_REFERENCES;

use super::body::{Due, Fields};
use super::{Action, Refusal, Vm};
use crate::Host;
use crate::compile::{Kind, Resolver, Rule, Target};
use crate::redact::{self, Needles};
use crate::request::{self, Plan};
use crate::resolver::{self, Answer, SLACK, Unanswered};
use crate::slot::{self, State};
use crate::table::{Age, EntryId};
use crate::waiting::{Call, MAX_WAITING, Waiting};

/// What a request needs, taken out of its root so that the VM can be changed meanwhile.
pub(super) struct Needs {
    pub(super) poller: u32,
    pub(super) rule: Rc<Rule>,
    /// Writes the fields of the request in which there are references.
    pub(super) found: Option<Rc<Rule>>,
    /// The references of the rule, and then those of `found`.
    pub(super) entries: Vec<EntryId>,
    /// How many of them are the rule's.
    pub(super) of_rule: usize,
    /// How many references there are in the fields that `found` writes.
    pub(super) found_count: usize,
    /// Those that are to be asked for.
    pub(super) ask: Vec<EntryId>,
    /// Whether the request's body is written as well.
    pub(super) takes_body: bool,
}

impl Needs {
    /// As those of a request, which has made no call yet; and what is to be asked for.
    fn of_request(
        self,
        context: u32,
        plan: Option<Plan>,
        deadline: Age,
    ) -> (Waiting, Vec<EntryId>) {
        let waiting = Waiting {
            context,
            poller: self.poller,
            rule: self.rule,
            found: self.found,
            entries: self.entries,
            of_rule: self.of_rule,
            found_count: self.found_count,
            plan,
            calls: Vec::new(),
            deadline,
            takes_body: self.takes_body,
            held: None,
            body: None,
        };
        (waiting, self.ask)
    }
}

impl<H: Host> Vm<H> {
    /// Serves a request whose rule lacks answers: by asking for them, if it may wait.
    ///
    /// It is guarded before anything else is asked of the gateway: in nginx a function that traps
    /// sends the request on as it stands.
    pub(super) fn wait(&mut self, context: u32, needs: Needs) -> Action {
        let poller = self.pollers.iter().find(|poller| poller.id == needs.poller);
        let Some(resolver) = poller.map(|poller| Rc::clone(&poller.resolver)) else {
            return self.refuse(&Refusal::Unable);
        };
        if self.waiting.len() >= MAX_WAITING {
            return self.serve_now(context, needs);
        }
        // What was found first: the path that the rule's plan keeps has no reference then.
        let found = needs.found.as_ref();
        let guarded = found.map_or(Ok(()), |found| {
            request::guard(&self.host, self.kind, found).map(drop)
        });
        let guarded = guarded.and_then(|()| request::guard(&self.host, self.kind, &needs.rule));
        let plan = match guarded {
            Ok(plan) => plan,
            Err(error) => return self.cannot_write(&needs.rule, error),
        };
        self.advance();
        let deadline = self.deadline(&resolver);
        let (mut waiting, ask) = needs.of_request(context, Some(plan), deadline);
        let waits = match &resolver.target {
            Target::HostFunction => self.ask_host_for(&waiting, &ask),
            Target::Upstream(upstream) => {
                waiting.calls = self.call_for(waiting.poller, &ask, upstream);
                !waiting.calls.is_empty()
            }
        };
        if waits {
            self.waiting.push(waiting);
            return Action::Pause;
        }
        match self.finish(&waiting) {
            Ok(()) => Action::Continue,
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// When a request that begins to wait now is given up.
    pub(super) fn deadline(&self, resolver: &Resolver) -> Age {
        let patience = match (&resolver.target, self.kind) {
            (Target::HostFunction, _) => resolver.timeout_age(),
            (Target::Upstream(_), Kind::Envoy) => {
                resolver.patience(self.kind).saturating_add(SLACK)
            }
            // It wakes by itself there, so its record must be there however late that is; nginx
            // also says when the request is gone.
            (Target::Upstream(_), Kind::Nginx) => Age::MAX,
        };
        self.clock.age().saturating_add(patience)
    }

    /// Asks the host's function, which answers at once; the request waits only for what is pending.
    pub(super) fn ask_host_for(&mut self, waiting: &Waiting, ask: &[EntryId]) -> bool {
        let age = self.clock.age();
        let id = waiting.poller;
        let Some(poller) = self.pollers.iter_mut().find(|known| known.id == id) else {
            return false;
        };
        let answered = poller.ask_host(&self.host, ask, age);
        let pending = answered && poller.table.is_any_undecided(&waiting.entries);
        self.refresh(id, false);
        // nginx wakes no request that has no call of its own.
        pending && self.kind == Kind::Envoy
    }

    /// Makes the calls of one request. One that cannot be made is left out: its references will
    /// have no answer.
    pub(super) fn call_for(&mut self, poller: u32, ask: &[EntryId], upstream: &str) -> Vec<Call> {
        let mut calls: Vec<Call> = Vec::new();
        for batch in ask.chunks(MAX_REFERENCES) {
            let mut pollers = self.pollers.iter_mut();
            let Some(poller) = pollers.find(|known| known.id == poller) else {
                break;
            };
            let mut questions = poller.questions(batch, false);
            let resolver = &poller.resolver;
            let table = &poller.table;
            let sent =
                resolver::dispatch(&self.host, upstream, resolver, table, &questions, u32::MAX);
            let token = match sent {
                Ok(token) => token,
                Err(status) => {
                    poller.note(&self.host, &Unanswered::NotSent(status));
                    break;
                }
            };
            // If the token is in the air already, nobody can tell the two answers apart, and a
            // wrong guess would send one secret in another's place.
            let own = calls.iter_mut().find(|call| call.token == token);
            let is_own = own.map(|call| call.questions.clear()).is_some();
            if self.disown(token) || is_own {
                questions.clear();
            }
            calls.push(Call { token, questions });
        }
        calls
    }

    /// Makes sure that no answer with this token is believed; says whether there was a call.
    fn disown(&mut self, token: u32) -> bool {
        let mut known = false;
        for poller in self.pollers.iter_mut().filter(|poller| poller.has(token)) {
            poller.forget(token);
            known = true;
        }
        let calls = self
            .waiting
            .iter_mut()
            .flat_map(|waiting| &mut waiting.calls);
        for call in calls.filter(|call| call.token == token) {
            call.questions.clear();
            known = true;
        }
        known
    }

    /// Disowns the tokens that the last polls share with each other or with a request.
    pub(super) fn untangle(&mut self) {
        let tokens = self.pollers.iter().flat_map(|poller| poller.tokens());
        let tokens: Vec<u32> = tokens.collect();
        let is_of_request = |token: u32| {
            let mut calls = self.waiting.iter().flat_map(|waiting| &waiting.calls);
            calls.any(|call| call.token == token)
        };
        let mut seen = Vec::new();
        let mut shared = Vec::new();
        for token in tokens {
            if seen.contains(&token) || is_of_request(token) {
                shared.push(token);
            }
            seen.push(token);
        }
        for token in shared {
            self.disown(token);
        }
    }

    /// Takes the answer to a call of a waiting request; when it was the last one, the request goes
    /// on.
    pub(super) fn take_answer(&mut self, at: usize, token: u32, answer: Answer) {
        let age = self.clock.age();
        let Some(waiting) = self.waiting.get_mut(at) else {
            return;
        };
        let Some(call) = waiting.calls.iter().position(|call| call.token == token) else {
            return;
        };
        let questions = waiting.calls.swap_remove(call).questions;
        let poller_id = waiting.poller;
        let is_last = waiting.calls.is_empty();
        let poller = self
            .pollers
            .iter_mut()
            .find(|poller| poller.id == poller_id);
        // A call without questions is one whose answer cannot be told from another's.
        if let Some(poller) = poller.filter(|_| !questions.is_empty()) {
            let result = resolver::read(&self.host, answer, questions.len());
            poller.receive(&self.host, questions, result, age);
        }
        self.refresh(poller_id, false);
        if is_last {
            let waiting = self.waiting.swap_remove(at);
            // The answer comes with the root's context, in Envoy too: the request has to be entered.
            // (That fails for the stream of a client that has gone; in nginx it does nothing.)
            if self.kind == Kind::Nginx || self.host.set_effective_context(waiting.context).is_ok()
            {
                self.settle(&waiting);
            }
        }
    }

    /// What a tick does for requests, after the polls: renders what is new and ends the waits that
    /// are over. Afterwards the root's context is the current one again.
    pub(super) fn serve_waiting(&mut self, root: u32) {
        self.ask_host_for_waiting();
        let pollers: Vec<u32> = self.pollers.iter().map(|poller| poller.id).collect();
        for poller in pollers {
            self.refresh(poller, true);
        }
        let due = self.take_due();
        // In nginx no other context can be entered. There a request wakes by itself, guarded.
        if due.is_empty() || self.kind == Kind::Nginx {
            return;
        }
        for waiting in &due {
            // It fails for the stream of a client that has gone.
            if self.host.set_effective_context(waiting.context).is_ok() {
                self.settle(waiting);
            }
        }
        let _ = self.host.set_effective_context(root);
    }

    /// Asks the host's function again for what waiting requests lack.
    fn ask_host_for_waiting(&mut self) {
        let age = self.clock.age();
        for poller in &mut self.pollers {
            if poller.resolver.target != Target::HostFunction {
                continue;
            }
            let of_requests = self
                .waiting
                .iter()
                .filter(|waiting| waiting.poller == poller.id)
                .flat_map(|waiting| waiting.entries.iter().copied());
            let open = poller.table.undecided(of_requests);
            poller.ask_host(&self.host, &open, age);
        }
    }

    /// Takes out the requests that wait for no call and have what they need, and those that have
    /// waited long enough.
    fn take_due(&mut self) -> Vec<Waiting> {
        let age = self.clock.age();
        let mut due = Vec::new();
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at) {
            let poller = self
                .pollers
                .iter()
                .find(|poller| poller.id == waiting.poller);
            let decided = waiting.calls.is_empty()
                && poller.is_none_or(|poller| !poller.table.is_any_undecided(&waiting.entries));
            if decided || age >= waiting.deadline {
                due.push(self.waiting.swap_remove(at));
            } else {
                at = at.saturating_add(1);
            }
        }
        due
    }

    /// Ends the wait of the request that is current.
    fn settle(&mut self, waiting: &Waiting) {
        let finished = match &waiting.body {
            Some(due) => self.finish_waiting_body(waiting, due).map(|()| true),
            None => self
                .finish(waiting)
                .and_then(|()| self.release_body(waiting.context, waiting.held)),
        };
        match finished {
            // It goes on by itself with the rest of its body, or waits for what that needs.
            Ok(false) => {}
            Ok(true) => {
                // A request that cannot be woken would be held until its client gives up.
                if self.host.resume_request().is_err() {
                    self.refuse(&Refusal::Unable);
                }
            }
            Err(refusal) => {
                self.refuse(&refusal);
            }
        }
    }

    /// Writes the fields of a request, or says with what it is to be answered.
    pub(super) fn finish(&mut self, waiting: &Waiting) -> Result<(), Refusal> {
        let rule = &waiting.rule;
        let (of_rule, of_found) = waiting.split();
        if rule.dynamic.is_some() && self.is_torn(waiting) {
            return Err(Refusal::Unable);
        }
        let found = match &waiting.found {
            Some(found) => {
                let fields = self.last_word(waiting.poller, found, of_found, rule)?;
                Some((found, fields))
            }
            None => None,
        };
        let readies = self.roots.iter().filter_map(|root| root.ready.as_ref());
        let mut slots = readies.flat_map(|ready| &ready.slots);
        let slot = slots.find(|slot| Rc::ptr_eq(&slot.rule, rule));
        let mut pollers = self.pollers.iter();
        let table = pollers
            .find(|known| known.id == waiting.poller)
            .map(|known| &known.table);
        // What the request brings may be newer than what the rule is rendered from.
        let of_slot = slot.zip(table).map(|(slot, table)| slot.sent(table));
        let of_slot = of_slot.unwrap_or_default();
        let is_apart = table.is_some_and(|table| table.is_apart(of_found, &of_slot));
        if is_apart && table.is_some_and(|table| table.is_any_torn(&waiting.entries)) {
            return Err(Refusal::Unable);
        }
        let is_of_slot =
            !is_apart && slot.is_some_and(|slot| matches!(slot.state, State::Serve(_)));
        let sent = match table.filter(|_| rule.resolves_body()) {
            Some(table) if is_of_slot => [of_slot, table.sent(of_found)].concat(),
            Some(table) => table.sent(&waiting.entries),
            None => Vec::new(),
        };
        let (fields, mut needles) = match slot.map(|slot| (slot, &slot.state)) {
            Some((slot, State::Serve(fields))) if is_of_slot => {
                (Rc::clone(fields), Rc::clone(&slot.needles))
            }
            Some((_, State::Refuse(answer))) if waiting.plan.is_none() => {
                return Err(Refusal::Missing(Rc::clone(answer)));
            }
            _ => {
                let fields = self.last_word(waiting.poller, rule, of_rule, rule)?;
                let needles = self.needles_of(waiting.poller, rule, of_rule);
                (fields, needles)
            }
        };
        let mut written = match &waiting.plan {
            Some(plan) => request::complete(&self.host, self.kind, rule, plan, &fields),
            None => request::apply(&self.host, self.kind, rule, &fields),
        };
        if let Some((found, fields)) = &found {
            written = written.and_then(|()| request::apply(&self.host, self.kind, found, fields));
            if rule.is_redacted {
                let of_found = self.needles_of(waiting.poller, found, of_found);
                needles = redact::joined(&needles, &of_found);
            }
        }
        written.map_err(|error| self.log_write_error(rule, error))?;
        let brought = waiting.entries.iter().filter(|_| rule.dynamic.is_some());
        let brought = brought.copied().collect();
        let due = waiting.takes_body.then(|| Due {
            fields,
            poller: Some(waiting.poller),
            spent: waiting.found_count,
            sent,
        });
        self.note(waiting.context, rule, needles, due, brought)
    }

    pub(super) fn needles_of(&self, poller: u32, rule: &Rule, entries: &[EntryId]) -> Needles {
        let poller = self.pollers.iter().find(|known| known.id == poller);
        let needles = poller.map(|poller| redact::needles(rule, entries, &poller.table));
        needles.unwrap_or_default()
    }

    /// Whether the values of some object that a request needs were never there together.
    fn is_torn(&self, waiting: &Waiting) -> bool {
        // Without parameters the rule's own values come from its slot, which changes as a whole.
        let entries = match waiting.rule.has_parameters() {
            true => &waiting.entries,
            false => waiting.split().1,
        };
        let mut pollers = self.pollers.iter();
        let poller = pollers.find(|poller| poller.id == waiting.poller);
        poller.is_none_or(|poller| poller.table.is_any_torn(entries))
    }

    /// Serves a request that does not wait, by what is known.
    pub(super) fn serve_now(&mut self, context: u32, needs: Needs) -> Action {
        let (waiting, _) = needs.of_request(context, None, 0);
        match self.finish(&waiting) {
            Ok(()) => Action::Continue,
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// What a rule's fields are if nothing more will be known. The log hears of it as of `configured`,
    /// a rule of the configuration.
    pub(super) fn last_word(
        &mut self,
        poller: u32,
        rule: &Rc<Rule>,
        entries: &[EntryId],
        configured: &Rc<Rule>,
    ) -> Result<Fields, Refusal> {
        let poller = self.pollers.iter().find(|known| known.id == poller);
        let table = poller.map(|poller| &poller.table).ok_or(Refusal::Unable)?;
        let decision = slot::decide(rule, entries, table, true);
        if let Some(trouble) = decision.trouble {
            let age = self.clock.age();
            let news = self.slot_of(configured).is_some_and(|slot| {
                if configured.dynamic.is_some() {
                    slot.may_tell(age)
                } else {
                    slot.is_new_trouble(&trouble)
                }
            });
            if news {
                self.host.log(crate::Level::Warn, &trouble);
            }
        }
        match decision.state {
            State::Serve(fields) => Ok(fields),
            State::Refuse(answer) => Err(Refusal::Missing(answer)),
            State::Unknown => Err(Refusal::Unable),
        }
    }
}
