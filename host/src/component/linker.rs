//! The two interfaces of `vaultref.wit` that a guest may be given.

use vaultref_contract::MAX_REFERENCE_BYTES;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType, WasmStr};

use super::{OpaqueSecret, SecretError, Secrets, types};

const SECRETS: &str = "vaultref:secrets/secrets@1.0.0";
const REVEAL: &str = "vaultref:secrets/reveal@1.0.0";

/// Defines `vaultref:secrets/secrets`, with which a guest can hold secrets and not read them.
///
/// # Errors
/// It is defined already.
pub fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    secrets: impl Fn(&mut T) -> &mut Secrets + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let mut interface = linker.instance(SECRETS)?;
    interface.resource(
        "secret",
        ResourceType::host::<OpaqueSecret>(),
        move |mut store: StoreContextMut<'_, T>, number| {
            secrets(store.data_mut()).release(&Resource::new_own(number));
            Ok(())
        },
    )?;
    interface.func_wrap(
        "get",
        move |mut store: StoreContextMut<'_, T>, (reference,): (WasmStr,)| {
            let text = reference.to_str(&store)?;
            // One that is longer than any is as wrong when it is cut.
            let reference = text[..text.ceil_char_boundary(MAX_REFERENCE_BYTES + 1)].to_owned();
            let got: types::Got = match secrets(store.data_mut()).get(&reference) {
                Ok(secret) => Ok(secret),
                Err(SecretError::Failure(failure)) => Err(types::Error::Failure(failure.into())),
                Err(SecretError::TooMany) => Err(types::Error::TooMany),
                Err(error @ SecretError::Missing) => return Err(error.into()),
            };
            Ok((got,))
        },
    )?;
    interface.func_wrap(
        "[method]secret.revision",
        move |mut store: StoreContextMut<'_, T>, (secret,): (Resource<OpaqueSecret>,)| {
            Ok((secrets(store.data_mut()).revision(&secret)?.0.clone(),))
        },
    )?;
    interface.func_wrap(
        "[method]secret.lifetime",
        move |mut store: StoreContextMut<'_, T>, (secret,): (Resource<OpaqueSecret>,)| {
            let lifetime = secrets(store.data_mut()).lifetime(&secret)?;
            Ok((types::Lifetime::from(lifetime),))
        },
    )
}

/// Defines `vaultref:secrets/reveal`: with this linker, guests that import it may read what they get.
/// Others may not. It is of use only beside [`add_to_linker`].
///
/// # Errors
/// It is defined already.
pub fn add_reveal_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    secrets: impl Fn(&mut T) -> &mut Secrets + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    linker.instance(REVEAL)?.func_wrap(
        "reveal",
        move |mut store: StoreContextMut<'_, T>, (secret,): (Resource<OpaqueSecret>,)| {
            let value: Result<types::Value, types::Failure> =
                match secrets(store.data_mut()).lend(&secret) {
                    Ok(secret) => Ok(types::Value::new(secret)),
                    Err(SecretError::Failure(failure)) => Err(failure.into()),
                    Err(error @ (SecretError::Missing | SecretError::TooMany)) => {
                        return Err(error.into());
                    }
                };
            Ok((value,))
        },
    )
}
