//! The callbacks that every gateway needs.

use std::alloc::Layout;

use vaultref_filter::{Action, Host as _};

use crate::{GATEWAY, with_vm};

pub(crate) const CONTINUE: u32 = 0;
pub(crate) const PAUSE: u32 = 1;

unsafe extern "C" {
    /// Made by the linker. That it is called here keeps the linker from wrapping every export in a
    /// call of its own to it.
    fn __wasm_call_ctors();
}

/// Called once, before anything else.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn _initialize() {
    // SAFETY: the gateway calls this once, as the first function of the instance.
    unsafe { __wasm_call_ctors() }
}

/// Says which version of the ABI this module speaks; never called.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_abi_version_0_2_1() {}

/// Gives the gateway memory for what it hands over; null if there is none.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let Ok(layout) = Layout::array::<u8>(size) else {
        return std::ptr::null_mut();
    };
    if size == 0 {
        // There is nothing to give, and nothing to be taken back.
        return std::ptr::dangling_mut();
    }
    // SAFETY: the layout's size is not zero.
    unsafe { std::alloc::alloc(layout) }
}

/// The VM starts.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_vm_start(_root: u32, _size: usize) -> u32 {
    1
}

/// A root's configuration is there.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_configure(root: u32, size: usize) -> u32 {
    // A root that is not configured answers 503.
    u32::from(with_vm(|vm| vm.on_configure(root, size)).unwrap_or(true))
}

/// A context begins.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    with_vm(|vm| vm.on_context_create(context, root));
}

/// A root's timer.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_tick(root: u32) {
    with_vm(|vm| vm.on_tick(root));
}

/// A request's headers are there.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_request_headers(context: u32, _headers: usize, end: u32) -> u32 {
    or_refuse(with_vm(|vm| vm.on_request_headers(context, end != 0)))
}

/// What the gateway is to do with a request. If nothing was decided, it must not go on.
pub(crate) fn or_refuse(action: Option<Action>) -> u32 {
    match action {
        Some(Action::Continue) => CONTINUE,
        Some(Action::Pause) => PAUSE,
        None => {
            let _ = GATEWAY.send_local_response(503, &[], b"");
            PAUSE
        }
    }
}

/// The answer to a call is there.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_http_call_response(
    context: u32,
    token: u32,
    headers: usize,
    body: usize,
    _trailers: usize,
) {
    with_vm(|vm| vm.on_http_call_response(context, token, headers, body));
}

/// The host's function has news.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_foreign_function(root: u32, _function: u32, _size: usize) {
    with_vm(|vm| vm.on_foreign_function(root));
}
