//! Requests whose body is written: from their headers, which say what it is, to its last byte.
//!
//! All values of the rule are in memory before the body comes, since nothing can be asked for then
//! (nginx), and those that the headers have got are the ones that the body gets. A body is held until all of it is
//! there, and is bounded. What is refused after the headers is refused in time: neither gateway has
//! sent anything of the body, though Envoy has sent the headers.
//!
//! Fields that may hold references are the exception: in Envoy the body waits, whole, for what they
//! ask for.
//!
//! A request is remembered here until it ends. What comes for it after it was refused never goes on.

use std::rc::Rc;

use super::{Action, Refusal, Vm};
use crate::body::media::media;
use crate::body::{self, BodyError};
use crate::compile::{BodyRule, BodyWrites, Kind, OnError, Rule};
use crate::matching::NGINX_PAIRS;
use crate::request::Field;
use crate::table::{EntryId, Sent};
use crate::{HeaderPair, Host, Level, Status};

mod references;

/// The most requests that may be remembered at one time in a VM. One more is refused: it could not be
/// told from one whose body is nobody's matter.
const MAX_BODIES: usize = 4096;

/// The fields that a rule writes, while a request has them.
pub(super) type Fields = Rc<Vec<Field>>;

/// A request whose body is written.
pub(super) struct Incoming {
    context: u32,
    rule: Rc<Rule>,
    stage: Stage,
}

impl Due {
    /// The entries that the request was sent with.
    pub(super) fn sent(&self) -> impl Iterator<Item = EntryId> {
        self.sent.iter().map(|sent| sent.id)
    }
}

impl Incoming {
    /// The same, as long as its body is to come.
    pub(super) fn sent(&self) -> impl Iterator<Item = EntryId> {
        let due = match &self.stage {
            Stage::Expected(due) => Some(due),
            Stage::Asking | Stage::Refused | Stage::Written => None,
        };
        due.into_iter().flat_map(Due::sent)
    }

    /// Whether it may still have to ask this poller for what stands in its body.
    pub(super) fn may_ask(&self, poller: u32) -> bool {
        self.rule.resolves_body()
            && matches!(&self.stage, Stage::Expected(due) if due.poller == Some(poller))
    }
}

enum Stage {
    /// A call asks for what stands in it.
    Asking,
    /// This is still to be written.
    Expected(Due),
    /// It was answered.
    Refused,
    Written,
}

/// What a body gets.
#[derive(Clone)]
pub(crate) struct Due {
    /// What the rule writes.
    pub(super) fields: Fields,
    /// Who knows the references that stand in it.
    pub(super) poller: Option<u32>,
    /// How many references the request's other fields have.
    pub(super) spent: usize,
    /// What these have got, if references may stand in the body.
    pub(super) sent: Vec<Sent>,
}

/// What has come of the body of a request that waits, with its headers, for its secrets. (Envoy does
/// that where `allow_on_headers_stop_iteration` is set.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    size: usize,
    is_whole: bool,
}

impl<H: Host> Vm<H> {
    /// Whether a request, of which the headers are there, has a body to be written.
    pub(super) fn takes_body(&self, rule: &Rule, is_end: bool) -> Result<bool, BodyError> {
        let Some(body) = &rule.body else {
            return Ok(false);
        };
        if is_end {
            return without_body(body);
        }
        let headers = self.request_headers()?;
        let length = content_length(&headers);
        if self.kind == Kind::Nginx {
            let is_chunked = values(&headers, b"transfer-encoding").next().is_some();
            match (length, is_chunked) {
                (Some(0), _) => return without_body(body),
                // HTTP/2 needs to say nothing of a body that comes. If one does it is looked at then.
                (None, false) => return without_body(body).map(|_| true),
                _ => {}
            }
        }
        check_headers(body, &headers)?;
        if length.is_some_and(|length| length > body.max_bytes) {
            return excess(body, BodyError::TooLarge).map(|()| false);
        }
        Ok(true)
    }

    /// Remembers a request, whose headers are about to go on, for its body.
    pub(super) fn expect_body(
        &mut self,
        context: u32,
        rule: &Rc<Rule>,
        due: Due,
    ) -> Result<(), Refusal> {
        if self.bodies.len() >= MAX_BODIES {
            return Err(Refusal::Unable);
        }
        // Its length will be another one, and Envoy sends the headers before that is known. (nginx
        // counts for itself.)
        if self.kind == Kind::Envoy {
            self.host.remove_request_header("content-length")?;
        }
        self.forget_body(context);
        self.bodies.push(Incoming {
            context,
            rule: Rc::clone(rule),
            stage: Stage::Expected(due),
        });
        Ok(())
    }

    pub(super) fn forget_body(&mut self, context: u32) {
        self.bodies.retain(|incoming| incoming.context != context);
    }

    /// A part of a request's body is there, `size` bytes with what was held of it before.
    pub fn on_request_body(&mut self, context: u32, size: usize, end_of_stream: bool) -> Action {
        let mut bodies = self.bodies.iter();
        if let Some(at) = bodies.position(|incoming| incoming.context == context) {
            return self.body_arrives(at, size, end_of_stream);
        }
        let mut waiting = self.waiting.iter();
        match waiting.position(|waiting| waiting.context == context) {
            Some(at) => self.body_of_waiting(at, size, end_of_stream),
            None => Action::Continue,
        }
    }

    /// A request's trailers are there. Nothing of its body could be written now: Envoy loses what is,
    /// if the headers have waited.
    pub fn on_request_trailers(&mut self, context: u32) -> Action {
        let mut bodies = self.bodies.iter_mut();
        if let Some(incoming) = bodies.find(|known| known.context == context) {
            return match incoming.stage {
                Stage::Expected(_) => {
                    incoming.stage = Stage::Refused;
                    let rule = Rc::clone(&incoming.rule);
                    self.refuse_body(&rule, BodyError::Trailers)
                }
                Stage::Refused => Action::Pause,
                Stage::Asking | Stage::Written => self.refuse_more(context),
            };
        }
        let mut waiting = self.waiting.iter();
        let Some(at) = waiting.position(|known| known.context == context) else {
            return Action::Continue;
        };
        match self.waiting.get(at) {
            Some(waiting) if waiting.takes_body => {
                let rule = Rc::clone(&waiting.rule);
                self.give_up_waiting(at);
                self.refuse_body(&rule, BodyError::Trailers)
            }
            _ => Action::Pause,
        }
    }

    fn body_arrives(&mut self, at: usize, size: usize, is_end: bool) -> Action {
        let Some(incoming) = self.bodies.get_mut(at) else {
            return self.refuse(&Refusal::Unable);
        };
        let context = incoming.context;
        let rule = Rc::clone(&incoming.rule);
        let Some(body) = &rule.body else {
            return self.refuse(&Refusal::Unable);
        };
        // nginx hands over all of it at once.
        let is_whole = is_end || self.kind == Kind::Nginx;
        let due = match &incoming.stage {
            Stage::Expected(_) if !is_whole && size <= body.max_bytes => return Action::Pause,
            Stage::Expected(due) => due.clone(),
            // A second answer would trap in nginx.
            Stage::Refused => return Action::Pause,
            // What comes after the whole of a body is none that was looked at.
            Stage::Asking | Stage::Written => return self.refuse_more(context),
        };
        let written = self.write_body(context, &rule, &due, size);
        match written {
            // More of it will come, and goes on like this.
            Ok(true) if !is_whole => self.forget_body(context),
            _ => self.note_stage(context, &written),
        }
        match written {
            Ok(true) => Action::Continue,
            Ok(false) => Action::Pause,
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// Notes what has come of a body, see [`Vm::write_body`].
    fn note_stage(&mut self, context: u32, written: &Result<bool, Refusal>) {
        let mut bodies = self.bodies.iter_mut();
        if let Some(incoming) = bodies.find(|known| known.context == context) {
            incoming.stage = match written {
                Ok(true) => Stage::Written,
                Ok(false) => Stage::Asking,
                Err(_) => Stage::Refused,
            };
        }
    }

    /// More comes of a body than its whole: what it waits for is no longer waited for.
    fn refuse_more(&mut self, context: u32) -> Action {
        self.waiting.retain(|waiting| waiting.context != context);
        let refused = Err(Refusal::Unable);
        self.note_stage(context, &refused);
        self.refuse(&Refusal::Unable)
    }

    /// A body comes although the request waits.
    fn body_of_waiting(&mut self, at: usize, size: usize, is_whole: bool) -> Action {
        let Some(waiting) = self.waiting.get_mut(at) else {
            return self.refuse(&Refusal::Unable);
        };
        waiting.held = Some(Held { size, is_whole });
        if !waiting.takes_body {
            // nginx has let it go on without an answer: guarded, and its body is nobody's matter.
            return match self.kind {
                Kind::Envoy => Action::Pause,
                Kind::Nginx => Action::Continue,
            };
        }
        let rule = Rc::clone(&waiting.rule);
        match &rule.body {
            _ if self.kind == Kind::Nginx => {
                self.give_up_waiting(at);
                self.refuse(&Refusal::Unable)
            }
            Some(body) if size > body.max_bytes && !body.passes_excess => {
                self.give_up_waiting(at);
                self.refuse_body(&rule, BodyError::TooLarge)
            }
            _ => Action::Pause,
        }
    }

    /// Forgets what a request waits for: it is answered, and nothing of it goes on.
    fn give_up_waiting(&mut self, at: usize) {
        let waiting = self.waiting.swap_remove(at);
        self.forget_body(waiting.context);
        self.bodies.push(Incoming {
            context: waiting.context,
            rule: waiting.rule,
            stage: Stage::Refused,
        });
    }

    /// Sees to the body of a request that has waited and is about to go on; says whether it may go on
    /// now, which is not so while its body is not whole.
    pub(super) fn release_body(
        &mut self,
        context: u32,
        held: Option<Held>,
    ) -> Result<bool, Refusal> {
        let mut bodies = self.bodies.iter();
        let at = bodies.position(|incoming| incoming.context == context);
        let (Some(at), Some(held)) = (at, held) else {
            return Ok(true);
        };
        let Some(incoming) = self.bodies.get(at) else {
            return Err(Refusal::Unable);
        };
        if !held.is_whole {
            return Ok(false);
        }
        let rule = Rc::clone(&incoming.rule);
        let Stage::Expected(due) = &incoming.stage else {
            return Err(Refusal::Unable);
        };
        let due = due.clone();
        let written = self.write_body(context, &rule, &due, held.size);
        self.note_stage(context, &written);
        written
    }

    /// Writes the fields into a body that is whole, or larger than it may be; says whether it may go on
    /// now, which is not so while something is asked for that stands in it.
    fn write_body(
        &mut self,
        context: u32,
        rule: &Rc<Rule>,
        due: &Due,
        size: usize,
    ) -> Result<bool, Refusal> {
        let Some(body) = &rule.body else {
            return Ok(true);
        };
        let bytes = match self.read_body(body, size) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(true),
            Err(error) => return Err(self.body_refusal(rule, error)),
        };
        if body.resolved.is_empty() {
            return self.replace_body(rule, &bytes, due, None).map(|()| true);
        }
        self.resolve_body(context, rule, due, &bytes)
    }

    /// The bytes of a body that is to be written; none if there is nothing to do.
    fn read_body(&self, body: &BodyRule, size: usize) -> Result<Option<Vec<u8>>, BodyError> {
        if size > body.max_bytes {
            return excess(body, BodyError::TooLarge).map(|()| None);
        }
        if size == 0 {
            return without_body(body).map(|_| None);
        }
        if self.kind == Kind::Nginx {
            let headers = self.request_headers()?;
            check_headers(body, &headers)?;
            if content_length(&headers).is_some_and(|length| length != size) {
                return Err(BodyError::Unreadable);
            }
        }
        match self.host.request_body(size) {
            Ok(bytes) if bytes.len() == size => Ok(Some(bytes)),
            Err(Status::NotFound) if self.kind == Kind::Nginx => {
                excess(body, BodyError::Spooled).map(|()| None)
            }
            _ => Err(BodyError::Unreadable),
        }
    }

    /// Writes a rule's fields into a body with these bytes, and those in which it has references.
    fn replace_body(
        &mut self,
        rule: &Rc<Rule>,
        bytes: &[u8],
        due: &Due,
        found: Option<(&BodyWrites, &[Field])>,
    ) -> Result<(), Refusal> {
        let Some(body) = &rule.body else {
            return Err(Refusal::Unable);
        };
        let written = body::write(bytes, (&body.writes, &due.fields), found);
        let set = written.and_then(|written| match written.expose() {
            same if same == bytes => Ok(()),
            other => {
                let set = self.host.set_request_body(bytes.len(), other);
                set.map_err(|_| BodyError::Unreadable)
            }
        });
        set.map_err(|error| self.body_refusal(rule, error))
    }

    /// Answers a request whose body cannot be written.
    pub(super) fn refuse_body(&mut self, rule: &Rc<Rule>, error: BodyError) -> Action {
        let refusal = self.body_refusal(rule, error);
        self.refuse(&refusal)
    }

    /// With what it is answered; the log hears of it.
    pub(super) fn body_refusal(&mut self, rule: &Rc<Rule>, error: BodyError) -> Refusal {
        let slot = self.slot_of(rule);
        if slot.is_some_and(|slot| slot.is_new_body_error(error)) {
            let message = format!(
                "rule {}: a request is refused: {} (said once)",
                rule.name(),
                error.text()
            );
            self.host.log(Level::Warn, &message);
        }
        refusal(rule, error)
    }

    fn request_headers(&self) -> Result<Vec<HeaderPair>, BodyError> {
        let headers = self.host.request_headers();
        let headers = headers.map_err(|_| BodyError::Unreadable)?;
        // A second content type could stand behind those that nginx shows.
        if self.kind == Kind::Nginx && headers.len() >= NGINX_PAIRS {
            return Err(BodyError::Type);
        }
        Ok(headers)
    }
}

/// What becomes of a request without a body: nothing of the client's stands in it, but a secret may
/// be missing.
fn without_body(body: &BodyRule) -> Result<bool, BodyError> {
    if body.needs_body {
        Err(BodyError::Absent)
    } else {
        Ok(false)
    }
}

/// What becomes of a body that cannot be held.
fn excess(body: &BodyRule, error: BodyError) -> Result<(), BodyError> {
    if body.passes_excess {
        Ok(())
    } else {
        Err(error)
    }
}

fn refusal(rule: &Rule, error: BodyError) -> Refusal {
    match (error, &rule.on_error) {
        (BodyError::Spooled | BodyError::TooLarge, _) => Refusal::Size,
        (_, OnError::Answer(answer)) => Refusal::Body(Some(Rc::clone(answer))),
        _ => Refusal::Body(None),
    }
}

/// Whether the headers say that the body is of the rule's kind, as it is.
#[inline(never)]
fn check_headers(body: &BodyRule, headers: &[HeaderPair]) -> Result<(), BodyError> {
    let mut types = values(headers, b"content-type");
    let media = match (types.next(), types.next()) {
        (Some(one), None) => media(one),
        _ => None,
    };
    if media != Some(body.writes.media()) {
        return Err(BodyError::Type);
    }
    let mut encodings = values(headers, b"content-encoding");
    if encodings.all(|encoding| encoding.trim_ascii().eq_ignore_ascii_case(b"identity")) {
        Ok(())
    } else {
        Err(BodyError::Encoded)
    }
}

#[inline(never)]
fn content_length(headers: &[HeaderPair]) -> Option<usize> {
    let text = values(headers, b"content-length").next()?;
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

fn values<'a>(headers: &'a [HeaderPair], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let same = headers
        .iter()
        .filter(move |(other, _)| other.eq_ignore_ascii_case(name));
    same.map(|(_, value)| value.as_slice())
}
