//! The gateway, and what this instance keeps resolved.
//!
//! Everything is asked of the gateway by our own functions, which take any status, except for HTTP
//! calls: the SDK, which exports the callback for their answers, ends the VM over one that it did not
//! make itself. Its function lists the statuses that gateways give for a call.

use std::cell::RefCell;
use std::time::Duration;

use vaultref_abi::{Abi, Calls};
use vaultref_filter::{Documents, Status};

/// The most calls that are remembered. Kong up to 3.8 does not tell of one that failed.
const MAX_CALLS: usize = 1024;

pub(crate) const GATEWAY: Abi<ThroughSdk> = Abi(ThroughSdk);

thread_local! {
    // A module instance has one thread. All of its roots share what they know.
    static DOCUMENTS: RefCell<Documents<Abi<ThroughSdk>>> =
        const { RefCell::new(Documents::new(GATEWAY)) };
    static CALLS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Does something with the instance's configurations; none if that is under way already.
pub(crate) fn with_documents<T>(
    action: impl FnOnce(&mut Documents<Abi<ThroughSdk>>) -> T,
) -> Option<T> {
    let done = DOCUMENTS.try_with(|documents| {
        documents
            .try_borrow_mut()
            .ok()
            .map(|mut it| action(&mut it))
    });
    done.ok().flatten()
}

/// Whether a call was made here; forgets it. Its answer may come when nobody waits for it any more,
/// and is the author's business even then no more.
pub(crate) fn take_call(token: u32) -> bool {
    CALLS.with_borrow_mut(|calls| {
        let at = calls.iter().position(|call| *call == token);
        at.map(|at| calls.remove(at)).is_some()
    })
}

/// Makes HTTP calls by the SDK's function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThroughSdk;

impl Calls for ThroughSdk {
    fn dispatch(
        &self,
        upstream: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
        timeout: u32,
    ) -> Result<u32, Status> {
        let texts = headers
            .iter()
            .map(|(name, value)| Some((*name, std::str::from_utf8(value).ok()?)));
        let texts: Option<Vec<_>> = texts.collect();
        let texts = texts.ok_or(Status::BadArgument)?;
        let timeout = Duration::from_millis(timeout.into());
        let sent = proxy_wasm::hostcalls::dispatch_http_call(
            upstream,
            texts,
            Some(body),
            Vec::new(),
            timeout,
        );
        let token = sent
            .map_err(|status| Status::from_abi(status as u32).unwrap_or(Status::InternalFailure))?;
        CALLS.with_borrow_mut(|calls| {
            if calls.len() >= MAX_CALLS {
                calls.remove(0);
            }
            calls.push(token);
        });
        Ok(token)
    }
}
