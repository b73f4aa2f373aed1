//! How much a client can make the daemon hold.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that no connection of a client gets: without them vaults could not be read, and files not
/// be watched, while somebody keeps connections open.
const RESERVED: usize = 128;

/// Bounds on what a client can make the daemon hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an answer may take to be read by the client, once it makes the daemon wait.
    pub answer: Duration,
    /// How long the head of a request may take, idle time between requests included.
    pub head: Duration,
    /// How long the body of a request may take.
    pub body: Duration,
    /// How long a connection may be open before a client has said on it who it is.
    pub stranger: Duration,
    /// How long open requests may take when the daemon stops.
    pub stop: Duration,
    /// How many connections may be open, on all listeners together, those that come later included; what
    /// is over it waits. A third of them is each user's, and all of TCP's; more of them one gets only
    /// while another third is free.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            // Gateways keep connections open between polls, which come each second.
            head: Duration::from_secs(60),
            body: Duration::from_secs(10),
            // Room for a slow start; an idle connection of nobody takes the place of another.
            stranger: Duration::from_secs(15),
            stop: Duration::from_secs(5),
            // An Envoy opens 1,024 to a cluster; two thirds are more than that.
            connections: 2048,
        }
    }
}

impl Limits {
    /// The same with no more connections than there are descriptors for.
    #[must_use]
    pub fn within(self, descriptors: usize) -> Self {
        let spare = descriptors - RESERVED.min(descriptors / 2);
        Self {
            connections: self.connections.min(spare.max(1)),
            ..self
        }
    }
}

/// How many descriptors this process may have open, where the system says so: as many as it lets us ask
/// for, if we need them. (What a program gets to begin with is 1,024 nearly everywhere, for the sake of
/// `select`, which nothing here uses.)
pub(crate) fn descriptors() -> Option<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let wanted = Limits::default().connections.saturating_add(RESERVED);
    let wanted = hard.min(wanted.try_into().ok()?);
    let raised = wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok();
    let granted = if raised { wanted } else { soft };
    Some(granted.try_into().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        let most = |descriptors| Limits::default().within(descriptors).connections;
        assert_eq!(most(1_048_576), 2048);
        assert_eq!(most(1024), 896);
        assert_eq!(most(64), 32);
        assert_eq!(most(1), 1);
    }

    #[test]
    fn as_many_descriptors_are_asked_for_as_are_needed() {
        let granted = descriptors().expect("a limit");
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        assert_eq!(u64::try_from(granted), Ok(soft));
        assert!(soft >= hard.min(2048 + 128));
    }
}
