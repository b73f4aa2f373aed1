//! Metrics: defined by name, then known by number. nginx's engine had none in most of its versions.

use wasmtime::{Caller, Linker};

use super::{HostCall, Outcome, Stop, host};
use crate::vm::VmData;

type Guest<'a> = Caller<'a, VmData>;

pub(super) fn define(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_define_metric",
        |guest: Guest<'_>, kind: u32, name: u32, name_size: u32, place: u32| {
            host(guest, "proxy_define_metric", |call| {
                check(call)?;
                let name = call.read_text(name, name_size)?;
                let id = call.with(|state, _| state.metrics.define(kind, &name))?;
                call.write_u32(place, id)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_increment_metric",
        |guest: Guest<'_>, metric: u32, offset: i64| {
            host(guest, "proxy_increment_metric", |call| {
                check(call)?;
                Ok(call.with(|state, _| state.metrics.increment(metric, offset))?)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_record_metric",
        |guest: Guest<'_>, metric: u32, value: u64| {
            host(guest, "proxy_record_metric", |call| {
                check(call)?;
                Ok(call.with(|state, _| state.metrics.record(metric, value))?)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_metric",
        |guest: Guest<'_>, metric: u32, place: u32| {
            host(guest, "proxy_get_metric", |call| {
                check(call)?;
                let value = call.with(|state, _| state.metrics.value(metric))?;
                call.write(place, &value.to_le_bytes())
            })
        },
    )?;
    Ok(())
}

fn check(call: &mut HostCall<'_, '_>) -> Outcome {
    match call.with(|state, _| state.profile.is_nginx()) {
        true => Err(Stop::trap("NYI - host function not implemented")),
        false => Ok(()),
    }
}
