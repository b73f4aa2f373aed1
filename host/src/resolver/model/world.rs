//! The world of the model: what is in the vaults, what fails, what was read last.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};
use vaultref_contract::Secret;

use super::{OBJECTS, VAULTS};
use crate::backend::kit::plain_object;
use crate::backend::{Asked, Backend, Object, ReadError, ReadErrorKind, Reading};

/// One object as it is and was.
pub(super) struct Thing {
    /// When each number came to be; the last one is the current.
    pub(super) history: Vec<Instant>,
    pub(super) fails: Option<ReadErrorKind>,
    /// When it last failed or stopped to.
    pub(super) since: Instant,
    /// What the last read that has ended said, if it was no value.
    pub(super) last_failure: Option<ReadErrorKind>,
    /// How many reads in a row have said that it is not there.
    pub(super) missed: u32,
}

impl Thing {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            history: vec![now],
            fails: None,
            since: now,
            last_failure: None,
            missed: 0,
        }
    }

    /// Until when this number was the current one.
    pub(super) fn end_of(&self, number: usize) -> Instant {
        let next = self.history.get(number + 1);
        next.copied().unwrap_or_else(Instant::now)
    }
}

pub(super) struct World {
    things: Mutex<HashMap<(usize, usize), Thing>>,
    pub(super) slow: Mutex<[u64; VAULTS.len()]>,
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        let places = (0..VAULTS.len()).flat_map(|v| (0..OBJECTS.len()).map(move |o| (v, o)));
        Arc::new(Self {
            things: Mutex::new(places.map(|place| (place, Thing::new())).collect()),
            slow: Mutex::default(),
        })
    }

    pub(super) fn things(&self) -> MutexGuard<'_, HashMap<(usize, usize), Thing>> {
        self.things.lock().expect("whole")
    }
}

pub(super) struct Place {
    pub(super) vault: usize,
    pub(super) world: Arc<World>,
}

impl Backend for Place {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        Ok(plain_object(asked))
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        Box::pin(async move {
            let number = OBJECTS.iter().position(|name| *name == object.path);
            let place = (self.vault, number.expect("an object of this world"));
            let seconds = self.world.slow.lock().expect("whole")[self.vault];
            sleep(Duration::from_secs(seconds)).await;
            let mut things = self.world.things();
            let thing = things.get_mut(&place).expect("an object of this world");
            thing.last_failure = thing.fails;
            thing.missed = match thing.fails {
                Some(ReadErrorKind::NotFound) => thing.missed + 1,
                Some(ReadErrorKind::Unavailable) => thing.missed,
                _ => 0,
            };
            match thing.fails {
                Some(ReadErrorKind::Unavailable) => Err(ReadError::transient("as told")),
                Some(kind) => Err(ReadError::new(kind, "as told")),
                None => {
                    let mark = format!("{}.{}.{}", place.0, place.1, thing.history.len() - 1);
                    let pair = format!(r#"{{"user":"u.{mark}","password":"p.{mark}"}}"#);
                    Ok(Reading::new(Secret::from(pair)))
                }
            }
        })
    }
}
