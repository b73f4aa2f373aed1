//! How long a new value takes to every worker of a gateway that is under load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::upstream::Upstream;
use crate::wait;

/// How many requests in a row must carry the new value before the old one counts as over.
const IN_A_ROW: u64 = 1000;

/// Times since the write.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// To the first request with the new value.
    pub first_new: Duration,
    /// To the last request with an old one.
    pub last_old: Duration,
}

impl Rotation {
    /// Changes the value by `write`, and waits until the upstream gets `new` and no longer `old`. The
    /// time counts from before the write.
    ///
    /// # Errors
    ///
    /// When the write fails, or the new value does not come.
    pub fn measure(
        upstream: &Upstream,
        (old, new): (&str, &str),
        write: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let count = |value: &str| upstream.tallied(value).map_or(0, |tallied| tallied.count);
        wait::until_true(&format!("load with {old:?}"), wait::SOON, || count(old) > 0)?;
        let start = Instant::now();
        write()?;
        wait::until_true(&format!("{new:?} at the upstream"), wait::SOON, || {
            count(new) > 0
        })?;
        wait::until(&format!("the end of {old:?}"), wait::SOON, || {
            let (olds, news) = (count(old), count(new));
            wait::until_true("more load", wait::SOON, || count(new) > news + IN_A_ROW)?;
            Ok((count(old) == olds).then_some(()))
        })?;
        let tallied = |value: &str| upstream.tallied(value).context("a value that came");
        let first_new = tallied(new)?.first;
        let last_old = tallied(old)?.last;
        Ok(Self {
            first_new: first_new.saturating_duration_since(start),
            last_old: last_old.saturating_duration_since(start),
        })
    }
}
