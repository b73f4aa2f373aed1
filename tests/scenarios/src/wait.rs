//! Waiting for an event with a deadline: the one place that sleeps, for the few
//! milliseconds between two looks at something that cannot be subscribed to.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a server may take to start on a busy machine with few cores.
pub const START: Duration = Duration::from_secs(60);

/// How long something that should happen at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Looks until `look` gives a value, and returns it.
///
/// # Errors
///
/// When `deadline` has passed, naming `what` was waited for; and at once when
/// `look` fails, for what can no longer come (the server has ended, say).
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if start.elapsed() >= deadline {
            bail!("waited {deadline:?} in vain for {what}");
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// Looks until `look` is true.
///
/// # Errors
///
/// When `deadline` has passed, naming `what` was waited for.
pub fn until_true(what: &str, deadline: Duration, mut look: impl FnMut() -> bool) -> Result<()> {
    until(what, deadline, || Ok(look().then_some(())))
}
