//! For load: how often each value of some headers came, and when.

use std::collections::HashMap;
use std::time::Instant;

use super::Received;

/// The values so far. A request without the headers counts under the empty text.
#[derive(Debug)]
pub(super) struct Tally {
    headers: Vec<String>,
    values: HashMap<String, Tallied>,
}

/// One value.
#[derive(Clone, Copy, Debug)]
pub struct Tallied {
    /// How often it came.
    pub count: u64,
    /// When it came for the first time.
    pub first: Instant,
    /// When it came for the last time.
    pub last: Instant,
}

impl Tally {
    pub(super) fn of(headers: &[&str]) -> Self {
        Self {
            headers: headers.iter().map(|name| (*name).to_owned()).collect(),
            values: HashMap::new(),
        }
    }

    pub(super) fn note(&mut self, request: &Received) {
        let headers = self.headers.iter();
        let values: Vec<String> = headers
            .flat_map(|name| request.header_values(name))
            .collect();
        let now = Instant::now();
        let value = self.values.entry(values.join(",")).or_insert(Tallied {
            count: 0,
            first: now,
            last: now,
        });
        value.count += 1;
        value.last = now;
    }

    pub(super) fn values(&self) -> &HashMap<String, Tallied> {
        &self.values
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
    }
}
