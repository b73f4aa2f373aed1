//! Threads for what may hang, a few for each vault.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// How many threads one vault can take. When all of them hang, what comes next waits in its own time.
const LANES: usize = 8;

/// The threads of one vault.
#[derive(Debug)]
pub(super) struct Lanes(Arc<Semaphore>);

impl Lanes {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LANES)))
    }

    /// Does the work on a thread. Whoever waits for it may go: the thread counts until the work is
    /// done, not until nobody waits. None if the work was broken off.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let done = spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        done.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_still_counts() {
        let lanes = Lanes::new();
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        for _ in 0..LANES {
            let gate = Arc::clone(&gate);
            let (began, has_begun) = tokio::sync::oneshot::channel();
            let hangs = lanes.run(move || {
                let _ = began.send(());
                let _ = gate.lock().expect("whole").recv();
            });
            tokio::select! {
                biased;
                _ = hangs => panic!("it should hang"),
                begun = has_begun => begun.expect("it began"),
            }
        }
        assert_eq!(lanes.0.available_permits(), 0);
        let next = lanes.run(|| 7);
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending());
        release.send(()).expect("one that hangs");
        assert_eq!(next.await, Some(7));
        drop(release);
    }
}
