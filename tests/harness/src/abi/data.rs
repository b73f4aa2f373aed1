//! Shared data and shared queues.

use wasmtime::{Caller, Linker};

use super::types::Status;
use super::{Stop, host};
use crate::shared::data_key;
use crate::state::{Effect, State};
use crate::vm::VmData;

type Guest<'a> = Caller<'a, VmData>;

pub(super) fn define(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_shared_data",
        |guest: Guest<'_>, key: u32, key_size: u32, place: u32, size: u32, cas: u32| {
            host(guest, "proxy_get_shared_data", |call| {
                let key = call.read(key, key_size)?;
                let (value, number) = call.with(|state, vm| {
                    needs_zone(state)?;
                    let key = data_key(&state.profile, &vm_id(state, vm), &key);
                    state.data.value(&key).ok_or(Stop::from(Status::NotFound))
                })?;
                call.give(&value, place, size)?;
                call.write_u32(cas, number)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_shared_data",
        |guest: Guest<'_>, key: u32, key_size: u32, value: u32, value_size: u32, cas: u32| {
            host(guest, "proxy_set_shared_data", |call| {
                let key = call.read(key, key_size)?;
                let value = call.read(value, value_size)?;
                call.with(|state, vm| {
                    needs_zone(state)?;
                    let key = data_key(&state.profile, &vm_id(state, vm), &key);
                    let profile = state.profile.clone();
                    Ok(state.data.set(&profile, key, value, cas)?)
                })
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_register_shared_queue",
        |guest: Guest<'_>, name: u32, name_size: u32, place: u32| {
            host(guest, "proxy_register_shared_queue", |call| {
                let name = call.read(name, name_size)?;
                let id = call.with(|state, vm| {
                    needs_zone(state)?;
                    let root = state.context(vm.vm, vm.effective).map_or(0, |c| c.root);
                    let vm_id = vm_id(state, vm);
                    Ok::<_, Stop>(state.queues.register(&vm_id, &name, (vm.vm, root)))
                })?;
                call.write_u32(place, id)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_resolve_shared_queue",
        |guest: Guest<'_>, vm_id: u32, vm_id_size: u32, name: u32, name_size: u32, place: u32| {
            host(guest, "proxy_resolve_shared_queue", |call| {
                let vm_id = call.read_text(vm_id, vm_id_size)?;
                let name = call.read(name, name_size)?;
                let id = call.with(|state, _| {
                    if state.profile.is_nginx() {
                        return Err(Stop::trap("NYI - host function not implemented"));
                    }
                    Ok(state.queues.find(&vm_id, &name).ok_or(Status::NotFound)?)
                })?;
                call.write_u32(place, id)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_enqueue_shared_queue",
        |guest: Guest<'_>, queue: u32, at: u32, size: u32| {
            host(guest, "proxy_enqueue_shared_queue", |call| {
                let item = call.read(at, size)?;
                call.with(|state, _| {
                    let known = state.queues.at(queue)?;
                    known.items.push_back(item);
                    let (vm, root) = known.owner;
                    // nginx has no on_queue_ready.
                    if !state.profile.is_nginx() {
                        state.effects.push(Effect::Queue { vm, root, queue });
                    }
                    Ok(())
                })
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_dequeue_shared_queue",
        |guest: Guest<'_>, queue: u32, place: u32, size: u32| {
            host(guest, "proxy_dequeue_shared_queue", |call| {
                let item = call.with(|state, _| {
                    let item = state.queues.at(queue)?.items.pop_front();
                    item.ok_or(Status::Empty)
                })?;
                call.give(&item, place, size)
            })
        },
    )?;
    Ok(())
}

fn needs_zone(state: &State) -> Result<(), Stop> {
    match state.profile.nginx() {
        Some(options) if !options.shm_kv => Err(Stop::trap(
            "could not resolve namespace: no shm_kv zone is configured",
        )),
        _ => Ok(()),
    }
}

fn vm_id(state: &State, vm: &VmData) -> String {
    state
        .vms
        .get(&vm.vm)
        .map(|vm| vm.vm_id.clone())
        .unwrap_or_default()
}
