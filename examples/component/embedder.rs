//! Runs the notifier, and makes its calls with a token that it never sees.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use vaultref_contract::Secret;
use vaultref_host::component::{OpaqueSecret, Secrets, add_to_linker};
use vaultref_host::policy::{Access, Client, Pattern};
use vaultref_host::resolver::Resolver;
use wasmtime::component::{Component, Linker, Resource, TypedFunc};
use wasmtime::{Engine, Store, StoreContextMut};

/// What belongs to one guest.
struct Embedder {
    secrets: Secrets,
    upstream: SocketAddr,
}

pub struct Notifier {
    store: Store<Embedder>,
    notify: TypedFunc<(String,), (Result<u16, String>,)>,
}

impl Notifier {
    pub fn new(
        resolver: Resolver,
        component: &[u8],
        upstream: SocketAddr,
    ) -> wasmtime::Result<Self> {
        let engine = Engine::default();
        let mut linker = Linker::<Embedder>::new(&engine);
        // The guest can get secrets. With `add_reveal_to_linker` it could also read them.
        add_to_linker(&mut linker, |embedder| &mut embedder.secrets)?;
        linker
            .instance("example:notifier/outbound")?
            .func_wrap("post", post)?;

        let access = access(&resolver);
        // A call may block for a second until the token is read.
        let secrets = Secrets::new(resolver, access).waiting(Duration::from_secs(1));
        let mut store = Store::new(&engine, Embedder { secrets, upstream });
        let component = Component::new(&engine, component)?;
        let instance = linker.instantiate(&mut store, &component)?;
        let notify = instance.get_typed_func(&mut store, "notify")?;
        Ok(Self { store, notify })
    }

    pub fn notify(&mut self, message: &str) -> wasmtime::Result<Result<u16, String>> {
        let (result,) = self.notify.call(&mut self.store, (message.to_owned(),))?;
        Ok(result)
    }
}

/// The guest's rights: one file. A client of `vaultref.yaml` would do as well.
fn access(resolver: &Resolver) -> Access {
    let vaults = resolver.vaults();
    let files = vaults.find("files");
    Access::Client(std::sync::Arc::new(Client {
        name: "notifier".to_owned(),
        peer: None,
        tokens: Vec::new(),
        allow: files
            .map(|vault| Pattern::new(vault, "token"))
            .into_iter()
            .collect(),
        deny: Vec::new(),
        metrics: false,
    }))
}

/// What the guest calls: the token is used here, and goes nowhere else.
fn post(
    mut store: StoreContextMut<'_, Embedder>,
    (message, token): (String, Resource<OpaqueSecret>),
) -> wasmtime::Result<(Result<u16, String>,)> {
    let Embedder { secrets, upstream } = store.data_mut();
    let status = match secrets.lend(&token) {
        Ok(token) => send(*upstream, &message, token).map_err(|error| error.kind().to_string()),
        Err(error) => Err(error.to_string()),
    };
    Ok((status,))
}

fn send(upstream: SocketAddr, message: &str, token: &Secret) -> io::Result<u16> {
    if !token.expose().iter().all(u8::is_ascii_graphic) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut stream = TcpStream::connect(upstream)?;
    write!(
        stream,
        "POST /notes HTTP/1.1\r\nhost: notes\r\nconnection: close\r\n"
    )?;
    write!(
        stream,
        "content-length: {}\r\nauthorization: Bearer ",
        message.len()
    )?;
    stream.write_all(token.expose())?;
    write!(stream, "\r\n\r\n{message}")?;
    let mut status_line = String::new();
    BufReader::new(stream).read_line(&mut status_line)?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
