//! Guests that are components, in a real wasmtime with real vaults: what they can do with secrets, and
//! above all what they cannot.

mod bed;
#[expect(unreachable_pub, reason = "it is written for others to take")]
#[path = "../../../../examples/component/embedder.rs"]
mod embedder;
mod example;
mod handles;
mod life;
mod opaque;
