//! Properties: what a gateway knows about the filter, the request, itself.

use wasmtime::{Caller, Linker};

use super::types::Status;
use super::{Stop, host};
use crate::profile::Profile;
use crate::state::State;
use crate::vm::VmData;

type Guest<'a> = Caller<'a, VmData>;

const UPSTREAM_URI: &[u8] = b"ngx\0upstream_uri";

pub(super) fn define(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_property",
        |guest: Guest<'_>, path: u32, path_size: u32, place: u32, size: u32| {
            host(guest, "proxy_get_property", |call| {
                let path = call.read(path, path_size)?;
                let value = call.with(|state, vm| value(state, vm, &normal(&path)));
                call.give(&value.ok_or(Status::NotFound)?, place, size)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_property",
        |guest: Guest<'_>, path: u32, path_size: u32, value: u32, value_size: u32| {
            host(guest, "proxy_set_property", |call| {
                let path = normal(&call.read(path, path_size)?);
                let value = call.read(value, value_size)?;
                call.with(|state, vm| set(state, vm, path, value))
            })
        },
    )?;
    Ok(())
}

/// A path with its parts divided by NUL and none at the end. nginx also takes
/// a dot between the first part and the rest; both are the same place here.
fn normal(path: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let mut path = path.to_vec();
    if !path.contains(&0) {
        for byte in &mut path {
            if *byte == b'.' {
                *byte = 0;
            }
        }
    }
    path
}

fn value(state: &mut State, vm: &VmData, path: &[u8]) -> Option<Vec<u8>> {
    let nginx = state.profile.nginx().cloned();
    if let Some(plugin) = state
        .context(vm.vm, vm.effective)
        .map(|context| context.plugin)
    {
        let plugin = &state.plugins[plugin];
        match path {
            b"plugin_name" => return Some(plugin.name.clone().into_bytes()),
            b"plugin_root_id" => return Some(plugin.root_id.clone().into_bytes()),
            // Only Envoy has it: a filter may know its host by it.
            b"plugin_vm_id" if nginx.is_none() => {
                return Some(plugin.vm_id.clone().into_bytes());
            }
            _ => {}
        }
    }
    if let Some(options) = &nginx
        && let Some(name) = path.strip_prefix(b"ngx\0")
        && let Some((_, value)) = options.variables.iter().find(|(n, _)| n.as_bytes() == name)
    {
        return Some(value.clone().into_bytes());
    }
    let kong = nginx.as_ref().is_some_and(|options| options.kong);
    if path == UPSTREAM_URI {
        let (_, stream) = state.stream_of(vm.vm, vm.effective)?;
        return kong.then(|| stream.upstream_uri.clone());
    }
    if let Some((_, stream)) = state.stream_of(vm.vm, vm.effective)
        && let Some(headers) = &stream.response
    {
        let status = || headers.first(":status").map(<[u8]>::to_vec);
        match path {
            b"ngx\0status" if nginx.is_some() => return status(),
            b"ngx\0upstream_status" if nginx.is_some() && !stream.is_local => return status(),
            b"response\0code_details" if nginx.is_none() => {
                let details = match stream.is_local {
                    true => &b"direct_response"[..],
                    false => b"via_upstream",
                };
                return Some(details.to_vec());
            }
            _ => {}
        }
    }
    if nginx.is_some()
        && let Some((_, stream)) = state.stream_of(vm.vm, vm.effective)
    {
        match path {
            b"ngx\0host" => return stream.request.first("host").map(<[u8]>::to_vec),
            b"ngx\0request_uri" => return Some(stream.client_path.clone()),
            _ => {}
        }
    }
    if path.starts_with(b"kong\0") && !kong {
        return None;
    }
    if let Some((_, stream)) = state.stream_of(vm.vm, vm.effective) {
        if let Some(value) = stream.properties.get(path) {
            return Some(value.clone());
        }
        let name = match path {
            b"request\0path" => Some(&b":path"[..]),
            b"request\0method" => Some(&b":method"[..]),
            b"request\0host" if nginx.is_some() => Some(&b"host"[..]),
            b"request\0host" => Some(&b":authority"[..]),
            b"request\0scheme" => Some(&b":scheme"[..]),
            _ => path.strip_prefix(b"request\0headers\0"),
        };
        if let Some(value) = name.and_then(|name| stream.request.first(name)) {
            return Some(value.to_vec());
        }
    }
    state.properties.get(path).cloned()
}

fn set(state: &mut State, vm: &VmData, path: Vec<u8>, value: Vec<u8>) -> Result<(), Stop> {
    let kong = state.profile.is_kong();
    let nginx = matches!(state.profile, Profile::Nginx(_));
    let text = path.escape_ascii().to_string();
    let id = state
        .context(vm.vm, vm.effective)
        .and_then(|context| context.stream);
    let stream = state
        .stream_of(vm.vm, vm.effective)
        .map(|(_, stream)| stream);
    if !nginx {
        match stream {
            Some(stream) => stream.properties.insert(path, value),
            None => state.properties.insert(path, value),
        };
        return Ok(());
    }
    let unknown = || Stop::trap(format!("could not set \"{text}\": unknown or read-only"));
    let stream = stream.ok_or_else(unknown)?;
    if kong && path == UPSTREAM_URI {
        stream.upstream_uri = value;
    } else if kong && path.starts_with(b"kong\0ctx\0shared\0") {
        stream.properties.insert(path, value);
    } else {
        // Unlike other traps this one is a 500 to the client.
        state.internal_error = id;
        return Err(unknown());
    }
    Ok(())
}
