//! Functions that the host offers beside the ABI, by name.

use std::sync::mpsc::Sender;

use crate::abi::types::Status;
use crate::state::Event;

/// What `proxy_call_foreign_function` reaches. A name that is not known has to
/// be answered with [`Status::NotFound`]; what then happens is the profile's
/// (Envoy hands the status over, nginx traps).
pub trait ForeignFunctions: Send + Sync {
    /// Answers one call; the event loop stands still meanwhile, so never block.
    ///
    /// # Errors
    ///
    /// The status that the filter gets to see.
    fn call(&self, caller: &ForeignCaller, name: &str, arguments: &[u8])
    -> Result<Vec<u8>, Status>;
}

impl<F> ForeignFunctions for F
where
    F: Fn(&ForeignCaller, &str, &[u8]) -> Result<Vec<u8>, Status> + Send + Sync,
{
    fn call(
        &self,
        caller: &ForeignCaller,
        name: &str,
        arguments: &[u8],
    ) -> Result<Vec<u8>, Status> {
        self(caller, name, arguments)
    }
}

/// Who called, and the way back to it. Clones may be kept and moved to other
/// threads.
#[derive(Clone, Debug)]
pub struct ForeignCaller {
    pub(crate) worker: usize,
    pub(crate) vm: u64,
    pub(crate) root: u32,
    pub(crate) events: Sender<Event>,
}

impl ForeignCaller {
    /// The worker whose VM called.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Has `proxy_on_foreign_function` called on the caller's root context the
    /// next time that the test pumps events. Once that VM or the gateway is
    /// gone this does nothing.
    pub fn notify(&self, function: u32, arguments: impl Into<Vec<u8>>) {
        // The gateway may be gone; then there is nobody left to tell.
        let _ = self.events.send(Event::Foreign {
            vm: self.vm,
            root: self.root,
            function,
            arguments: arguments.into(),
        });
    }
}
