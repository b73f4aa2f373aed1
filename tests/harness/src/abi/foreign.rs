//! `proxy_call_foreign_function`: functions that the host offers by name.

use std::sync::Arc;

use wasmtime::{Caller, Linker};

use super::types::Status;
use super::{Stop, host};
use crate::foreign::ForeignCaller;
use crate::vm::VmData;

pub(super) fn define(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_call_foreign_function",
        |guest: Caller<'_, VmData>,
         name: u32,
         name_size: u32,
         arguments: u32,
         arguments_size: u32,
         place: u32,
         size: u32| {
            host(guest, "proxy_call_foreign_function", |call| {
                let name = call.read_text(name, name_size)?;
                let arguments = call.read(arguments, arguments_size)?;
                let (functions, caller, options) = call.with(|state, vm| {
                    let root = state.context(vm.vm, vm.effective).map_or(0, |c| c.root);
                    let caller = ForeignCaller {
                        worker: vm.worker,
                        vm: vm.vm,
                        root,
                        events: state.events.clone(),
                    };
                    let options = state
                        .profile
                        .nginx()
                        .map(|options| options.foreign_functions);
                    (state.foreign.as_ref().map(Arc::clone), caller, options)
                });
                if options == Some(false) {
                    return Err(Stop::trap("NYI - host function not implemented"));
                }
                let answer = match functions {
                    Some(functions) => functions.call(&caller, &name, &arguments),
                    None => Err(Status::NotFound),
                };
                match answer {
                    Err(Status::NotFound) if options.is_some() => {
                        Err(Stop::trap(format!("unknown foreign function \"{name}\"")))
                    }
                    Err(status) => Err(status.into()),
                    // A filter may leave the places out where it expects nothing.
                    Ok(_) if place == 0 || size == 0 => Ok(()),
                    Ok(results) => call.give(&results, place, size),
                }
            })
        },
    )?;
    Ok(())
}
