//! How much a client can make the daemon hold.

use std::time::Duration;

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
    /// is over it waits. One user has a third of them at the most, and so has all of TCP.
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
            connections: 1024,
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

/// How many descriptors this process may have open, where the system says so.
pub(crate) fn descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    soft_limit(&limits)
}

fn soft_limit(limits: &str) -> Option<usize> {
    let mut lines = limits.lines();
    let rest = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        let most = |descriptors| Limits::default().within(descriptors).connections;
        assert_eq!(most(1_048_576), 1024);
        assert_eq!(most(1024), 896);
        assert_eq!(most(64), 32);
        assert_eq!(most(1), 1);
    }

    #[test]
    fn the_soft_limit_is_the_first_number() {
        let text = "Limit   Soft Limit   Hard Limit   Units\nMax processes  7  8  processes\nMax open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(text), Some(1024));
        assert_eq!(soft_limit("Max open files unlimited unlimited files"), None);
        assert_eq!(soft_limit(""), None);
        assert!(descriptors().is_some_and(|count| count > 0));
    }
}
