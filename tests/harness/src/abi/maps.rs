//! Header maps: of the request, of the response, of a callout's answer.

use wasmtime::{Caller, Linker};

use super::types::{Callback, LogLevel, MapKind, Status};
use super::{HostCall, Outcome, Stop, host};
use crate::headers::{Headers, size32};
use crate::profile::Profile;
use crate::state::State;
use crate::vm::VmData;

type Guest<'a> = Caller<'a, VmData>;

/// nginx hands out no more pairs than this, and says OK.
const NGINX_PAIRS: usize = 100;

pub(super) fn define(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_header_map_pairs",
        |guest: Guest<'_>, map: u32, place: u32, size: u32| {
            host(guest, "proxy_get_header_map_pairs", |call| {
                let headers = call.with(|state, vm| {
                    let headers = view(state, vm, map)?;
                    Ok::<_, Stop>(match state.profile {
                        Profile::Envoy => headers,
                        Profile::Nginx(_) => {
                            headers.pairs().iter().take(NGINX_PAIRS).cloned().collect()
                        }
                    })
                })?;
                call.give(&headers.to_wire(), place, size)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_header_map_size",
        |guest: Guest<'_>, map: u32, size: u32| {
            host(guest, "proxy_get_header_map_size", |call| {
                let headers = call.with(|state, vm| view(state, vm, map))?;
                call.write_u32(size, size32(headers.to_wire().len()))
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_header_map_pairs",
        |guest: Guest<'_>, map: u32, at: u32, length: u32| {
            host(guest, "proxy_set_header_map_pairs", |call| {
                let wire = call.read(at, length)?;
                let pairs = Headers::from_wire(&wire).ok_or(Status::BadArgument)?;
                call.with(|state, vm| set_all(state, vm, map, &pairs))
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_header_map_value",
        |guest: Guest<'_>, map: u32, key: u32, key_size: u32, place: u32, size: u32| {
            host(guest, "proxy_get_header_map_value", |call| {
                let key = call.read(key, key_size)?;
                let value = call.with(|state, vm| value(state, vm, map, &key))?;
                call.give(&value, place, size)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_add_header_map_value",
        |guest: Guest<'_>, map: u32, key: u32, key_size: u32, value: u32, value_size: u32| {
            host(guest, "proxy_add_header_map_value", |call| {
                write(
                    call,
                    map,
                    (key, key_size),
                    Some((value, value_size)),
                    Change::Add,
                )
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_replace_header_map_value",
        |guest: Guest<'_>, map: u32, key: u32, key_size: u32, value: u32, value_size: u32| {
            host(guest, "proxy_replace_header_map_value", |call| {
                write(
                    call,
                    map,
                    (key, key_size),
                    Some((value, value_size)),
                    Change::Replace,
                )
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_remove_header_map_value",
        |guest: Guest<'_>, map: u32, key: u32, key_size: u32| {
            host(guest, "proxy_remove_header_map_value", |call| {
                write(call, map, (key, key_size), None, Change::Remove)
            })
        },
    )?;
    Ok(())
}

#[derive(Clone, Copy)]
enum Change {
    Add,
    Remove,
    Replace,
}

fn write(
    call: &mut HostCall<'_, '_>,
    map: u32,
    key: (u32, u32),
    value: Option<(u32, u32)>,
    change: Change,
) -> Outcome {
    let key = call.read(key.0, key.1)?;
    let value = match value {
        Some((at, length)) => call.read(at, length)?,
        None => Vec::new(),
    };
    call.with(|state, vm| apply(state, vm, map, &key, value, change))
}

/// The map as the filter sees it.
fn view(state: &mut State, vm: &VmData, map: u32) -> Result<Headers, Stop> {
    let kind = MapKind::from_number(map).ok_or(Status::BadArgument)?;
    if matches!(kind, MapKind::CallHeaders | MapKind::CallTrailers) {
        let answer = state.answer.as_ref().ok_or(Status::BadArgument)?;
        let map = match kind {
            MapKind::CallHeaders => answer.headers.as_ref(),
            _ => answer.trailers.as_ref(),
        };
        return Ok(map.ok_or(Status::BadArgument)?.clone());
    }
    let (_, stream) = state
        .stream_of(vm.vm, vm.effective)
        .ok_or(Status::BadArgument)?;
    let map = match kind {
        MapKind::RequestHeaders => Some(&stream.request),
        MapKind::RequestTrailers => (!stream.trailers.is_empty()).then_some(&stream.trailers),
        MapKind::ResponseHeaders => stream.response.as_ref(),
        _ => None,
    };
    Ok(map.ok_or(Status::BadArgument)?.clone())
}

fn value(state: &mut State, vm: &VmData, map: u32, key: &[u8]) -> Result<Vec<u8>, Stop> {
    if state.profile.is_nginx() && key == b":dispatch_status" {
        let status = state
            .answer
            .as_ref()
            .and_then(|answer| answer.dispatch_status);
        return Ok(status.ok_or(Status::NotFound)?.into());
    }
    let nginx = state.profile.is_nginx();
    let headers = view(state, vm, map)?;
    let value = match nginx {
        true => headers.first(key).map(<[u8]>::to_vec),
        false => headers.joined(envoy_name(&headers, key)),
    };
    Ok(value.ok_or(Status::NotFound)?)
}

/// Envoy keeps a request's Host as `:authority` and finds it by either name.
fn envoy_name<'a>(headers: &Headers, key: &'a [u8]) -> &'a [u8] {
    if key.eq_ignore_ascii_case(b"host") && headers.first(":authority").is_some() {
        return b":authority";
    }
    key
}

fn set_all(state: &mut State, vm: &VmData, map: u32, pairs: &Headers) -> Outcome {
    let kind = MapKind::from_number(map).ok_or(Status::BadArgument)?;
    if !state.profile.is_nginx() {
        *writable(state, vm, kind)? = pairs.lowercased();
        return Ok(());
    }
    // nginx clears, which does not reach the upstream, and then sets each pair.
    let old = writable(state, vm, kind)?.clone();
    for (name, _) in old.without_pseudo().pairs() {
        apply(state, vm, map, name, Vec::new(), Change::Remove)?;
    }
    for (name, value) in pairs.pairs() {
        apply(state, vm, map, name, value.clone(), Change::Replace)?;
    }
    Ok(())
}

fn apply(
    state: &mut State,
    vm: &VmData,
    map: u32,
    key: &[u8],
    value: Vec<u8>,
    change: Change,
) -> Outcome {
    let kind = MapKind::from_number(map).ok_or(Status::BadArgument)?;
    match state.profile {
        Profile::Envoy => {
            let headers = writable(state, vm, kind)?;
            let name = envoy_name(headers, key).to_ascii_lowercase();
            match change {
                Change::Add => headers.add(name, value),
                Change::Remove => _ = headers.remove(name),
                Change::Replace => headers.replace(name, value),
            }
            Ok(())
        }
        Profile::Nginx(_) => apply_nginx(state, vm, kind, key, value, change),
    }
}

fn apply_nginx(
    state: &mut State,
    vm: &VmData,
    kind: MapKind,
    key: &[u8],
    value: Vec<u8>,
    change: Change,
) -> Outcome {
    let of_request = kind == MapKind::RequestHeaders;
    if of_request && (key == b":authority" || key == b":scheme") {
        let text = format!("cannot set read-only \"{}\" header", key.escape_ascii());
        state.write_log(vm.worker, LogLevel::Error, text.as_bytes());
        return Ok(());
    }
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        // Logged and left as it was, and the filter is told that all is well.
        state.write_log(vm.worker, LogLevel::Error, b"invalid header value");
        return Ok(());
    }
    let produced = state
        .stream_of(vm.vm, vm.effective)
        .is_some_and(|(_, stream)| stream.in_response());
    if of_request && produced {
        state.write_log(
            vm.worker,
            LogLevel::Error,
            b"cannot set request header: response produced",
        );
        return Ok(());
    }
    let headers = writable(state, vm, kind)?;
    change_nginx(headers, key, value.clone(), change);
    let pseudo = key.starts_with(b":");
    if of_request && !pseudo && !matches!(change, Change::Remove) {
        // A removal leaves the wire alone: the upstream still gets the header.
        let (_, stream) = state
            .stream_of(vm.vm, vm.effective)
            .ok_or(Status::BadArgument)?;
        change_nginx(&mut stream.wire, key, value, change);
    }
    Ok(())
}

fn change_nginx(headers: &mut Headers, key: &[u8], value: Vec<u8>, change: Change) {
    match change {
        Change::Add => headers.add(key, value),
        Change::Remove => _ = headers.remove(key),
        Change::Replace => headers.set_first(key, value),
    }
}

fn writable<'a>(state: &'a mut State, vm: &VmData, kind: MapKind) -> Result<&'a mut Headers, Stop> {
    let nginx = state.profile.is_nginx();
    let (_, stream) = state
        .stream_of(vm.vm, vm.effective)
        .ok_or(Status::BadArgument)?;
    let map = match kind {
        MapKind::RequestHeaders => Some(&mut stream.request),
        MapKind::RequestTrailers if !nginx && vm.callback == Callback::RequestTrailers => {
            Some(&mut stream.trailers)
        }
        MapKind::ResponseHeaders => stream.response.as_mut(),
        _ => None,
    };
    Ok(map.ok_or(Status::BadArgument)?)
}
