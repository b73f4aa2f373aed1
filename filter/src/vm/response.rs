//! What is done when an upstream has answered: values that it refused are asked for anew, and secrets
//! that it repeats are masked.

use std::rc::Rc;

use super::{Action, Refusal, Vm};
use crate::compile::{Kind, Rule};
use crate::redact::{self, Needles};
use crate::table::EntryId;
use crate::{Host, Level, Status};

impl<H: Host> Vm<H> {
    /// Remembers what a request is sent with. What could not be masked later must not be sent.
    pub(super) fn note_served(
        &mut self,
        context: u32,
        rule: &Rc<Rule>,
        needles: Needles,
        brought: Vec<EntryId>,
    ) -> Result<(), Refusal> {
        let has_room = self.served.add(context, Rc::clone(rule), needles, brought);
        match has_room || !rule.is_redacted {
            true => Ok(()),
            false => Err(Refusal::Unable),
        }
    }

    /// A response's headers are there.
    pub fn on_response_headers(&mut self, context: u32) -> Action {
        let Some(served) = self.served.get(context).cloned() else {
            return Action::Continue;
        };
        if !served.rule.refresh_on_status.is_empty() {
            self.look_at_status(&served.rule, &served.brought);
        }
        match redact::redact(&self.host, &served.needles) {
            Ok(false) => Action::Continue,
            Ok(true) => {
                self.log_redaction(&served.rule);
                Action::Continue
            }
            Err(status) => {
                let message = format!(
                    "rule {}: the gateway does not let a secret in a response be masked: {status}; \
                     the response is withheld",
                    served.rule.name()
                );
                self.host.log(Level::Error, &message);
                self.refuse(&Refusal::Response)
            }
        }
    }

    fn log_redaction(&mut self, rule: &Rc<Rule>) {
        if self
            .slot_of(rule)
            .is_some_and(|slot| slot.is_first_redaction())
        {
            let message = format!(
                "rule {}: the upstream repeats a secret in a response header; it is masked",
                rule.name()
            );
            self.host.log(Level::Warn, &message);
        }
    }

    /// If the upstream refused the request, has the next tick ask for the rule's secrets anew.
    fn look_at_status(&mut self, rule: &Rc<Rule>, brought: &[EntryId]) {
        let Some(status) = self.upstream_status() else {
            return;
        };
        if !rule.refresh_on_status.contains(&status) {
            return;
        }
        let readies = self.roots.iter().filter_map(|root| root.ready.as_ref());
        let mut slots = readies.flat_map(|ready| ready.slots.iter().map(move |slot| (ready, slot)));
        let found = slots.find(|(_, slot)| Rc::ptr_eq(&slot.rule, rule));
        let Some((id, mut entries)) =
            found.map(|(ready, slot)| (ready.poller, slot.entries.clone()))
        else {
            return;
        };
        entries.extend(brought);
        let mut pollers = self.pollers.iter_mut();
        let Some(poller) = pollers.find(|poller| Some(poller.id) == id) else {
            return;
        };
        if poller.doubt(&entries) {
            let vaults = poller.table.vaults_of(&entries);
            let message = format!(
                "rule {}: the upstream answered {status}: its secrets are read anew, from {vaults}",
                rule.name()
            );
            self.host.log(Level::Info, &message);
        }
    }

    /// The status of the response, if it is the upstream's and not one that was made on the way.
    fn upstream_status(&self) -> Option<u16> {
        let number = |text: Vec<u8>| std::str::from_utf8(&text).ok()?.parse().ok();
        match self.kind {
            Kind::Envoy => {
                let status = self.host.response_header(":status").ok()??;
                let details = self.host.property(&["response", "code_details"]).ok()?;
                (details == b"via_upstream").then(|| number(status))?
            }
            Kind::Nginx => {
                let status = self.host.property(&["ngx", "status"]).ok()?;
                // Of several attempts it has them all, the last one last.
                let upstream = self.host.property(&["ngx", "upstream_status"]).ok()?;
                upstream.ends_with(&status).then(|| number(status))?
            }
        }
    }
}

impl From<Status> for Refusal {
    fn from(_: Status) -> Self {
        Self::Unable
    }
}
