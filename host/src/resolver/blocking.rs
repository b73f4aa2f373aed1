//! For callers that are no futures: a guest's call into its host, say.

use std::sync::mpsc;
use std::time::Duration;

use vaultref_contract::wire::{Outcome, ResolveRequest};

use super::{MAX_WAIT, Resolver};
use crate::policy::Access;

/// How much later than it should the answer may come on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

impl Resolver {
    /// [`Resolver::resolve`] for a thread that may block for `wait`, which stands in for the request's
    /// own. If the resolver's runtime does not come to it in that time, since it stands still or has
    /// only the thread that is blocked here, the answer is that of [`Resolver::resolve_now`].
    #[must_use]
    pub fn resolve_blocking(
        &self,
        access: &Access,
        request: &ResolveRequest,
        wait: Duration,
    ) -> Vec<Outcome> {
        let wait = wait.min(MAX_WAIT);
        let (resolver, access_there) = (self.clone(), access.clone());
        let mut request_there = request.clone();
        request_there.wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let (done, answer) = mpsc::sync_channel(1);
        self.0.runtime.spawn(async move {
            // Nobody is there any more if it took too long.
            let _ = done.send(resolver.resolve(&access_there, &request_there).await);
        });
        answer
            .recv_timeout(wait + SLACK)
            .unwrap_or_else(|_| self.resolve_now(access, request))
    }
}
