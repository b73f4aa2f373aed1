//! Log, time, ticks, contexts, and what becomes of a request.

use wasmtime::{Caller, Linker};

use super::types::{Callback, LogLevel, Status};
use super::{Stop, host};
use crate::headers::Headers;
use crate::message::Response;
use crate::profile::Profile;
use crate::state::{Effect, State, TickTimer};
use crate::vm::VmData;

type Guest<'a> = Caller<'a, VmData>;

pub(super) fn define(linker: &mut Linker<VmData>, profile: &Profile) -> wasmtime::Result<()> {
    define_host(linker, profile)?;
    define_request(linker)?;
    define_grpc(linker)
}

fn define_host(linker: &mut Linker<VmData>, profile: &Profile) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_log",
        |guest: Guest<'_>, level: u32, at: u32, size: u32| {
            host(guest, "proxy_log", |call| {
                let level = LogLevel::from_number(level).ok_or(Status::BadArgument)?;
                let text = call.read(at, size)?;
                call.with(|state, vm| state.write_log(vm.worker, level, &text));
                Ok(())
            })
        },
    )?;
    if !profile.is_nginx() {
        // nginx has this function with another arity; no worker starts with it.
        linker.func_wrap(
            "env",
            "proxy_get_log_level",
            |guest: Guest<'_>, place: u32| {
                host(guest, "proxy_get_log_level", |call| {
                    let level = call.with(|state, _| state.log_level);
                    call.write_u32(place, level as u32)
                })
            },
        )?;
    }
    linker.func_wrap(
        "env",
        "proxy_get_current_time_nanoseconds",
        |guest: Guest<'_>, place: u32| {
            host(guest, "proxy_get_current_time_nanoseconds", |call| {
                let now = call.with(|state, _| state.clock.shown());
                call.write(place, &now.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_tick_period_milliseconds",
        |guest: Guest<'_>, period: u32| {
            host(guest, "proxy_set_tick_period_milliseconds", |call| {
                call.with(|state, vm| set_tick(state, vm, period))
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_effective_context",
        |guest: Guest<'_>, context: u32| {
            host(guest, "proxy_set_effective_context", |call| {
                let chosen = call.with(|state, vm| match state.profile {
                    // Does nothing there, and says that it did.
                    Profile::Nginx(_) => Ok(vm.effective),
                    Profile::Envoy => match state.context(vm.vm, context) {
                        Some(_) => Ok(context),
                        None => Err(Status::BadArgument),
                    },
                })?;
                call.caller.data_mut().effective = chosen;
                Ok(())
            })
        },
    )?;
    linker.func_wrap("env", "proxy_done", |guest: Guest<'_>| {
        host(guest, "proxy_done", |call| {
            call.with(|state, vm| {
                not_in_nginx(state)?;
                let context = state.context(vm.vm, vm.effective).ok_or(Status::NotFound)?;
                if !context.lingers {
                    return Err(Status::NotFound.into());
                }
                state.effects.push(Effect::Done {
                    vm: vm.vm,
                    context: vm.effective,
                });
                Ok(())
            })
        })
    })?;
    linker.func_wrap(
        "env",
        "proxy_get_status",
        |guest: Guest<'_>, code: u32, place: u32, size: u32| {
            host(guest, "proxy_get_status", |call| {
                call.with(|state, _| not_in_nginx(state))?;
                call.write_u32(code, 0)?;
                call.give(b"", place, size)
            })
        },
    )?;
    Ok(())
}

fn define_request(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_continue_stream",
        |guest: Guest<'_>, kind: u32| {
            host(guest, "proxy_continue_stream", |call| {
                if kind > 1 {
                    return Err(Status::Unimplemented.into());
                }
                call.with(|state, vm| {
                    // Without a request there is nothing to resume, and no error either.
                    if let Some((stream, _)) = state.stream_of(vm.vm, vm.effective) {
                        state.effects.push(Effect::Resume {
                            stream,
                            response: kind == 1,
                        });
                    }
                });
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_close_stream",
        |guest: Guest<'_>, kind: u32| {
            host(guest, "proxy_close_stream", |call| {
                call.with(|state, vm| {
                    not_in_nginx(state)?;
                    if kind > 1 {
                        return Err(Status::Unimplemented.into());
                    }
                    if let Some((stream, _)) = state.stream_of(vm.vm, vm.effective) {
                        state.effects.push(Effect::Close { stream });
                    }
                    Ok(())
                })
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_send_local_response",
        |guest: Guest<'_>,
         status: u32,
         _details: u32,
         _details_size: u32,
         body: u32,
         body_size: u32,
         headers: u32,
         headers_size: u32,
         _grpc_status: i32| {
            host(guest, "proxy_send_local_response", |call| {
                let body = call.read(body, body_size)?;
                let headers = call.read(headers, headers_size)?;
                let headers = Headers::from_wire(&headers).ok_or(Status::BadArgument)?;
                let status = u16::try_from(status).map_err(|_| Status::BadArgument)?;
                let response = Response {
                    status,
                    headers,
                    body,
                };
                call.with(|state, vm| local_response(state, vm, response))
            })
        },
    )?;
    Ok(())
}

fn define_grpc(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    fn unimplemented(guest: Guest<'_>, name: &'static str) -> wasmtime::Result<u32> {
        host(guest, name, |call| {
            call.with(|state, _| not_in_nginx(state))?;
            Err(Status::Unimplemented.into())
        })
    }
    linker.func_wrap(
        "env",
        "proxy_grpc_call",
        |guest: Guest<'_>,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32| { unimplemented(guest, "proxy_grpc_call") },
    )?;
    linker.func_wrap(
        "env",
        "proxy_grpc_stream",
        |guest: Guest<'_>,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32| { unimplemented(guest, "proxy_grpc_stream") },
    )?;
    linker.func_wrap(
        "env",
        "proxy_grpc_send",
        |guest: Guest<'_>, _: u32, _: u32, _: u32, _: u32| unimplemented(guest, "proxy_grpc_send"),
    )?;
    linker.func_wrap("env", "proxy_grpc_cancel", |guest: Guest<'_>, _: u32| {
        unimplemented(guest, "proxy_grpc_cancel")
    })?;
    linker.func_wrap("env", "proxy_grpc_close", |guest: Guest<'_>, _: u32| {
        unimplemented(guest, "proxy_grpc_close")
    })?;
    Ok(())
}

/// Functions that nginx links and traps in.
fn not_in_nginx(state: &State) -> Result<(), Stop> {
    match state.profile {
        Profile::Envoy => Ok(()),
        Profile::Nginx(_) => Err(Stop::trap("NYI - host function not implemented")),
    }
}

fn set_tick(state: &mut State, vm: &VmData, milliseconds: u32) -> Result<(), Stop> {
    let context = state
        .context(vm.vm, vm.effective)
        .ok_or(Status::BadArgument)?;
    let (root, of_request) = (context.root, context.stream.is_some());
    let known = state
        .ticks
        .iter()
        .any(|tick| tick.vm == vm.vm && tick.root == root);
    if state.profile.is_nginx() {
        if of_request {
            return Err(Stop::trap("set_tick_period: not a root context"));
        }
        if milliseconds > 0 && known {
            return Err(Stop::trap("tick_period already set"));
        }
    }
    state
        .ticks
        .retain(|tick| tick.vm != vm.vm || tick.root != root);
    if milliseconds > 0 {
        let period = u64::from(milliseconds) * 1_000_000;
        state.ticks.push(TickTimer {
            vm: vm.vm,
            root,
            period,
            due: state.clock.now() + period,
        });
    }
    Ok(())
}

fn local_response(state: &mut State, vm: &VmData, response: Response) -> Result<(), Stop> {
    let nginx = state.profile.is_nginx();
    let starting = vm.callback.is_starting() || vm.callback == Callback::Tick;
    let Some((stream, known)) = state.stream_of(vm.vm, vm.effective) else {
        // Envoy has no request to answer and says nothing.
        return if nginx && !starting {
            Err(Status::BadArgument.into())
        } else {
            Ok(())
        };
    };
    let sent = known.in_response();
    let stashed = state
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Local { stream: other, .. } if *other == stream));
    if nginx && stashed {
        return Err(Stop::trap("local response already stashed"));
    }
    if nginx && sent {
        return Err(Stop::trap("response already sent"));
    }
    if stashed || (sent && !vm.callback.is_response()) {
        return Ok(());
    }
    state.effects.push(Effect::Local { stream, response });
    Ok(())
}
