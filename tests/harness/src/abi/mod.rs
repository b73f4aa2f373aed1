//! The host's side of Proxy-Wasm ABI 0.2.1, one file a subject.
//!
//! Each function checks its arguments as bytes and numbers, reads and changes
//! the [`State`](crate::state::State), and never calls back into the gateway.

mod buffers;
mod callouts;
mod control;
mod data;
mod foreign;
mod maps;
mod metrics;
mod properties;
pub(crate) mod types;
mod wasi;

use wasmtime::{Caller, InstancePre, Linker, UnknownImportError};

use crate::fault::HostFault;
use crate::headers::size32;
use crate::module::{LoadError, engine};
use crate::profile::Profile;
use crate::state::{State, lock};
use crate::vm::VmData;
use types::Status;

/// The imports that a filter may have under this profile.
pub(crate) fn linker(profile: &Profile) -> Result<Linker<VmData>, LoadError> {
    let mut linker = Linker::new(engine());
    let define = |linker: &mut Linker<VmData>| -> wasmtime::Result<()> {
        buffers::define(linker)?;
        callouts::define(linker)?;
        control::define(linker, profile)?;
        data::define(linker)?;
        foreign::define(linker)?;
        maps::define(linker)?;
        metrics::define(linker)?;
        properties::define(linker)?;
        wasi::define(linker)
    };
    define(&mut linker).map_err(|error| LoadError::Instantiate(format!("{error:#}")))?;
    Ok(linker)
}

/// Resolves a module's imports: each of them, called or not, as gateways do.
pub(crate) fn link(
    linker: &Linker<VmData>,
    module: &wasmtime::Module,
) -> Result<InstancePre<VmData>, LoadError> {
    linker.instantiate_pre(module).map_err(|error| {
        match error.downcast_ref::<UnknownImportError>() {
            Some(unknown) => LoadError::UnknownImport {
                module: unknown.module().to_owned(),
                name: unknown.name().to_owned(),
            },
            None => LoadError::Instantiate(format!("{error:#}")),
        }
    })
}

/// Why a host function does not simply return Ok.
pub(crate) enum Stop {
    /// The worker's process dies of it.
    Death(String),
    Status(Status),
    Trap(String),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Stop {
    pub(crate) fn trap(reason: impl Into<String>) -> Self {
        Self::Trap(reason.into())
    }

    pub(crate) fn death(reason: impl Into<String>) -> Self {
        Self::Death(reason.into())
    }
}

pub(crate) type Outcome = Result<(), Stop>;

/// Runs one host function: counts it, lets faults have their way, and makes
/// of the outcome what the guest gets.
pub(crate) fn host(
    mut caller: Caller<'_, VmData>,
    name: &'static str,
    body: impl FnOnce(&mut HostCall<'_, '_>) -> Outcome,
) -> wasmtime::Result<u32> {
    let fault = {
        let mut state = lock(&caller.data().state);
        *state.host_calls.entry(name).or_default() += 1;
        state.faults.host(name)
    };
    let outcome = match fault {
        Some(HostFault::Status(status)) => Err(Stop::Status(status)),
        Some(HostFault::Trap) => Err(Stop::trap("a fault was put in")),
        None => body(&mut HostCall {
            caller: &mut caller,
        }),
    };
    match outcome {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Stop::Status(status)) => Ok(status as u32),
        Err(Stop::Trap(reason)) => Err(wasmtime::Error::msg(format!("{name}: {reason}"))),
        Err(Stop::Death(reason)) => {
            lock(&caller.data().state).death = Some(format!("{name}: {reason}"));
            Err(wasmtime::Error::msg(format!("{name}: {reason}")))
        }
    }
}

/// A call from a guest, with the means to read and write its memory.
pub(crate) struct HostCall<'a, 'b> {
    pub(crate) caller: &'a mut Caller<'b, VmData>,
}

impl HostCall<'_, '_> {
    pub(crate) fn vm(&self) -> &VmData {
        self.caller.data()
    }

    /// Runs `work` on the state; never call the guest from within.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State, &VmData) -> R) -> R {
        let vm = self.caller.data();
        work(&mut lock(&vm.state), vm)
    }

    pub(crate) fn read(&self, at: u32, length: u32) -> Result<Vec<u8>, Stop> {
        let memory = self.vm().memory.ok_or(Status::InvalidMemoryAccess)?;
        let start = at as usize;
        let end = start
            .checked_add(length as usize)
            .ok_or(Status::InvalidMemoryAccess)?;
        let bytes = memory.data(&*self.caller).get(start..end);
        Ok(bytes.ok_or(Status::InvalidMemoryAccess)?.to_vec())
    }

    pub(crate) fn read_text(&self, at: u32, length: u32) -> Result<String, Stop> {
        let bytes = self.read(at, length)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn read_u32(&self, at: u32) -> Result<u32, Stop> {
        let bytes = self.read(at, 4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) -> Outcome {
        let memory = self.vm().memory.ok_or(Status::InvalidMemoryAccess)?;
        memory
            .write(&mut *self.caller, at as usize, bytes)
            .map_err(|_| Status::InvalidMemoryAccess.into())
    }

    pub(crate) fn write_u32(&mut self, at: u32, number: u32) -> Outcome {
        self.write(at, &number.to_le_bytes())
    }

    /// Puts `bytes` into memory that the guest allocates, and their place and
    /// size where the guest asked for them.
    pub(crate) fn give(&mut self, bytes: &[u8], place: u32, size: u32) -> Outcome {
        let mut at = 0;
        if !bytes.is_empty() {
            let allocate = self.vm().allocate.clone();
            let allocate = allocate.ok_or_else(|| Stop::trap("the module exports no allocator"))?;
            let length = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
            at = allocate
                .call(&mut *self.caller, length)
                .map_err(|error| Stop::trap(format!("allocating: {error:#}")))?;
            if at == 0 {
                return Err(Status::InvalidMemoryAccess.into());
            }
            self.write(at, bytes)?;
        }
        self.write_u32(place, at)?;
        self.write_u32(size, size32(bytes.len()))
    }
}
