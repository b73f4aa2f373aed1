//! Does all that can be done with a secret without `reveal`, with handles that the embedder names:
//! also with such as it does not have.
#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::mem::ManuallyDrop;

use vaultref::probe::sink;
use vaultref::secrets::secrets::{self, Secret};

wit_bindgen::generate!({
    path: ["../../../wit/vaultref.wit", "../wit"],
    world: "vaultref:probe/holder",
    generate_all,
});

struct Holder;

impl Guest for Holder {
    fn get(reference: String) -> Result<u32, Error> {
        secrets::get(&reference).map(|secret| secret.take_handle())
    }

    fn revision(handle: u32) -> String {
        held(handle).revision()
    }

    fn lifetime_of(handle: u32) -> Lifetime {
        held(handle).lifetime()
    }

    fn lend(handle: u32) -> bool {
        sink::lend(&held(handle))
    }

    fn give(handle: u32) {
        sink::give(ManuallyDrop::into_inner(held(handle)));
    }

    fn release(handle: u32) {
        drop(ManuallyDrop::into_inner(held(handle)));
    }

    fn memory_contents() -> Vec<u8> {
        let size = core::arch::wasm32::memory_size(0) * 65536;
        let mut contents = Vec::with_capacity(size);
        for at in 1..size {
            // SAFETY: there is memory everywhere below its size, and no other thread; what is read may be
            // anything.
            contents.push(unsafe { core::ptr::read_volatile(at as *const u8) });
        }
        contents
    }
}

/// The handle stays where it is when this is dropped.
fn held(handle: u32) -> ManuallyDrop<Secret> {
    // SAFETY: a handle is a number. That one which is not ours is refused is what the tests look at.
    ManuallyDrop::new(unsafe { Secret::from_handle(handle) })
}

export!(Holder);

/// Gives no memory out twice, so that all which was ever in it can be found.
struct Keeping;

#[global_allocator]
static ALLOCATOR: Keeping = Keeping;

// SAFETY: as the allocator that it asks.
unsafe impl GlobalAlloc for Keeping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { dlmalloc::GlobalDlmalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
