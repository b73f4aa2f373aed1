//! The Proxy-Wasm module: callbacks that the gateway calls, handed on to [`vaultref_filter::Vm`].
//!
//! It has two forms. With the feature `every-gateway` it exports what nginx's engine calls without
//! looking; without it, only what Envoy needs, since Envoy calls (and makes each request pay for)
//! every callback that is exported. Nothing is decided here, and nothing here can panic.

#![cfg(target_family = "wasm")]

#[cfg(feature = "every-gateway")]
mod every_gateway;
mod exports;

use vaultref_abi::{Abi, Direct};
use vaultref_filter::{Callbacks, Instance, Vm};

const HAS_ALL: bool = cfg!(feature = "every-gateway");
const CALLBACKS: Callbacks = if HAS_ALL {
    Callbacks::Every
} else {
    Callbacks::Headers
};

const GATEWAY: Abi = Abi(Direct);

thread_local! {
    // A module instance has one thread.
    static INSTANCE: Instance<Abi, HAS_ALL> = const { Instance::new(GATEWAY, CALLBACKS) };
}

/// Runs a callback on the VM's state; none if the gateway calls while another callback is under way.
fn with_vm<T>(callback: impl FnOnce(&mut Vm<Abi>) -> T) -> Option<T> {
    INSTANCE.with(|instance| instance.with(callback))
}
