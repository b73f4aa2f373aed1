//! How many connections are open, on all listeners together, and how many of them are of one peer.
//!
//! A place is taken before anybody has said who it is, so nobody gets all of them: whoever has its share
//! already may have more only while a share of another is free. What is over the bound of all waits; what
//! is over the bound of its peer is closed, since waiting it would be in the others' way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::policy::Origin;

/// A share is one of so many places.
const PARTS: usize = 3;

/// The places of a server.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    count: usize,
    share: usize,
    peers: Mutex<HashMap<Peer, Held>>,
}

/// Who can be told from others before anything is said.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Peer {
    /// Any process of this machine: over TCP one looks like another.
    Tcp,
    /// The processes of a user.
    User(u32),
}

/// What a peer has.
#[derive(Debug, Default)]
struct Held {
    places: usize,
    /// The log says that it wants more than it may have.
    is_told: bool,
}

impl Places {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(count)),
            count,
            share: (count / PARTS).max(1),
            peers: Mutex::default(),
        })
    }

    /// Counts one more connection of whoever is there, unless it has its share already and leaves no
    /// other one's.
    pub(super) fn admit(self: &Arc<Self>, origin: Origin) -> Option<Admitted> {
        let peer = Peer::from(origin);
        let mut peers = self.peers();
        let taken: usize = peers.values().map(|held| held.places).sum();
        let held = peers.entry(peer).or_default();
        if held.places < self.share || taken + self.share < self.count {
            held.places += 1;
            let places = Arc::clone(self);
            return Some(Admitted { places, peer });
        }
        let (is_news, held_places) = (!std::mem::replace(&mut held.is_told, true), held.places);
        drop(peers);
        if is_news {
            tracing::warn!(
                ?peer,
                connections = held_places,
                "too many connections of one peer: no more are taken until it closes some"
            );
        }
        None
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<Peer, Held>> {
        // Nothing panics while it is held.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Origin> for Peer {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Tcp => Self::Tcp,
            Origin::Unix { uid, .. } => Self::User(uid),
        }
    }
}

/// A connection that counts for its peer, for as long as this is held.
#[derive(Debug)]
pub(super) struct Admitted {
    places: Arc<Places>,
    peer: Peer,
}

impl Admitted {
    /// Waits for a place among all.
    pub(super) async fn place(self) -> Place {
        let permit = Arc::clone(&self.places.all).acquire_owned().await;
        Place {
            // Closed by nobody.
            _permit: permit.ok(),
            _admitted: self,
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut peers = self.places.peers();
        if let Some(held) = peers.get_mut(&self.peer) {
            held.places -= 1;
            if held.places == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// The place of one connection, for as long as this is held.
#[derive(Debug)]
pub(super) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    _admitted: Admitted,
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn user(uid: u32) -> Origin {
        Origin::Unix { uid, gid: 0 }
    }

    #[test]
    fn no_peer_takes_the_last_share_and_what_it_gives_back_it_may_have_again() {
        let places = Places::new(9);
        let mut held: Vec<_> = (0..9).filter_map(|_| places.admit(user(1))).collect();
        assert_eq!(held.len(), 6, "as long as another's share is free");
        assert!(places.admit(user(1)).is_none());
        // Another group does not make it another.
        assert!(places.admit(Origin::Unix { uid: 1, gid: 7 }).is_none());
        let of_another: Vec<_> = (0..3).filter_map(|_| places.admit(user(2))).collect();
        let over_tcp: Vec<_> = (0..4).filter_map(|_| places.admit(Origin::Tcp)).collect();
        assert_eq!((of_another.len(), over_tcp.len()), (3, 3));
        held.pop();
        assert!(places.admit(user(1)).is_none(), "the others are there now");
        held.truncate(2);
        assert!(places.admit(user(1)).is_some());
        drop((held, of_another, over_tcp));
        assert!(places.peers().is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn what_is_over_the_bound_of_all_waits_for_a_place() {
        let places = Places::new(2);
        let place = |uid| places.admit(user(uid)).expect("its first").place();
        let first = place(1).now_or_never().expect("free");
        let _second = place(2).now_or_never().expect("free");
        let mut third = Box::pin(place(3));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.now_or_never().is_some());
    }
}
