//! The part of WASI preview 1 that gateways have: environment, clock, random
//! bytes, standard output as log. There are no files, no arguments, no input.

use wasmtime::{Caller, Linker};

use super::types::LogLevel;
use super::{HostCall, Stop, host};
use crate::headers::size32;
use crate::vm::VmData;

type Guest<'a> = Caller<'a, VmData>;

const WASI: &str = "wasi_snapshot_preview1";
const BADF: u32 = 8;
const FAULT: u32 = 21;
const NOSYS: u32 = 52;

pub(super) fn define(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    define_environment(linker)?;
    define_sources(linker)?;
    define_files(linker)?;
    linker.func_wrap(
        WASI,
        "proc_exit",
        |_: Guest<'_>, code: u32| -> wasmtime::Result<()> {
            Err(wasmtime::Error::msg(format!("proc_exit({code})")))
        },
    )?;
    linker.func_wrap(WASI, "sched_yield", |_: Guest<'_>| 0_u32)?;
    linker.func_wrap(
        WASI,
        "poll_oneoff",
        |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32| NOSYS,
    )?;
    linker.func_wrap(
        "env",
        "emscripten_notify_memory_growth",
        |_: Guest<'_>, _: u32| {},
    )?;
    Ok(())
}

/// As [`host`], with WASI's number for a bad address.
fn wasi(
    guest: Guest<'_>,
    name: &'static str,
    body: impl FnOnce(&mut HostCall<'_, '_>) -> Result<(), Stop>,
) -> wasmtime::Result<u32> {
    let number = host(guest, name, body)?;
    Ok(if number == 0 { 0 } else { FAULT })
}

fn define_environment(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    fn variables(call: &HostCall<'_, '_>) -> Vec<Vec<u8>> {
        call.with(|state, _| {
            state
                .environment
                .iter()
                .map(|(k, v)| format!("{k}={v}\0").into_bytes())
                .collect()
        })
    }
    linker.func_wrap(
        WASI,
        "environ_sizes_get",
        |guest: Guest<'_>, count: u32, size: u32| {
            wasi(guest, "environ_sizes_get", |call| {
                let variables = variables(call);
                call.write_u32(count, size32(variables.len()))?;
                call.write_u32(size, size32(variables.concat().len()))
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "environ_get",
        |guest: Guest<'_>, places: u32, bytes: u32| {
            wasi(guest, "environ_get", |call| {
                let mut at = bytes;
                for (index, variable) in variables(call).iter().enumerate() {
                    call.write_u32(places + size32(index) * 4, at)?;
                    call.write(at, variable)?;
                    at += size32(variable.len());
                }
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "args_sizes_get",
        |guest: Guest<'_>, count: u32, size: u32| {
            wasi(guest, "args_sizes_get", |call| {
                call.write_u32(count, 0)?;
                call.write_u32(size, 0)
            })
        },
    )?;
    linker.func_wrap(WASI, "args_get", |_: Guest<'_>, _: u32, _: u32| 0_u32)?;
    Ok(())
}

fn define_sources(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        WASI,
        "clock_time_get",
        |guest: Guest<'_>, _clock: u32, _precision: u64, place: u32| {
            wasi(guest, "clock_time_get", |call| {
                let now = call.with(|state, _| state.clock.shown());
                call.write(place, &now.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "clock_res_get",
        |guest: Guest<'_>, _clock: u32, place: u32| {
            wasi(guest, "clock_res_get", |call| {
                call.write(place, &1_u64.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "random_get",
        |guest: Guest<'_>, place: u32, size: u32| {
            wasi(guest, "random_get", |call| {
                // Repeatable on purpose: the same run gives the same bytes.
                let words = size.div_ceil(8);
                let mut bytes: Vec<u8> = (0..words)
                    .flat_map(|_| call.with(|state, _| state.next_random()).to_le_bytes())
                    .collect();
                bytes.truncate(size as usize);
                call.write(place, &bytes)
            })
        },
    )?;
    Ok(())
}

fn define_files(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        WASI,
        "fd_write",
        |guest: Guest<'_>, file: u32, parts: u32, count: u32, written: u32| {
            let level = match file {
                1 => LogLevel::Info,
                2 => LogLevel::Error,
                _ => return Ok(BADF),
            };
            wasi(guest, "fd_write", |call| {
                let mut text = Vec::new();
                for index in 0..count {
                    let at = call.read_u32(parts + index * 8)?;
                    let size = call.read_u32(parts + index * 8 + 4)?;
                    text.extend(call.read(at, size)?);
                }
                call.with(|state, vm| {
                    let line = text.strip_suffix(b"\n").unwrap_or(&text);
                    state.write_log(vm.worker, level, line);
                });
                call.write_u32(written, size32(text.len()))
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_read",
        |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32| BADF,
    )?;
    linker.func_wrap(
        WASI,
        "fd_seek",
        |_: Guest<'_>, _: u32, _: u64, _: u32, _: u32| BADF,
    )?;
    linker.func_wrap(WASI, "fd_close", |_: Guest<'_>, _: u32| BADF)?;
    linker.func_wrap(
        WASI,
        "fd_fdstat_set_flags",
        |_: Guest<'_>, _: u32, _: u32| BADF,
    )?;
    linker.func_wrap(WASI, "fd_filestat_get", |_: Guest<'_>, _: u32, _: u32| BADF)?;
    linker.func_wrap(WASI, "fd_prestat_get", |_: Guest<'_>, _: u32, _: u32| BADF)?;
    linker.func_wrap(
        WASI,
        "fd_prestat_dir_name",
        |_: Guest<'_>, _: u32, _: u32, _: u32| BADF,
    )?;
    linker.func_wrap(
        WASI,
        "fd_readdir",
        |_: Guest<'_>, _: u32, _: u32, _: u32, _: u64, _: u32| BADF,
    )?;
    linker.func_wrap(
        WASI,
        "fd_fdstat_get",
        |guest: Guest<'_>, file: u32, place: u32| {
            if !matches!(file, 1 | 2) {
                return Ok(BADF);
            }
            wasi(guest, "fd_fdstat_get", |call| {
                // A character device that can be written: rights bit 6.
                let mut stat = [0; 24];
                stat[0] = 2;
                stat[8] = 64;
                call.write(place, &stat)
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "path_open",
        |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32, _: u32, _: u64, _: u64, _: u32, _: u32| BADF,
    )?;
    linker.func_wrap(
        WASI,
        "path_filestat_get",
        |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32, _: u32| BADF,
    )?;
    Ok(())
}
