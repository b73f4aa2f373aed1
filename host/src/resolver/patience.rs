//! How long one waits for what hangs, or fails again and again.
//!
//! Who has no value has nothing else to do. A poll has values of other vaults to bring, which must not
//! come late because one vault is away: what it does not wait for is in the next.

use std::time::Duration;

use tokio::time::Instant;
use vaultref_contract::wire::ResolveRequest;

use super::life::Entry;

/// How long a poll waits until it is known what references mean.
const UNTIL_SETTLED: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Patience {
    /// Of a poll: none for what has shown that it hangs or fails.
    OfPoll,
    /// To the end of the time that there is.
    Whole,
}

impl Patience {
    /// Only a poll knows revisions.
    pub(super) fn of(request: &ResolveRequest) -> Self {
        match request.known.iter().any(Option::is_some) {
            true => Self::OfPoll,
            false => Self::Whole,
        }
    }

    /// Whether to wait for the read that runs for this entry.
    pub(super) fn is_for(self, entry: &Entry, now: Instant) -> bool {
        self == Self::Whole || !entry.is_in_trouble(now)
    }

    /// When the waiting ends for what references mean.
    pub(super) fn until_settled(self, now: Instant, deadline: Instant) -> Instant {
        match self {
            Self::OfPoll => deadline.min(now + UNTIL_SETTLED),
            Self::Whole => deadline,
        }
    }
}
