//! The roots of a VM: their configurations, and which of them are still in use.
//!
//! There is no end of a root that could be relied on. In Envoy its ticks end with it. In nginx each
//! change of configuration makes a root and none ever ends, so one that seems to have been replaced
//! rests: its values are dropped and nobody asks for them, until a request of it comes after all.

use std::rc::Rc;

use super::body::Incoming;
use super::{Vm, in_use};
use crate::compile::{Asked, Compiled, Kind, LooksAt, Resolver, Rule};
use crate::resolver::poller_for;
use crate::slot::Slot;
use crate::table::{Age, EntryId, SECOND};
use crate::waiting::Waiting;
use crate::{Host, Level};

/// In Envoy each root has ticks of its own, which end with it. One that has missed this many ticks
/// of each other root is gone. (A busy worker delays all alike, so time says nothing here.)
const MISSED_TICKS: usize = 300;

/// Roots that are configured within this time belong to one configuration of the gateway: none of
/// them has replaced another.
const ONE_CHANGE: Age = 10 * SECOND;

/// How long a root that was replaced, by all that can be seen, goes on being kept fresh without a
/// request.
const IDLE: Age = 300 * SECOND;

/// The most roots that may rest. Beyond them the one that was not used for longest is forgotten, and
/// its requests are refused: a bound for the memory of a worker that runs for months.
const MAX_RESTING: usize = 4096;

/// A root context and its configuration.
pub(super) struct Root {
    pub(super) id: u32,
    /// None on nginx if the configuration is bad: its requests are refused.
    pub(super) ready: Option<Ready>,
    missed_ticks: usize,
    configured: Age,
    /// When a request of it last came, as of the last tick.
    used: Age,
}

impl Root {
    /// Whether nothing is kept fresh for it.
    fn rests(&self) -> bool {
        let ready = self.ready.as_ref();
        ready.is_none_or(|ready| ready.poller.is_none())
    }
}

/// A configuration that can be used.
pub(super) struct Ready {
    /// What keeps its values fresh; none while it rests.
    pub(super) poller: Option<u32>,
    resolver: Rc<Resolver>,
    /// The distinct references of all its rules.
    references: Vec<Asked>,
    pub(super) slots: Vec<Slot>,
    pub(super) looks_at: LooksAt,
    pub(super) matched_headers: Vec<String>,
}

impl<H: Host> Vm<H> {
    /// Takes a configuration into use; without one, the root's requests are refused.
    pub(super) fn install(&mut self, root: u32, compiled: Option<Compiled>) {
        let age = self.clock.age();
        let ready = compiled.map(|compiled| {
            let rules = compiled.rules.into_iter();
            let mut ready = Ready {
                poller: None,
                resolver: Rc::new(compiled.resolver),
                references: compiled.references,
                slots: rules.map(|rule| Slot::new(Rc::new(rule))).collect(),
                looks_at: compiled.looks_at,
                matched_headers: compiled.matched_headers,
            };
            self.keep_fresh(&mut ready);
            let message = format!(
                "configured: {} rules, {} references",
                ready.slots.len(),
                ready.references.len()
            );
            self.host.log(Level::Info, &message);
            ready
        });
        self.roots.retain(|known| known.id != root);
        self.roots.push(Root {
            id: root,
            ready,
            missed_ticks: 0,
            configured: age,
            used: age,
        });
        self.forget_unused();
    }

    /// A request of a root has come: notes it, and ends the root's rest.
    pub(super) fn use_root(&mut self, at: usize) {
        let age = self.clock.age();
        let Some(root) = self.roots.get_mut(at) else {
            return;
        };
        root.used = age;
        if root
            .ready
            .as_ref()
            .is_none_or(|ready| ready.poller.is_some())
        {
            return;
        }
        let mut ready = root.ready.take();
        if let Some(ready) = &mut ready {
            self.keep_fresh(ready);
        }
        if let Some(root) = self.roots.get_mut(at) {
            root.ready = ready;
        }
    }

    /// Has the values of a configuration kept fresh. What is known already serves at once.
    fn keep_fresh(&mut self, ready: &mut Ready) {
        let at = poller_for(&mut self.pollers, &mut self.next_poller, &ready.resolver);
        let Some(poller) = self.pollers.get_mut(at) else {
            return;
        };
        ready.poller = Some(poller.id);
        ready.resolver = Rc::clone(&poller.resolver);
        let ids: Vec<EntryId> = ready
            .references
            .iter()
            .map(|asked| poller.table.entry_for(asked, &mut self.next_entry))
            .collect();
        for slot in &mut ready.slots {
            let entries = slot.rule.references.iter();
            slot.entries = entries
                .filter_map(|index| ids.get(*index).copied())
                .collect();
            slot.refresh(&self.host, &poller.table, self.clock.age());
        }
        poller.hurry();
    }

    /// Drops what no configuration in use and no open request needs.
    pub(super) fn forget_unused(&mut self) {
        let Self {
            pollers,
            roots,
            waiting,
            bodies,
            ..
        } = self;
        pollers.retain_mut(|poller| {
            let slots = roots
                .iter()
                .filter_map(|root| root.ready.as_ref())
                .filter(|ready| ready.poller == Some(poller.id))
                .flat_map(|ready| ready.slots.iter().flat_map(|slot| slot.entries.iter()));
            let requests = in_use(poller.id, waiting, bodies);
            poller.table.retain(slots.copied().chain(requests));
            is_needed(poller.id, roots, waiting, bodies)
        });
    }

    /// Drops the resolvers of configurations that have gone, once the last request of theirs has.
    pub(super) fn forget_replaced(&mut self) {
        let (roots, waiting, bodies) = (&self.roots, &self.waiting, &self.bodies);
        let mut pollers = self.pollers.iter();
        if pollers.any(|poller| !is_needed(poller.id, roots, waiting, bodies)) {
            self.forget_unused();
        }
    }

    /// The slot of a rule, if its configuration is still in use.
    pub(super) fn slot_of(&mut self, rule: &Rc<Rule>) -> Option<&mut Slot> {
        let readies = self.roots.iter_mut().filter_map(|root| root.ready.as_mut());
        let mut slots = readies.flat_map(|ready| &mut ready.slots);
        slots.find(|slot| Rc::ptr_eq(&slot.rule, rule))
    }

    /// A tick has come: looks which roots are still in use.
    pub(super) fn review_roots(&mut self, ticked: u32) {
        match self.kind {
            Kind::Envoy => self.count_tick(ticked),
            Kind::Nginx => self.rest_unused(),
        }
    }

    /// In Envoy, drops the roots whose ticks have ended.
    fn count_tick(&mut self, root: u32) {
        let limit = MISSED_TICKS.saturating_mul(self.roots.len());
        for known in &mut self.roots {
            known.missed_ticks = match known.id == root {
                true => 0,
                false => known.missed_ticks.saturating_add(1),
            };
        }
        if self.roots.iter().any(|root| root.missed_ticks > limit) {
            self.roots.retain(|root| root.missed_ticks <= limit);
            self.forget_unused();
        }
    }

    /// In nginx, lets those roots rest that a later change seems to have replaced. As long as there
    /// was none, every root is in use, however seldom. While the resolver cannot be asked what is in
    /// memory is all there is, so it stays.
    fn rest_unused(&mut self) {
        let age = self.clock.age();
        let configured = self.roots.iter().map(|root| root.configured);
        let newest = configured.max().unwrap_or_default();
        let mut count = 0_usize;
        for root in &mut self.roots {
            let replaced = newest.saturating_sub(root.configured) >= ONE_CHANGE;
            let idle = age.saturating_sub(root.used) >= IDLE;
            let Some(ready) = root.ready.as_mut().filter(|_| replaced && idle) else {
                continue;
            };
            let Some(id) = ready.poller else {
                continue;
            };
            let poller = self.pollers.iter().find(|poller| poller.id == id);
            if poller.is_none_or(|poller| !poller.is_in_trouble()) {
                ready.poller = None;
                ready.slots.iter_mut().for_each(Slot::rest);
                count = count.saturating_add(1);
            }
        }
        if count > 0 {
            let message = format!(
                "{count} configurations without requests, older than the last change, are kept \
                 fresh no longer"
            );
            self.host.log(Level::Info, &message);
            self.forget_unused();
        }
        self.bound_resting();
    }

    fn bound_resting(&mut self) {
        loop {
            let resting = self.roots.iter().enumerate();
            let resting = resting.filter(|(_, root)| root.rests());
            if resting.clone().count() <= MAX_RESTING {
                return;
            }
            let Some((at, _)) = resting.min_by_key(|(_, root)| root.used) else {
                return;
            };
            self.roots.remove(at);
            let message = format!(
                "more than {MAX_RESTING} configurations rest: the oldest is forgotten, requests of \
                 it would be answered with 503"
            );
            self.host.log(Level::Warn, &message);
        }
    }
}

/// Whether a configuration in use or an open request needs this poller.
fn is_needed(poller: u32, roots: &[Root], waiting: &[Waiting], bodies: &[Incoming]) -> bool {
    let mut readies = roots.iter().filter_map(|root| root.ready.as_ref());
    readies.any(|ready| ready.poller == Some(poller))
        || waiting.iter().any(|waiting| waiting.poller == poller)
        || bodies.iter().any(|body| body.may_ask(poller))
}
