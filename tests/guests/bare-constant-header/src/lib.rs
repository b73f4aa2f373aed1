//! The same constant request header without the SDK: one function imported, and
//! exported only what Envoy cannot do without, since each exported callback is
//! called on every request. The floor for any filter that writes a header.
#![no_std]

use core::ptr::null_mut;

const REQUEST_HEADERS: u32 = 0;
const CONTINUE: u32 = 0;
const NAME: &[u8] = b"authorization";
const VALUE: &[u8] = b"Bearer bench-value-0123456789abcdef";

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
}

/// Says which ABI this is; never called.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}

/// Never called, since nothing is read from the host; Envoy insists that it is there.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_memory_allocate(_size: usize) -> *mut u8 {
    null_mut()
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_context_create(_context: u32, _parent: u32) {}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(_context: u32, _count: u32, _end: u32) -> u32 {
    // SAFETY: pointer and length of both come from one live slice each, and the
    // host only reads them, during the call.
    unsafe {
        proxy_replace_header_map_value(
            REQUEST_HEADERS,
            NAME.as_ptr(),
            NAME.len(),
            VALUE.as_ptr(),
            VALUE.len(),
        );
    }
    CONTINUE
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
