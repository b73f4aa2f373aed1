//! Requests of a rule that asks for something with each of them.
//!
//! What is known serves at once. What is not is asked for in one call, together with what else is
//! known of the same objects, so that no request gets two halves that were never together. Nothing of
//! it is written before it is known what all of it may be.

use std::rc::Rc;

use super::wait::Needs;
use super::{Action, Refusal, Vm, in_use};
use crate::compile::{Asked, Rule};
use crate::dynamic::{Demand, Unfit};
use crate::slot::State;
use crate::table::EntryId;
use crate::{Host, Level};

impl<H: Host> Vm<H> {
    /// Serves the current request by a rule of which `entries` are the references without parameters.
    pub(super) fn serve_dynamic(
        &mut self,
        context: u32,
        poller: u32,
        rule: &Rc<Rule>,
        entries: Vec<EntryId>,
        takes_body: bool,
    ) -> Action {
        let read = |dynamic: &crate::dynamic::Dynamic| dynamic.read(&self.host, self.kind, rule);
        let demand = match rule.dynamic.as_deref().map(read) {
            Some(Ok(demand)) => demand,
            Some(Err(unfit)) => return self.refuse_unfit(rule, unfit),
            None => return self.refuse(&Refusal::Unable),
        };
        let Some(needs) = self.needs(poller, rule, entries, demand, takes_body) else {
            let refusal = self.no_room(rule);
            return self.refuse(&refusal);
        };
        if needs.ask.is_empty() {
            return self.serve_now(context, needs);
        }
        self.wait(context, needs)
    }

    /// What a request needs; none if there is no room for it.
    fn needs(
        &mut self,
        poller: u32,
        rule: &Rc<Rule>,
        mut entries: Vec<EntryId>,
        demand: Demand,
        takes_body: bool,
    ) -> Option<Needs> {
        let is_ready = self
            .slot_of(rule)
            .is_some_and(|slot| !matches!(slot.state, State::Unknown));
        let mut asked = demand.made;
        let of_rule = entries.len().saturating_add(asked.len());
        let mut found_count = 0;
        let found = demand.found.map(|found| {
            asked.extend(found.asked);
            found_count = found.count;
            Rc::new(found.rule)
        });
        // Values that are ready in the slot need nothing.
        let ready = if is_ready { entries.len() } else { 0 };
        entries.extend(self.bring(poller, &asked)?);
        let needed = entries.get(ready..).unwrap_or_default();
        let ask = self.to_ask(poller, needed);
        Some(Needs {
            poller,
            rule: Rc::clone(rule),
            found,
            entries,
            of_rule,
            found_count,
            ask,
            takes_body,
        })
    }

    /// The entries for what a request asks for; none if there is no room for them.
    pub(super) fn bring(&mut self, poller: u32, asked: &[Asked]) -> Option<Vec<EntryId>> {
        let age = self.clock.age();
        let known = self.pollers.iter_mut().find(|known| known.id == poller)?;
        let in_use = in_use(poller, &self.waiting, &self.bodies);
        let table = &mut known.table;
        table.bring(asked, in_use, &mut self.next_entry, age)
    }

    /// What is to be asked for by a request that needs these.
    pub(super) fn to_ask(&self, poller: u32, needed: &[EntryId]) -> Vec<EntryId> {
        let mut pollers = self.pollers.iter();
        let poller = pollers.find(|known| known.id == poller);
        let age = self.clock.age();
        poller.map_or_else(Vec::new, |poller| poller.table.to_ask(needed, age))
    }

    fn refuse_unfit(&mut self, rule: &Rc<Rule>, unfit: Unfit) -> Action {
        let refusal = self.unfit(rule, unfit);
        self.refuse(&refusal)
    }

    /// With what a request is answered that brought what cannot be used.
    pub(super) fn unfit(&mut self, rule: &Rc<Rule>, unfit: Unfit) -> Refusal {
        let (refusal, why) = match unfit {
            Unfit::Body(error) => return self.body_refusal(rule, error),
            Unfit::Host(error) => return self.log_write_error(rule, error),
            Unfit::Malformed => (
                Refusal::Malformed,
                "a reference or a parameter in a request cannot be used; it is answered with 400",
            ),
            Unfit::NotAllowed => (
                Refusal::NotAllowed,
                "a reference in a request is not on 'resolve.allow'; it is answered with 403",
            ),
        };
        self.tell(rule, why);
        refusal
    }

    /// With what a request is answered that brought more than there is room for.
    pub(super) fn no_room(&mut self, rule: &Rc<Rule>) -> Refusal {
        self.tell(
            rule,
            "there is no room for what a request brings; it is answered with 503",
        );
        Refusal::Unable
    }

    /// Tells the log of a request of a rule, though not of each.
    pub(super) fn tell(&mut self, rule: &Rc<Rule>, why: &str) {
        let age = self.clock.age();
        if self.slot_of(rule).is_some_and(|slot| slot.may_tell(age)) {
            let message = format!("rule {}: {why}", rule.name());
            self.host.log(Level::Warn, &message);
        }
    }
}
