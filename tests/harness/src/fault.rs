//! Faults that a test puts in, to see that a filter fails closed.

use crate::abi::types::{Callback, Status};

/// One fault; it waits for its occasion and then is used up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The next callback of this kind is not made; the gateway goes on as if
    /// the filter had returned Continue (or true).
    DropCallback(Callback),
    /// The next `times` calls of a host function do nothing and return `status`.
    HostStatus {
        /// The name of the import, such as `proxy_get_buffer_bytes`.
        function: String,
        /// What is returned.
        status: Status,
        /// For how many calls.
        times: u32,
    },
    /// The next call of a host function traps.
    HostTrap {
        /// The name of the import.
        function: String,
    },
    /// The next callback of this kind traps before its first instruction.
    TrapCallback(Callback),
    /// The next callout's answer loses all but `keep` bytes of its body while
    /// its headers still promise the whole.
    TruncateAnswer {
        /// How many bytes remain.
        keep: usize,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    waiting: Vec<Fault>,
}

/// What a fault does to a host function.
pub(crate) enum HostFault {
    Status(Status),
    Trap,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.waiting.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(crate) fn drops(&mut self, callback: Callback) -> bool {
        self.take(|fault| *fault == Fault::DropCallback(callback))
            .is_some()
    }

    pub(crate) fn traps(&mut self, callback: Callback) -> bool {
        self.take(|fault| *fault == Fault::TrapCallback(callback))
            .is_some()
    }

    pub(crate) fn truncates(&mut self) -> Option<usize> {
        match self.take(|fault| matches!(fault, Fault::TruncateAnswer { .. }))? {
            Fault::TruncateAnswer { keep } => Some(keep),
            _ => None,
        }
    }

    pub(crate) fn host(&mut self, name: &str) -> Option<HostFault> {
        if self.waiting.is_empty() {
            return None;
        }
        let concerns = |fault: &Fault| match fault {
            Fault::HostStatus { function, .. } | Fault::HostTrap { function } => function == name,
            _ => false,
        };
        let at = self.waiting.iter().position(concerns)?;
        let (found, over) = match &mut self.waiting[at] {
            Fault::HostStatus { status, times, .. } => {
                *times = times.saturating_sub(1);
                (HostFault::Status(*status), *times == 0)
            }
            _ => (HostFault::Trap, true),
        };
        if over {
            self.waiting.remove(at);
        }
        Some(found)
    }

    fn take(&mut self, concerns: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let at = self.waiting.iter().position(concerns)?;
        Some(self.waiting.remove(at))
    }
}
