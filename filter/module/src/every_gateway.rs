//! The callbacks that nginx's engine calls without looking whether a module has them.
//!
//! A gateway may call them from inside a host function, while another callback is under way; those
//! that have nothing to do touch no state, the others do without if it is in use. The end of a context
//! is put off until then.

use vaultref_filter::Action;

use crate::exports::{CONTINUE, PAUSE, or_refuse};
use crate::{INSTANCE, with_vm};

/// A part of a request's body is there.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_request_body(context: u32, size: usize, end: u32) -> u32 {
    or_refuse(with_vm(|vm| vm.on_request_body(context, size, end != 0)))
}

/// A request's trailers are there: only Envoy says so, and with them that the body has ended.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_request_trailers(context: u32, _trailers: usize) -> u32 {
    or_refuse(with_vm(|vm| vm.on_request_trailers(context)))
}

/// A response's headers are there. (If another callback is under way this is an answer of the
/// gateway's own, in nginx: Envoy puts such off.)
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_response_headers(
    context: u32,
    _headers: usize,
    _end: u32,
) -> u32 {
    match with_vm(|vm| vm.on_response_headers(context)) {
        Some(Action::Pause) => PAUSE,
        Some(Action::Continue) | None => CONTINUE,
    }
}

/// A part of a response's body is there.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_response_body(_context: u32, _size: usize, _end: u32) -> u32 {
    CONTINUE
}

/// A context is about to end; yes, it may.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_done(_context: u32) -> u32 {
    1
}

/// A request is being logged.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_log(_context: u32) {}

/// A context ends.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_delete(context: u32) {
    INSTANCE.with(|instance| instance.on_delete(context));
}
