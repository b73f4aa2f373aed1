//! Posts messages with a token that it holds and cannot read: `vaultref:secrets/reveal` is not among
//! its imports. Without the standard library, so that it imports nothing else that it could do.
#![no_std]

extern crate alloc;

use alloc::string::{String, ToString as _};

use example::notifier::outbound;
use vaultref::secrets::secrets::{self, Error};

wit_bindgen::generate!({
    path: ["../../wit/vaultref.wit", "wit"],
    world: "example:notifier/notifier",
    generate_all,
});

struct Notifier;

impl Guest for Notifier {
    fn notify(message: String) -> Result<u16, String> {
        let token = secrets::get("{vault://files/token}").map_err(|error| match error {
            Error::Failure(failure) if failure.retryable => {
                "the token is not there yet".to_string()
            }
            Error::Failure(_) | Error::TooMany => "there is no token".to_string(),
        })?;
        outbound::post(&message, &token)
    }
}

export!(Notifier);

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
