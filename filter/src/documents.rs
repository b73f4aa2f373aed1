//! Configurations of other people's filters, kept resolved.
//!
//! The author of a filter names the fields of its configuration that may hold references. Here they are
//! found, asked for, and put in, all of one configuration together; and again whenever one of them
//! changes. While one of them is missing there is no configuration at all: a filter is never handed one
//! with a reference, or nothing, in the place of a credential.
//!
//! Requests are not touched here, and no callback is exported: `vaultref-sdk` joins this with the SDK.

use vaultref_contract::Secret;

use crate::clock::Clock;
use crate::compile::Kind;
use crate::config::ConfigError;
use crate::resolver::{Answer, Poller, poller_for};
use crate::slot::{Slot, State};
use crate::table::{Age, EntryId, MILLISECOND};
use crate::{Host, Level};

mod document;

use document::Document;

/// How often anything is done at most, however many roots have ticks.
const PACE: Age = 100 * MILLISECOND;

/// The configurations of one VM instance.
pub struct Documents<H> {
    host: H,
    clock: Clock,
    kind: Kind,
    known: Vec<Known>,
    pollers: Vec<Poller>,
    /// The calls that are under way, by token, each with the configuration whose root has made it.
    calls: Vec<(u32, DocumentId)>,
    /// When the next tick is to do something.
    due: Age,
    next_document: u64,
    next_poller: u32,
    next_entry: EntryId,
}

/// Names a configuration; never used again in the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentId(u64);

/// What has become of a configuration.
#[derive(Debug)]
pub enum News {
    /// Some of its secrets cannot be had, or no longer. The log says which, and why.
    Lost,
    /// It is resolved: JSON, in the order in which it was written, without our member.
    Resolved(Secret),
}

struct Known {
    id: DocumentId,
    document: Document,
    poller: Option<u32>,
    slot: Slot,
    /// It was not told yet what has become of it.
    is_news: bool,
}

impl<H: Host> Documents<H> {
    /// A VM without any configuration.
    pub const fn new(host: H) -> Self {
        Self {
            host,
            clock: Clock::new(),
            kind: Kind::Nginx,
            known: Vec::new(),
            pollers: Vec::new(),
            calls: Vec::new(),
            due: 0,
            next_document: 0,
            next_poller: 0,
            next_entry: 0,
        }
    }

    /// Takes a configuration of `size` bytes, which the host is handing over, into use. `fields` are
    /// dotted paths, as Kong names the fields of a plugin: `auth.header_value`. A path goes through
    /// lists; what it leads to may be a text, a list of texts or a map of texts.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn configure(&mut self, size: usize, fields: &[&str]) -> Result<DocumentId, ConfigError> {
        self.kind = Kind::of(&self.host);
        self.clock.advance(self.host.now());
        let bytes = match size {
            0 => Vec::new(),
            _ => self.host.configuration(size).map_err(|status| {
                ConfigError::new("", format!("the gateway does not hand it over: {status}"))
            })?,
        };
        let document = Document::compile(&bytes, fields, self.kind, &self.host)?;
        let id = DocumentId(self.next_document);
        self.next_document = self.next_document.wrapping_add(1);
        let mut known = Known {
            id,
            poller: None,
            slot: Slot::new(document.rule.clone()),
            is_news: false,
            document,
        };
        self.keep_fresh(&mut known);
        self.known.push(known);
        if self.kind == Kind::Envoy {
            // Its requests are refused until there are answers, so not even a tick is waited for. (In
            // nginx a call that is made now traps.)
            self.poll(id);
        }
        Ok(id)
    }

    /// Whether a configuration has references, so that ticks are needed.
    pub fn has_references(&self, id: DocumentId) -> bool {
        let mut known = self.known.iter();
        known.any(|known| known.id == id && known.poller.is_some())
    }

    /// What kind of gateway this is, as of the last configuration.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The time since the first configuration, in nanoseconds. It never goes back, and stands still
    /// where the gateway's clock does.
    pub fn age(&mut self) -> u64 {
        self.clock.advance(self.host.now());
        self.clock.age()
    }

    /// A tick of a configuration's root. Each root is to look for news of its own afterwards.
    pub fn on_tick(&mut self, id: DocumentId) {
        let age = self.age();
        if age < self.due {
            return;
        }
        self.due = age.saturating_add(PACE);
        self.poll(id);
    }

    /// An answer to a call is there; `headers` and `body` say how much of it. False if the call is not
    /// one of ours.
    pub fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize) -> bool {
        let age = self.age();
        let answer = Answer { headers, body };
        let holders = self.pollers.iter_mut().filter(|poller| poller.has(token));
        let mut holders: Vec<&mut Poller> = holders.collect();
        match &mut holders[..] {
            [] => return false,
            [poller] => poller.answered(&self.host, token, answer, age),
            // Nobody can tell whose answer it is.
            all => all.iter_mut().for_each(|poller| poller.forget(token)),
        }
        self.refresh();
        true
    }

    /// What has become of a configuration, if that was not told yet.
    pub fn news(&mut self, id: DocumentId) -> Option<News> {
        let known = self.known.iter_mut().find(|known| known.id == id)?;
        if !std::mem::take(&mut known.is_news) {
            return None;
        }
        Some(match &known.slot.state {
            State::Serve(fields) => News::Resolved(known.document.render(fields)),
            State::Refuse(_) | State::Unknown => News::Lost,
        })
    }

    /// Forgets a configuration, and what only it needs.
    pub fn remove(&mut self, id: DocumentId) {
        self.known.retain(|known| known.id != id);
        let known = &self.known;
        self.pollers.retain_mut(|poller| {
            let of_poller = known.iter().filter(|known| known.poller == Some(poller.id));
            let entries = of_poller.flat_map(|known| known.slot.entries.iter().copied());
            poller.table.retain(entries);
            !poller.table.is_empty()
        });
        // Its calls end with its root.
        let calls = std::mem::take(&mut self.calls).into_iter();
        let (lost, calls) = calls.partition::<Vec<_>, _>(|(_, caller)| *caller == id);
        self.calls = calls;
        for (token, _) in lost {
            for poller in self.pollers.iter_mut().filter(|poller| poller.has(token)) {
                poller.forget(token);
                poller.hurry();
                self.due = 0;
            }
        }
    }

    /// Does what is due; `id` is whose root makes the calls.
    fn poll(&mut self, id: DocumentId) {
        let age = self.clock.age();
        for poller in &mut self.pollers {
            if poller.table.expire(age) {
                poller.dirty = true;
            }
            poller.tick(&self.host, self.kind, age);
        }
        let pollers = &self.pollers;
        let is_open = |token: u32| pollers.iter().any(|poller| poller.has(token));
        self.calls.retain(|(token, _)| is_open(*token));
        for token in pollers.iter().flat_map(Poller::tokens) {
            if self.calls.iter().all(|(known, _)| *known != token) {
                self.calls.push((token, id));
            }
        }
        self.refresh();
    }

    fn keep_fresh(&mut self, known: &mut Known) {
        let age = self.clock.age();
        let Some(resolver) = &known.document.resolver else {
            known.is_news = known.slot.refresh(&self.host, &Default::default(), age);
            return;
        };
        let at = poller_for(&mut self.pollers, &mut self.next_poller, resolver);
        let Some(poller) = self.pollers.get_mut(at) else {
            return;
        };
        known.poller = Some(poller.id);
        let references = known.document.references.iter();
        let entries = references.map(|asked| poller.table.entry_for(asked, &mut self.next_entry));
        known.slot.entries = entries.collect();
        // What another configuration has asked for already serves at once.
        known.slot.refresh(&self.host, &poller.table, age);
        known.is_news = !known.slot.is_unknown();
        poller.hurry();
        self.due = 0;
    }

    /// Looks what has changed.
    fn refresh(&mut self) {
        let age = self.clock.age();
        for poller in &mut self.pollers {
            let partial = poller.is_polling();
            for known in &mut self.known {
                if known.poller != Some(poller.id)
                    || !known.slot.is_due(&poller.table, poller.dirty, partial)
                {
                    continue;
                }
                let was_unknown = known.slot.is_unknown();
                if !known.slot.refresh(&self.host, &poller.table, age) {
                    continue;
                }
                let is_unknown = known.slot.is_unknown();
                if is_unknown && was_unknown {
                    continue;
                }
                if is_unknown {
                    let message = "the secrets of the configuration may be used no longer; \
                                   requests are answered with 503 until there are new ones";
                    self.host.log(Level::Warn, message);
                }
                known.is_news = true;
            }
            poller.dirty = poller.dirty && partial;
        }
    }
}

#[cfg(test)]
mod tests;
