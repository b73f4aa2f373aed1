//! The command as our child: signals go to it, its exit code comes back, and when a value changes it
//! is told.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use futures::future::{FutureExt as _, select_all};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::signal::unix::{Signal as Incoming, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use vaultref_contract::wire::{FailureKind, Outcome, ResolveRequest};

use super::super::values::Values;
use super::super::{Status, output};
use super::command::{Launch, no_file};
use super::plan::{Filled, Plan};
use super::store::{Store, Stored};
use crate::policy::Access;
use crate::resolver::Resolver;

/// How often the resolver is asked whether a value has changed. It answers from memory; how often a
/// vault is read is for the vault's ttl to say.
const PERIOD: Duration = Duration::from_secs(1);

/// How long one such question may wait for a vault.
const WAIT_MS: u32 = 10_000;

/// What can come for a command.
const FORWARDED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// What happens when a value has changed.
#[derive(Clone, Copy, Debug)]
pub(super) enum OnChange {
    /// The command is asked to end, killed if it does not in this time, and started anew.
    Restart { grace: Duration },
    /// It gets this signal. Its variables stay what they were; its files have the new values.
    Signal(Signal),
}

/// A command that is watched over.
pub(super) struct Watch {
    pub(super) launch: Launch,
    pub(super) on_change: OnChange,
    pub(super) plan: Plan,
    pub(super) resolver: Resolver,
    pub(super) store: Store,
}

impl Watch {
    /// Runs the command until it ends by itself; its exit code is ours, or 128 and the number of the
    /// signal that ended it.
    pub(super) async fn run(self, values: Values, filled: Filled) -> Status {
        let mut signals = match Signals::install() {
            Ok(signals) => signals,
            Err(error) => {
                output::problem(&format!("cannot watch for signals: {}", error.kind()));
                return Status::Internal;
            }
        };
        let mut changes = Changes::new(&values);
        let mut next = Some(filled);
        let mut is_ending = false;
        loop {
            let Some(filled) = next.take() else {
                // Only an end that a change has brought about gets here, with what comes next.
                return Status::Internal;
            };
            let stored = match self.store.put(&filled.files) {
                Ok(stored) => stored,
                Err(error) => return no_file(&error),
            };
            let mut child = match self.launch.spawn(&filled, &stored) {
                Ok(child) => child,
                Err(status) => return status,
            };
            // The command has its own copy.
            drop(filled);
            let mut deadline: Option<Instant> = None;
            let ended = loop {
                tokio::select! {
                    ended = child.wait() => break ended,
                    (signal, is_sent) = signals.next() => {
                        // A program may go on after the others; while it is being ended for a
                        // new start, they say that there is to be none.
                        let ends = matches!(signal, Signal::SIGINT | Signal::SIGQUIT);
                        is_ending |= signal == Signal::SIGTERM || (ends && next.is_some());
                        if !is_sent {
                            send(&child, signal);
                        }
                    }
                    filled = self.changed(&mut changes) => match self.on_change {
                        OnChange::Restart { grace } => {
                            if next.is_none() {
                                output::problem("a value has changed: the command is started anew");
                                send(&child, Signal::SIGTERM);
                                deadline = Some(Instant::now() + grace);
                            }
                            next = Some(filled);
                        }
                        OnChange::Signal(signal) => self.tell(&child, signal, &stored, &filled),
                    },
                    () = until(deadline), if deadline.is_some() => {
                        deadline = None;
                        send(&child, Signal::SIGKILL);
                    }
                }
            };
            match ended {
                Ok(status) if next.is_none() || is_ending => return code(status),
                Ok(_) => {}
                Err(error) => {
                    output::problem(&format!("the command was lost: {}", error.kind()));
                    return Status::Internal;
                }
            }
        }
    }

    /// Waits until a value is another one and all are there.
    async fn changed(&self, changes: &mut Changes) -> Filled {
        loop {
            changes.next(&self.resolver).await;
            let values = Values::read(&self.resolver, self.plan.references()).await;
            match self.plan.filled(&values) {
                Ok(filled) => {
                    *changes = Changes::new(&values);
                    return filled;
                }
                // Soon all are; until then the command keeps what it has, which belongs together.
                Err(report) => {
                    changes.is_pending = true;
                    if !std::mem::replace(&mut changes.is_reported, true) {
                        report.print("a value has changed, but not all can be read; waiting");
                    }
                }
            }
        }
    }

    fn tell(&self, child: &Child, signal: Signal, stored: &Stored, filled: &Filled) {
        if let Err(error) = stored.replace(&filled.files) {
            let problem = format!("a value has changed, but not its file: {}", error.kind());
            output::problem(&problem);
            return;
        }
        output::problem(&format!("a value has changed: the command gets {signal}"));
        send(child, signal);
    }
}

/// Asks which values are other ones than those in use.
struct Changes {
    request: ResolveRequest,
    /// A change was seen that could not be taken over yet.
    is_pending: bool,
    is_reported: bool,
    /// The references of which it was said that they fail, and how.
    failing: BTreeMap<String, FailureKind>,
    ticks: tokio::time::Interval,
}

impl Changes {
    fn new(values: &Values) -> Self {
        let (references, known) = values
            .revisions()
            .map(|(reference, revision)| (reference.to_owned(), Some(revision.clone())))
            .unzip();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Self {
            request: ResolveRequest {
                references,
                known,
                wait_ms: WAIT_MS,
                ..ResolveRequest::default()
            },
            is_pending: false,
            is_reported: false,
            failing: BTreeMap::new(),
            ticks,
        }
    }

    async fn next(&mut self, resolver: &Resolver) {
        loop {
            self.ticks.tick().await;
            let outcomes = resolver.resolve(&Access::All, &self.request).await;
            let mut changed = self.is_pending;
            let mut failing = BTreeMap::new();
            for (reference, outcome) in self.request.references.iter().zip(outcomes) {
                match outcome {
                    Outcome::Failure(failure) => {
                        failing.insert(reference.clone(), failure.kind);
                    }
                    Outcome::Secret(_) => changed = true,
                    Outcome::Unchanged(_) => {}
                }
            }
            for (reference, kind) in &failing {
                if self.failing.get(reference) != Some(kind) {
                    let kept = "the command keeps the value that it has";
                    output::problem(&format!("{reference}: {kind}: {kept}"));
                }
            }
            self.failing = failing;
            if changed {
                return;
            }
        }
    }
}

/// The signals that are meant for the command.
struct Signals {
    incoming: Vec<(Signal, Incoming)>,
    /// A terminal sends its signals to the command as well as to us.
    from_terminal: bool,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        let incoming = FORWARDED.into_iter().map(|number| {
            let incoming = signal(SignalKind::from_raw(number as i32))?;
            Ok((number, incoming))
        });
        Ok(Self {
            incoming: incoming.collect::<std::io::Result<_>>()?,
            from_terminal: std::io::stdin().is_terminal(),
        })
    }

    /// The next one, and whether the command has it already.
    async fn next(&mut self) -> (Signal, bool) {
        let waits = self.incoming.iter_mut().map(|(number, incoming)| {
            let received = incoming.recv().map(|_| *number);
            received.boxed()
        });
        let (number, ..) = select_all(waits).await;
        let of_terminal = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGWINCH];
        (number, self.from_terminal && of_terminal.contains(&number))
    }
}

fn send(child: &Child, signal: Signal) {
    // It has an id until it was waited for, so this is no other process.
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id {
        // If it has just ended, there is nobody to tell.
        let _ = kill(Pid::from_raw(id), signal);
    }
}

async fn until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        sleep_until(deadline).await;
    }
}

fn code(ended: ExitStatus) -> Status {
    let of_signal = || ended.signal().map(|signal| 128 + signal);
    let code = ended.code().or_else(of_signal).unwrap_or(1);
    Status::Command(u8::try_from(code).unwrap_or(1))
}
