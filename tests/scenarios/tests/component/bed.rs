//! A resolver with files, and guests that run beside it.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vaultref_host::component::{OpaqueSecret, Secrets, add_reveal_to_linker, add_to_linker};
use vaultref_host::config;
use vaultref_host::environment::Environment;
use vaultref_host::policy::Access;
use vaultref_host::resolver::Resolver;
use vaultref_scenarios::{component, paths, wait};
use wasmtime::component::{Component, Instance, Linker, Resource, Val};
use wasmtime::{Engine, Store, StoreContextMut};

pub(crate) const TOKEN: &str = "{vault://files/token}";

/// Something that can be found in a memory.
pub(crate) const VALUE: &str = "hunter2-and-more-of-it";

/// Files that never expire by themselves, and a client that may read most of them.
pub(crate) struct Bed {
    pub(crate) dir: TempDir,
    pub(crate) resolver: Resolver,
    pub(crate) access: Access,
    _runtime: Runtime,
}

impl Bed {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        write(dir.path(), "token", VALUE)?;
        let configuration = json!({
            "vaults": [
                { "name": "fs", "prefix": "files", "config": { "prefix": dir.path(), "ttl": 0 } },
                { "name": "env" },
            ],
            "clients": [{
                "name": "guest", "peer": { "uid": 0 },
                "allow": ["files/*", "env/TEST*"], "deny": ["files/private*"],
            }],
        });
        let environment = Arc::new(Environment::from([
            ("TEST", "of the environment"),
            ("AWS_SECRET_ACCESS_KEY", "not for guests"),
        ]));
        let config = config::parse(&configuration.to_string(), &environment)?;
        let client = config.clients.iter().next().context("a client")?;
        let access = Access::Client(Arc::clone(client));
        let runtime = Runtime::new()?;
        let resolver = Resolver::new(config.vaults, 7, runtime.handle().clone());
        Ok(Self {
            dir,
            resolver,
            access,
            _runtime: runtime,
        })
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        write(self.dir.path(), name, content)
    }

    /// What a store needs. Reads are waited for.
    pub(crate) fn secrets(&self) -> Secrets {
        let secrets = Secrets::new(self.resolver.clone(), self.access.clone());
        secrets.waiting(wait::SOON)
    }

    /// A guest that has no `reveal`, in a store whose linker has none.
    pub(crate) fn holder(&self) -> Result<Guest> {
        Guest::new(self.secrets(), "component-holder", Grant::Hold)
    }

    /// A guest that may read.
    pub(crate) fn reader(&self) -> Result<Guest> {
        Guest::new(self.secrets(), "component-reader", Grant::Reveal)
    }
}

fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
    let new = dir.join("new");
    fs::write(&new, content)?;
    Ok(fs::rename(new, dir.join(name))?)
}

/// What the linker has.
#[derive(Clone, Copy)]
pub(crate) enum Grant {
    Hold,
    Reveal,
}

/// The embedder's side of a store.
pub(crate) struct State {
    pub(crate) secrets: Secrets,
    /// What guests have lent, as it was read.
    pub(crate) lent: Vec<Vec<u8>>,
    /// What they have given away.
    pub(crate) given: Vec<Resource<OpaqueSecret>>,
}

/// Embedders have one engine for all.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(Engine::default)
}

/// The guest of a package, compiled.
pub(crate) fn component(package: &str) -> Result<Component> {
    let component = component::of_module(&paths::guest(package)?)?;
    Component::new(engine(), component).map_err(ours)
}

pub(crate) fn linker(grant: Grant) -> Result<Linker<State>> {
    define(grant).map_err(ours)
}

fn define(grant: Grant) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::<State>::new(engine());
    add_to_linker(&mut linker, |state| &mut state.secrets)?;
    if let Grant::Reveal = grant {
        add_reveal_to_linker(&mut linker, |state| &mut state.secrets)?;
    }
    let mut sink = linker.instance("vaultref:probe/sink")?;
    sink.func_wrap("lend", lend)?;
    sink.func_wrap("give", give)?;
    Ok(linker)
}

/// wasmtime's errors are no standard ones here.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn ours(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:?}")
}

fn lend(
    mut store: StoreContextMut<'_, State>,
    (secret,): (Resource<OpaqueSecret>,),
) -> wasmtime::Result<(bool,)> {
    let State { secrets, lent, .. } = store.data_mut();
    let read = secrets.lend(&secret).ok();
    lent.extend(read.map(|secret| secret.expose().to_vec()));
    Ok((read.is_some(),))
}

fn give(
    mut store: StoreContextMut<'_, State>,
    (secret,): (Resource<OpaqueSecret>,),
) -> wasmtime::Result<()> {
    store.data_mut().given.push(secret);
    Ok(())
}

/// A guest that runs.
pub(crate) struct Guest {
    pub(crate) store: Store<State>,
    pub(crate) instance: Instance,
}

impl Guest {
    pub(crate) fn new(secrets: Secrets, package: &str, grant: Grant) -> Result<Self> {
        let (lent, given) = (Vec::new(), Vec::new());
        let state = State {
            secrets,
            lent,
            given,
        };
        let mut store = Store::new(engine(), state);
        let component = component(package)?;
        let linker = linker(grant)?;
        let instance = linker.instantiate(&mut store, &component).map_err(ours)?;
        Ok(Self { store, instance })
    }

    /// Calls an export that has a result.
    pub(crate) fn call(&mut self, name: &str, arguments: &[Val]) -> Result<Val> {
        call(&mut self.store, &self.instance, name, arguments)
    }

    /// A handle of the guest, or the kind of failure.
    pub(crate) fn get(&mut self, reference: &str) -> Result<Result<u32, String>> {
        let got = self.call("get", &[Val::String(reference.to_owned())])?;
        handle(got)
    }

    /// A handle of the guest.
    pub(crate) fn handle(&mut self, reference: &str) -> Result<u32> {
        let got = self.get(reference)?;
        got.map_err(|kind| anyhow!("{reference} is {kind}"))
    }

    /// The value, or the kind of failure.
    pub(crate) fn reveal(&mut self, handle: u32) -> Result<Result<Vec<u8>, String>> {
        match self.call("reveal", &[Val::U32(handle)])? {
            Val::Result(Ok(Some(value))) => Ok(Ok(bytes(*value)?)),
            Val::Result(Err(Some(failure))) => Ok(Err(kind(&failure)?)),
            other => bail!("{other:?}"),
        }
    }

    pub(crate) fn release(&mut self, handle: u32) -> Result<()> {
        self.perform("release", handle)
    }

    /// Gives the embedder the secret.
    pub(crate) fn give(&mut self, handle: u32) -> Result<()> {
        self.perform("give", handle)
    }

    fn perform(&mut self, name: &str, handle: u32) -> Result<()> {
        let export = self.instance.get_func(&mut self.store, name);
        let export = export.context("the export")?;
        let done = export.call(&mut self.store, &[Val::U32(handle)], &mut []);
        done.map_err(ours)
    }

    pub(crate) fn revision(&mut self, handle: u32) -> Result<String> {
        match self.call("revision", &[Val::U32(handle)])? {
            Val::String(revision) => Ok(revision),
            other => bail!("{other:?}"),
        }
    }

    /// `fresh-for`, `usable-for`, `stale`.
    pub(crate) fn lifetime(&mut self, handle: u32) -> Result<(u64, u64, bool)> {
        let lifetime = self.call("lifetime-of", &[Val::U32(handle)])?;
        let Val::Record(fields) = &lifetime else {
            bail!("{lifetime:?}")
        };
        match fields.iter().map(|(_, value)| value).collect::<Vec<_>>()[..] {
            [Val::U64(fresh_for), Val::U64(usable_for), Val::Bool(stale)] => {
                Ok((*fresh_for, *usable_for, *stale))
            }
            _ => bail!("{lifetime:?}"),
        }
    }
}

pub(crate) fn call(
    store: &mut Store<State>,
    instance: &Instance,
    name: &str,
    arguments: &[Val],
) -> Result<Val> {
    let export = instance.get_func(&mut *store, name).context("the export")?;
    let mut results = [Val::Bool(false)];
    let done = export.call(&mut *store, arguments, &mut results);
    done.map_err(ours)?;
    let [result] = results;
    Ok(result)
}

/// What `get` says.
pub(crate) fn handle(got: Val) -> Result<Result<u32, String>> {
    match got {
        Val::Result(Ok(Some(handle))) => match *handle {
            Val::U32(handle) => Ok(Ok(handle)),
            other => bail!("{other:?}"),
        },
        Val::Result(Err(Some(error))) => match *error {
            Val::Variant(case, Some(failure)) if case == "failure" => Ok(Err(kind(&failure)?)),
            Val::Variant(case, None) => Ok(Err(case)),
            other => bail!("{other:?}"),
        },
        other => bail!("{other:?}"),
    }
}

fn kind(failure: &Val) -> Result<String> {
    let Val::Record(fields) = failure else {
        bail!("{failure:?}")
    };
    match fields.first() {
        Some((name, Val::Enum(kind))) if name == "kind" => Ok(kind.clone()),
        _ => bail!("{failure:?}"),
    }
}

fn bytes(value: Val) -> Result<Vec<u8>> {
    let Val::Variant(case, Some(inner)) = value else {
        bail!("{value:?}")
    };
    match (case.as_str(), *inner) {
        ("text", Val::String(text)) => Ok(text.into_bytes()),
        ("bytes", Val::List(items)) => items
            .into_iter()
            .map(|item| match item {
                Val::U8(byte) => Ok(byte),
                other => bail!("{other:?}"),
            })
            .collect(),
        other => bail!("{other:?}"),
    }
}

/// Looks until it is so, for what comes through a watched folder.
pub(crate) fn soon(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline: Duration = wait::SOON;
    wait::until(what, deadline, || Ok(look()?.then_some(())))
}
