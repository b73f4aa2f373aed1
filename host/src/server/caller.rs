//! Who is at the other end of one connection, as far as that is known by now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::policy::Origin;

/// The other end of one connection. Clones are of the same connection.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) origin: Origin,
    is_known: Arc<AtomicBool>,
}

impl Caller {
    /// Somebody who has not said anything yet.
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            is_known: Arc::default(),
        }
    }

    /// Whether the last that was heard of it was a client's, or the operator's.
    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, is_known: bool) {
        self.is_known.store(is_known, Ordering::Relaxed);
    }
}
