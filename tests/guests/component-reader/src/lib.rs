//! Reads secrets, with handles that the embedder names: also with such as it does not have.
#![no_std]

extern crate alloc;

use alloc::string::String;
use core::mem::ManuallyDrop;

use vaultref::secrets::reveal;
use vaultref::secrets::secrets::{self, Secret};

wit_bindgen::generate!({
    path: ["../../../wit/vaultref.wit", "../wit"],
    world: "vaultref:probe/reader",
    generate_all,
});

struct Reader;

impl Guest for Reader {
    fn get(reference: String) -> Result<u32, Error> {
        secrets::get(&reference).map(|secret| secret.take_handle())
    }

    fn reveal(handle: u32) -> Result<Value, Failure> {
        reveal::reveal(&held(handle))
    }

    fn release(handle: u32) {
        drop(ManuallyDrop::into_inner(held(handle)));
    }
}

/// The handle stays where it is when this is dropped.
fn held(handle: u32) -> ManuallyDrop<Secret> {
    // SAFETY: a handle is a number. That one which is not ours is refused is what the tests look at.
    ManuallyDrop::new(unsafe { Secret::from_handle(handle) })
}

export!(Reader);

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
