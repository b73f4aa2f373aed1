//! Which requests went on with which secrets, for those whose responses are looked at.
//!
//! Bounded, since how many requests are open is the clients' choice.

use std::rc::Rc;

use crate::compile::Rule;
use crate::redact::{self, Needles};
use crate::table::EntryId;

/// The most requests that are remembered in a VM.
const MAX_SERVED: usize = 65_536;

/// A request that went on.
#[derive(Clone)]
pub(crate) struct Served {
    context: u32,
    pub(crate) rule: Rc<Rule>,
    pub(crate) needles: Needles,
    /// All that it needed, if that differs from request to request.
    pub(crate) brought: Vec<EntryId>,
}

/// The requests that went on, in the order of their contexts.
#[derive(Default)]
pub(crate) struct AllServed(Vec<Served>);

impl AllServed {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Remembers a request; says whether there was room.
    pub(crate) fn add(
        &mut self,
        context: u32,
        rule: Rc<Rule>,
        needles: Needles,
        brought: Vec<EntryId>,
    ) -> bool {
        if self.0.len() >= MAX_SERVED {
            return false;
        }
        let served = Served {
            context,
            rule,
            needles,
            brought,
        };
        match self.find(context) {
            Ok(at) => {
                if let Some(known) = self.0.get_mut(at) {
                    *known = served;
                }
            }
            // Contexts are numbered as they come, so this is nearly always the end.
            Err(at) => self.0.insert(at, served),
        }
        true
    }

    /// Adds what the body of a request is sent with.
    pub(crate) fn extend(&mut self, context: u32, needles: &Needles, brought: &[EntryId]) {
        if let Ok(at) = self.find(context)
            && let Some(served) = self.0.get_mut(at)
        {
            served.needles = redact::joined(&served.needles, needles);
            served.brought.extend(brought);
        }
    }

    pub(crate) fn get(&self, context: u32) -> Option<&Served> {
        let at = self.find(context).ok()?;
        self.0.get(at)
    }

    pub(crate) fn forget(&mut self, context: u32) {
        if let Ok(at) = self.find(context) {
            self.0.remove(at);
        }
    }

    fn find(&self, context: u32) -> Result<usize, usize> {
        self.0
            .binary_search_by_key(&context, |served| served.context)
    }
}
