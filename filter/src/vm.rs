//! The state of one VM instance, and what it does when the gateway calls.
//!
//! A VM serves several roots: one for each configuration, and after a change of configuration in
//! Envoy the old one for as long as its requests last. Each method is one callback of the gateway;
//! none of them trusts the numbers it is given. In particular answers are matched by their token
//! alone, since they come with the root's context, also those to a call that a request made; and a
//! stream whose root is not known is refused.

use std::rc::Rc;

use crate::clock::Clock;
use crate::compile::{self, Compiled, Kind, Rule};
use crate::config::{Config, ConfigError};
use crate::metrics::{Counts, Metrics};
use crate::redact::Needles;
use crate::request::{self, WriteError};
use crate::resolver::{Answer, Poller};
use crate::served::AllServed;
use crate::slot::State;
use crate::table::EntryId;
use crate::waiting::{Streams, Waiting};
use crate::{Callbacks, Host, Level};

mod body;
mod choose;
mod dynamic;
mod response;
mod roots;
mod wait;

pub(crate) use body::{Due, Held};

use choose::choose;
use roots::Root;

/// The period of ticks, in milliseconds. nginx takes one setting only, so it is the shortest that
/// anything here needs; the clock says what is due.
const TICK: u32 = 200;

/// What the gateway is to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes on.
    Continue,
    /// It stays until it is resumed or answered.
    Pause,
}

/// One VM instance.
pub struct Vm<H> {
    host: H,
    callbacks: Callbacks,
    kind: Kind,
    /// The root whose ticks all work is done in; in Envoy each has its own.
    ticking: Option<u32>,
    clock: Clock,
    roots: Vec<Root>,
    streams: Streams,
    /// Streams that have the number of a root.
    doubles: Vec<u32>,
    pollers: Vec<Poller>,
    waiting: Vec<Waiting>,
    bodies: Vec<body::Incoming>,
    served: AllServed,
    metrics: Metrics,
    next_poller: u32,
    next_entry: EntryId,
}

/// Why a request is answered here.
enum Refusal {
    /// It could be read in more than one way.
    Ambiguous,
    /// Its body cannot be written; what the rule says the answer is.
    Body(Option<Rc<compile::Answer>>),
    /// A reference or a parameter in it is not what it must be.
    Malformed,
    /// Its secrets cannot be had; the rule says what the answer is.
    Missing(Rc<compile::Answer>),
    /// A reference in it is not allowed.
    NotAllowed,
    /// The upstream's response cannot be shown.
    Response,
    /// Its body is too large.
    Size,
    /// The filter cannot serve it.
    Unable,
}

impl<H: Host> Vm<H> {
    /// A VM without any configuration, in a module with these callbacks.
    pub const fn new(host: H, callbacks: Callbacks) -> Self {
        Self {
            host,
            callbacks,
            kind: Kind::Nginx,
            ticking: None,
            clock: Clock::new(),
            roots: Vec::new(),
            streams: Streams::new(),
            doubles: Vec::new(),
            pollers: Vec::new(),
            waiting: Vec::new(),
            bodies: Vec::new(),
            served: AllServed::new(),
            metrics: Metrics::new(),
            next_poller: 0,
            next_entry: 0,
        }
    }

    /// A root's configuration of `size` bytes is there. False ends the load in Envoy; it would end
    /// the worker in nginx, so there the root answers 503 and the log says why.
    pub fn on_configure(&mut self, root: u32, size: usize) -> bool {
        self.kind = Kind::of(&self.host);
        self.advance();
        let compiled = self.read_configuration(size).and_then(|compiled| {
            self.start_ticks(root)?;
            Ok(compiled)
        });
        if let Err(error) = &compiled {
            let message = format!("the configuration cannot be used: {error}");
            self.host.log(Level::Error, &message);
            if self.kind == Kind::Envoy {
                return false;
            }
        }
        if self.kind == Kind::Envoy {
            self.metrics.define(&self.host);
        }
        self.install(root, compiled.ok());
        true
    }

    /// Sees to it that there are ticks. Without them values would be served that nobody renews, or
    /// drops when their time is over.
    fn start_ticks(&mut self, root: u32) -> Result<(), ConfigError> {
        if self.kind == Kind::Nginx && self.ticking.is_some() {
            return Ok(());
        }
        self.host.set_tick_period(TICK).map_err(|status| {
            let message = format!("the gateway gives no ticks, so nothing is kept fresh: {status}");
            ConfigError::new("", message)
        })?;
        self.ticking = Some(root);
        Ok(())
    }

    /// A context begins: a stream's, if it has a root.
    pub fn on_context_create(&mut self, context: u32, root: u32) {
        if root == 0 {
            return;
        }
        self.streams.add(context, root);
        if self.kind == Kind::Nginx {
            self.look_for_double(context);
        }
    }

    /// nginx counts streams and gives roots a checksum for a number, so in the end a stream gets that of
    /// a root, whose end its own must not be.
    #[inline(never)]
    fn look_for_double(&mut self, stream: u32) {
        if self.roots.iter().any(|root| root.id == stream) {
            self.doubles.push(stream);
        }
    }

    /// A context ends.
    pub fn on_delete(&mut self, context: u32) {
        self.streams.take(context);
        self.waiting.retain(|waiting| waiting.context != context);
        self.served.forget(context);
        self.forget_body(context);
        if let Some(at) = self.doubles.iter().position(|double| *double == context) {
            self.doubles.swap_remove(at);
            return;
        }
        let roots = self.roots.len();
        self.roots.retain(|root| root.id != context);
        if self.roots.len() < roots {
            self.forget_unused();
        }
        if self.ticking == Some(context) {
            self.ticking = None;
        }
    }

    /// A root's tick.
    pub fn on_tick(&mut self, root: u32) {
        self.advance();
        self.review_roots(root);
        self.forget_replaced();
        let age = self.clock.age();
        for poller in &mut self.pollers {
            if poller.table.expire(age) {
                poller.dirty = true;
            }
            let in_use = in_use(poller.id, &self.waiting, &self.bodies);
            poller.table.drop_unused(in_use, age);
            poller.tick(&self.host, self.kind, age);
        }
        self.untangle();
        self.serve_waiting(root);
        self.write_metrics();
    }

    fn write_metrics(&mut self) {
        let age = self.clock.age();
        let mut counts = Counts::default();
        let mut stale = 0;
        for poller in &mut self.pollers {
            counts.add(std::mem::take(&mut poller.counts));
            let entries = poller.table.iter().map(|entry| entry.stale_for(age));
            stale = entries.max().unwrap_or_default().max(stale);
        }
        let waiting = u64::try_from(self.waiting.len()).unwrap_or_default();
        self.metrics.write(&self.host, counts, waiting, stale, age);
    }

    /// The host says that an answer of its function may be there.
    pub fn on_foreign_function(&mut self, root: u32) {
        self.advance();
        self.serve_waiting(root);
    }

    /// A request's headers are there. In Envoy it has no body if this is its end; nginx does not say.
    pub fn on_request_headers(&mut self, context: u32, end_of_stream: bool) -> Action {
        let root = self.streams.take(context);
        let mut roots = self.roots.iter();
        let Some(at) = roots.position(|known| Some(known.id) == root) else {
            return self.refuse(&Refusal::Unable);
        };
        self.use_root(at);
        let found = self.roots.get(at);
        let Some(ready) = found.and_then(|root| root.ready.as_ref()) else {
            return self.refuse(&Refusal::Unable);
        };
        let slot = match choose(&self.host, self.kind, ready) {
            Ok(Some(slot)) => slot,
            Ok(None) => return Action::Continue,
            Err(refusal) => return self.refuse(&refusal),
        };
        let takes_body = match self.takes_body(&slot.rule, end_of_stream) {
            Ok(takes_body) => takes_body,
            Err(error) => {
                let rule = Rc::clone(&slot.rule);
                return self.refuse_body(&rule, error);
            }
        };
        if slot.rule.dynamic.is_some() {
            let (rule, entries) = (Rc::clone(&slot.rule), slot.entries.clone());
            return match ready.poller {
                Some(poller) => self.serve_dynamic(context, poller, &rule, entries, takes_body),
                None => self.refuse(&Refusal::Unable),
            };
        }
        match &slot.state {
            State::Refuse(answer) => self.refuse(&Refusal::Missing(Rc::clone(answer))),
            State::Serve(fields) => {
                let rule = &slot.rule;
                let applied = request::apply(&self.host, self.kind, rule, fields);
                if applied.is_ok() && !takes_body && !rule.is_remembered {
                    return Action::Continue;
                }
                let rule = Rc::clone(rule);
                let (fields, needles) = (Rc::clone(fields), Rc::clone(&slot.needles));
                let due = takes_body.then_some(Due {
                    fields,
                    poller: ready.poller,
                    spent: 0,
                    sent: Vec::new(),
                });
                match applied {
                    Ok(()) => {
                        let noted = self.note(context, &rule, needles, due, Vec::new());
                        self.continue_if(noted)
                    }
                    Err(error) => self.cannot_write(&rule, error),
                }
            }
            State::Unknown => {
                let Some(poller) = ready.poller else {
                    return self.refuse(&Refusal::Unable);
                };
                let needs = wait::Needs {
                    poller,
                    rule: Rc::clone(&slot.rule),
                    found: None,
                    of_rule: slot.entries.len(),
                    found_count: 0,
                    ask: slot.entries.clone(),
                    entries: slot.entries.clone(),
                    takes_body,
                };
                self.wait(context, needs)
            }
        }
    }

    /// Remembers of a request whose headers are written what is needed of it later; `due` is for its
    /// body, if that is anybody's matter.
    fn note(
        &mut self,
        context: u32,
        rule: &Rc<Rule>,
        needles: Needles,
        due: Option<Due>,
        brought: Vec<EntryId>,
    ) -> Result<(), Refusal> {
        if rule.is_remembered {
            self.note_served(context, rule, needles, brought)?;
        }
        match due {
            Some(due) => self.expect_body(context, rule, due),
            None => Ok(()),
        }
    }

    fn continue_if(&self, noted: Result<(), Refusal>) -> Action {
        match noted {
            Ok(()) => Action::Continue,
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// An answer to a call is there; `headers` and `body` say how much of it.
    pub fn on_http_call_response(&mut self, context: u32, token: u32, headers: usize, body: usize) {
        let answer = Answer { headers, body };
        self.advance();
        let age = self.clock.age();
        if let Some(poller) = self.pollers.iter_mut().find(|poller| poller.has(token)) {
            poller.answered(&self.host, token, answer, age);
            let id = poller.id;
            self.refresh(id, true);
            return;
        }
        let holds = |waiting: &Waiting| waiting.calls.iter().any(|call| call.token == token);
        let at = self.waiting.iter().position(holds);
        if let Some(at) = at {
            self.take_answer(at, token, answer);
        } else if self.roots.iter().all(|root| root.id != context) {
            // Nobody knows this request any more, so it must not go on. (Answers that come with a
            // root's context are late ones of a poll, or of a request that was answered.)
            self.refuse(&Refusal::Unable);
        }
    }

    fn read_configuration(&self, size: usize) -> Result<Compiled, ConfigError> {
        let bytes = match size {
            0 => Vec::new(),
            _ => self.host.configuration(size).map_err(|status| {
                ConfigError::new("", format!("the gateway does not hand it over: {status}"))
            })?,
        };
        let compiled = compile::compile(Config::parse(&bytes)?, self.kind, &self.host)?;
        compiled.check(self.callbacks)?;
        Ok(compiled)
    }

    fn advance(&mut self) {
        self.clock.advance(self.host.now());
    }

    /// Renders anew what has changed. It is not `complete` after an answer to a single request.
    fn refresh(&mut self, poller: u32, complete: bool) {
        let Some(poller) = self.pollers.iter_mut().find(|known| known.id == poller) else {
            return;
        };
        let partial = !complete || poller.is_polling();
        let dirty = poller.dirty;
        for root in &mut self.roots {
            let Some(ready) = root
                .ready
                .as_mut()
                .filter(|ready| ready.poller == Some(poller.id))
            else {
                continue;
            };
            for slot in &mut ready.slots {
                if slot.is_due(&poller.table, dirty, partial) {
                    slot.refresh(&self.host, &poller.table, self.clock.age());
                }
            }
        }
        poller.dirty = dirty && partial;
    }

    fn cannot_write(&mut self, rule: &Rc<Rule>, error: WriteError) -> Action {
        let refusal = self.log_write_error(rule, error);
        self.refuse(&refusal)
    }

    /// Says what a request is answered with that could not be written to.
    fn log_write_error(&mut self, rule: &Rc<Rule>, error: WriteError) -> Refusal {
        let why = match error {
            // The client's matter.
            WriteError::Ambiguous => return Refusal::Ambiguous,
            WriteError::Host(status) => format!("the gateway refuses to write a field: {status}"),
            WriteError::NoQuery => "the query string cannot be written on this gateway (there is \
                                    no 'ngx.upstream_uri')"
                .to_owned(),
        };
        let message = format!(
            "rule {}: {why}; requests are answered with 503",
            rule.name()
        );
        let news = self.slot_of(rule).is_some_and(|slot| slot.is_news(error));
        if news {
            self.host.log(Level::Error, &message);
        }
        Refusal::Unable
    }

    /// Answers the current request in the upstream's place.
    fn refuse(&self, refusal: &Refusal) -> Action {
        self.metrics.refuse();
        let (status, body) = match refusal {
            Refusal::Ambiguous | Refusal::Malformed => (400, None),
            Refusal::Missing(answer) | Refusal::Body(Some(answer)) => {
                (answer.status, answer.body.as_ref())
            }
            Refusal::NotAllowed => (403, None),
            Refusal::Response => (502, None),
            Refusal::Size => (413, None),
            Refusal::Unable | Refusal::Body(None) => (503, None),
        };
        let usual = match refusal {
            Refusal::Ambiguous => AMBIGUOUS,
            Refusal::Body(_) => UNUSABLE,
            Refusal::Malformed => MALFORMED,
            Refusal::NotAllowed => NOT_ALLOWED,
            Refusal::Response => WITHHELD,
            Refusal::Size => TOO_LARGE,
            Refusal::Missing(_) | Refusal::Unable => UNAVAILABLE,
        };
        let (text, content_type) = body.map_or((usual, "application/json"), |body| {
            (body.text.as_str(), body.content_type)
        });
        let headers: [(&str, &[u8]); 1] = [("content-type", content_type.as_bytes())];
        // If even that fails the request stays paused, which is still better than going on.
        let _ = self
            .host
            .send_local_response(status, &headers, text.as_bytes());
        Action::Pause
    }
}

/// The entries that open requests of a poller need, or were sent with.
fn in_use(
    poller: u32,
    waiting: &[Waiting],
    bodies: &[body::Incoming],
) -> impl Iterator<Item = EntryId> {
    let waiting = waiting
        .iter()
        .filter(move |waiting| waiting.poller == poller);
    let waiting = waiting.flat_map(|waiting| {
        let sent = waiting.body.iter().flat_map(Due::sent);
        waiting.entries.iter().copied().chain(sent)
    });
    let bodies = bodies.iter().filter(move |body| body.may_ask(poller));
    waiting.chain(bodies.flat_map(body::Incoming::sent))
}

const MALFORMED: &str = r#"{"error":"a reference in the request cannot be used"}"#;
const NOT_ALLOWED: &str = r#"{"error":"a reference in the request is not allowed"}"#;
const AMBIGUOUS: &str = r#"{"error":"the request is ambiguous"}"#;

const WITHHELD: &str = r#"{"error":"the response cannot be shown"}"#;

const UNUSABLE: &str = r#"{"error":"the body of the request cannot be used"}"#;

const TOO_LARGE: &str = r#"{"error":"the body of the request is too large"}"#;

/// Says neither which secret nor why: that is for the log.
const UNAVAILABLE: &str = r#"{"error":"a credential for this request is not available"}"#;

#[cfg(test)]
mod tests;
