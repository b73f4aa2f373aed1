//! The contract for guests in wasmtime: `proxy_call_foreign_function("vaultref.resolve", …)`.
//!
//! For whoever embeds wasmtime and gives guests the Proxy-Wasm ABI. A call never blocks: what is not
//! in memory comes back as `pending`, its read starts, and [`ForeignFunction::finished_reads`] tells
//! the embedder when to call the guest's `proxy_on_foreign_function`. The guest sees the same bytes
//! as over HTTP. It never gets at the resolver, at policy, or at a name that is not ours.
//!
//! ```
//! use vaultref_host::embed::{ForeignFunction, add_to_linker};
//!
//! struct Gateway {
//!     secrets: ForeignFunction,
//! }
//!
//! let engine = wasmtime::Engine::default();
//! let mut linker = wasmtime::Linker::<Gateway>::new(&engine);
//! add_to_linker(&mut linker, |gateway| &gateway.secrets)?;
//! # Ok::<(), wasmtime::Error>(())
//! ```
//!
//! An embedder that has foreign functions of its own calls [`ForeignFunction::call`] from its own
//! dispatch instead.

use tokio::sync::watch;
use vaultref_contract::Secret;
use vaultref_contract::wire::{RESOLVE_FUNCTION, encode_reply};
use wasmtime::{Caller, Extern, Linker};

use crate::policy::Access;
use crate::request;
use crate::resolver::Resolver;

/// The module and the name of the import that [`add_to_linker`] defines.
const IMPORT: (&str, &str) = ("env", "proxy_call_foreign_function");

/// Statuses of the Proxy-Wasm ABI.
mod status {
    pub(super) const OK: i32 = 0;
    pub(super) const NOT_FOUND: i32 = 1;
    pub(super) const INVALID_MEMORY_ACCESS: i32 = 6;
    pub(super) const INTERNAL_FAILURE: i32 = 10;
}

/// `vaultref.resolve` for one guest.
#[derive(Clone, Debug)]
pub struct ForeignFunction {
    resolver: Resolver,
    access: Access,
}

impl ForeignFunction {
    /// What the guest asks is answered under the rules of `access`, for as long as this lives: a
    /// configuration that is read again does not change them. Whose rights have changed gets a new one.
    #[must_use]
    pub fn new(resolver: Resolver, access: Access) -> Self {
        Self { resolver, access }
    }

    /// Answers the bytes of a request with the bytes of a reply, at once. A request that is none is
    /// answered with a refusal.
    #[must_use]
    pub fn call(&self, arguments: &[u8]) -> Secret {
        match request::decode(arguments) {
            Ok(request) => {
                let outcomes = self.resolver.resolve_now(&self.access, &request);
                encode_reply(Ok(&outcomes))
            }
            Err(refusal) => encode_reply(Err(&refusal)),
        }
    }

    /// Changes with each read that has ended, so that pending references can be asked for again.
    #[must_use]
    pub fn finished_reads(&self) -> watch::Receiver<u64> {
        self.resolver.finished_reads()
    }
}

/// Defines `env.proxy_call_foreign_function`, which knows `vaultref.resolve` and answers any other
/// name with 'not found'. The reply is put where the guest's own `proxy_on_memory_allocate` (or
/// `malloc`) says. For stores that are called without `async`.
///
/// # Errors
/// The import is defined already.
pub fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    secrets: impl Fn(&T) -> &ForeignFunction + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let (module, name) = IMPORT;
    linker.func_wrap(
        module,
        name,
        move |mut caller: Caller<'_, T>,
              name: u32,
              name_size: u32,
              arguments: u32,
              arguments_size: u32,
              result: u32,
              result_size: u32| {
            let Some(name) = bytes(&mut caller, name, name_size) else {
                return status::INVALID_MEMORY_ACCESS;
            };
            if name != RESOLVE_FUNCTION.as_bytes() {
                return status::NOT_FOUND;
            }
            let Some(arguments) = bytes(&mut caller, arguments, arguments_size) else {
                return status::INVALID_MEMORY_ACCESS;
            };
            let reply = secrets(caller.data()).call(&arguments);
            give(&mut caller, &reply, result, result_size)
        },
    )?;
    Ok(())
}

fn bytes<T>(caller: &mut Caller<'_, T>, at: u32, size: u32) -> Option<Vec<u8>> {
    let memory = caller.get_export("memory")?.into_memory()?;
    let start = usize::try_from(at).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    memory.data(&*caller).get(start..end).map(<[u8]>::to_vec)
}

fn give<T>(caller: &mut Caller<'_, T>, reply: &Secret, result: u32, result_size: u32) -> i32 {
    let Some(memory) = caller.get_export("memory").and_then(Extern::into_memory) else {
        return status::INVALID_MEMORY_ACCESS;
    };
    let Some((at, size)) = allocate(caller, reply.len()) else {
        return status::INTERNAL_FAILURE;
    };
    let writes: [(u32, &[u8]); 3] = [
        (at, reply.expose()),
        (result, &at.to_le_bytes()),
        (result_size, &size.to_le_bytes()),
    ];
    for (at, bytes) in writes {
        let written = usize::try_from(at)
            .ok()
            .and_then(|at| memory.write(&mut *caller, at, bytes).ok());
        if written.is_none() {
            return status::INVALID_MEMORY_ACCESS;
        }
    }
    status::OK
}

/// Memory of the guest, as the guest itself gives it out.
fn allocate<T>(caller: &mut Caller<'_, T>, size: usize) -> Option<(u32, u32)> {
    let size = u32::try_from(size).ok()?;
    let function = ["proxy_on_memory_allocate", "malloc"]
        .into_iter()
        .find_map(|name| caller.get_export(name).and_then(Extern::into_func))?;
    let typed = function.typed::<u32, u32>(&*caller).ok()?;
    // A guest that traps here has no memory for the reply.
    let at = typed.call(&mut *caller, size).ok()?;
    (at != 0).then_some((at, size))
}

#[cfg(test)]
mod tests;
