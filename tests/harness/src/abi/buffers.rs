//! Bodies, configurations, and other bytes that are read and set in part.

use wasmtime::{Caller, Linker};

use super::types::{BufferKind, Callback, Status};
use super::{Outcome, Stop, host};
use crate::headers::size32;
use crate::profile::Profile;
use crate::state::{AnswerBody, State};
use crate::vm::VmData;

type Guest<'a> = Caller<'a, VmData>;

pub(super) fn define(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_buffer_bytes",
        |guest: Guest<'_>, kind: u32, start: u32, length: u32, place: u32, size: u32| {
            host(guest, "proxy_get_buffer_bytes", |call| {
                let bytes = call.with(|state, vm| view(state, vm, kind))?;
                let (start, length) = (start as usize, length as usize);
                if u32::try_from(start + length).is_err() {
                    return Err(Status::BadArgument.into());
                }
                let end = bytes.len().min(start + length);
                let part = bytes.get(start..end).unwrap_or_default();
                let nginx = call.with(|state, _| state.profile.is_nginx());
                if nginx && part.is_empty() {
                    return Err(Status::NotFound.into());
                }
                call.give(part, place, size)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_buffer_status",
        |guest: Guest<'_>, kind: u32, size: u32, flags: u32| {
            host(guest, "proxy_get_buffer_status", |call| {
                let bytes = call.with(|state, vm| view(state, vm, kind))?;
                call.write_u32(size, size32(bytes.len()))?;
                call.write_u32(flags, 0)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_buffer_bytes",
        |guest: Guest<'_>, kind: u32, start: u32, length: u32, at: u32, size: u32| {
            host(guest, "proxy_set_buffer_bytes", |call| {
                let bytes = call.read(at, size)?;
                let (start, length) = (start as usize, length as usize);
                call.with(|state, vm| set(state, vm, kind, start, length, bytes))
            })
        },
    )?;
    Ok(())
}

fn view(state: &mut State, vm: &VmData, kind: u32) -> Result<Vec<u8>, Stop> {
    let kind = BufferKind::from_number(kind).ok_or(Status::BadArgument)?;
    match kind {
        BufferKind::CallBody => match state.answer.as_ref().map(|answer| &answer.body) {
            Some(AnswerBody::Broken) => Err(Status::BadArgument.into()),
            Some(AnswerBody::Bytes(bytes)) => Ok(bytes.clone()),
            Some(AnswerBody::None) => Err(Status::NotFound.into()),
            None if state.profile.is_nginx() => Err(Status::BadArgument.into()),
            None => Err(Status::NotFound.into()),
        },
        BufferKind::ForeignArguments => {
            Ok(state.foreign_arguments.clone().ok_or(Status::NotFound)?)
        }
        BufferKind::PluginConfiguration | BufferKind::VmConfiguration => {
            let context = state.context(vm.vm, vm.effective).ok_or(Status::NotFound)?;
            if kind == BufferKind::VmConfiguration {
                return Ok(state.plugins[context.plugin].vm_configuration.clone());
            }
            let known = state.vms.get(&vm.vm);
            let own = known.and_then(|known| known.configurations.get(&context.root));
            Ok(own.ok_or(Status::NotFound)?.clone())
        }
        BufferKind::RequestBody => {
            let spooled = spooled(state, vm);
            let (_, stream) = state
                .stream_of(vm.vm, vm.effective)
                .ok_or(Status::NotFound)?;
            if spooled || stream.in_response() {
                return Err(Status::NotFound.into());
            }
            Ok(stream.buffer.clone().ok_or(Status::NotFound)?)
        }
        BufferKind::ResponseBody => {
            let (_, stream) = state
                .stream_of(vm.vm, vm.effective)
                .ok_or(Status::NotFound)?;
            if !stream.in_response() {
                return Err(Status::NotFound.into());
            }
            Ok(stream.buffer.clone().ok_or(Status::NotFound)?)
        }
    }
}

fn set(
    state: &mut State,
    vm: &VmData,
    kind: u32,
    start: usize,
    length: usize,
    bytes: Vec<u8>,
) -> Outcome {
    let kind = BufferKind::from_number(kind).ok_or(Status::BadArgument)?;
    let inside = match kind {
        BufferKind::RequestBody => Callback::RequestBody,
        BufferKind::ResponseBody => Callback::ResponseBody,
        _ => return Err(Status::BadArgument.into()),
    };
    if state.profile.is_nginx() && vm.callback != inside {
        return Err(Stop::trap(match kind {
            BufferKind::RequestBody => "cannot set request body",
            _ => "cannot set response body",
        }));
    }
    let profile = state.profile.clone();
    let spooled = kind == BufferKind::RequestBody && spooled(state, vm);
    let (_, stream) = state
        .stream_of(vm.vm, vm.effective)
        .ok_or(Status::NotFound)?;
    if stream.in_response() != (kind == BufferKind::ResponseBody) {
        return Err(Status::NotFound.into());
    }
    let buffer = stream.buffer.as_mut().ok_or(Status::NotFound)?;
    match profile {
        Profile::Envoy => set_envoy(buffer, start, length, bytes)?,
        Profile::Nginx(_) if spooled => buffer.extend(bytes),
        Profile::Nginx(_) => set_nginx(buffer, start, length, bytes),
    }
    Ok(())
}

/// Envoy knows three forms only: before all, instead of all, after all.
fn set_envoy(
    buffer: &mut Vec<u8>,
    start: usize,
    length: usize,
    bytes: Vec<u8>,
) -> Result<(), Status> {
    if start == 0 && length == 0 {
        buffer.splice(..0, bytes);
    } else if start == 0 && length >= buffer.len() {
        *buffer = bytes;
    } else if start >= buffer.len() {
        buffer.extend(bytes);
    } else {
        return Err(Status::BadArgument);
    }
    Ok(())
}

/// nginx keeps what stands before `start` and takes at most `length` new bytes.
fn set_nginx(buffer: &mut Vec<u8>, start: usize, length: usize, mut bytes: Vec<u8>) {
    if start == 0 && length == 0 && !bytes.is_empty() {
        buffer.splice(..0, bytes);
        return;
    }
    if length > 0 {
        bytes.truncate(length);
    }
    buffer.resize(start, b' ');
    buffer.extend(bytes);
}

/// nginx has put a long body into a file, where a filter cannot read it.
fn spooled(state: &mut State, vm: &VmData) -> bool {
    let Some(limit) = state
        .profile
        .nginx()
        .map(|options| options.client_body_buffer_size)
    else {
        return false;
    };
    state
        .stream_of(vm.vm, vm.effective)
        .is_some_and(|(_, stream)| stream.body.iter().map(Vec::len).sum::<usize>() > limit)
}
