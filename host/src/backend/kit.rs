//! What the backends' own tests have in common. The rows that every backend passes are in
//! `tests/scenarios/tests/conformance`.

use std::sync::Arc;
use std::time::Duration;

use vaultref_contract::wire::FailureKind;

use super::{Asked, Backend, Object, ReadError};
use crate::config::parse;
use crate::environment::Environment;
use crate::policy::Access;
use crate::resolver::Resolver;
use crate::vault::Vaults;

/// A configuration's vaults.
pub(crate) fn vaults(yaml: &str, environment: Environment) -> Vaults {
    parse(yaml, &Arc::new(environment))
        .expect("a configuration")
        .vaults
}

/// What a reference gives now, read by a resolver that has read nothing before.
pub(crate) fn get(vaults: Vaults, reference: &str) -> Result<String, FailureKind> {
    let runtime = runtime();
    let resolver = Resolver::new(vaults, 1, runtime.handle().clone());
    let value = resolver.value(&Access::All, reference, Duration::from_secs(20));
    match runtime.block_on(value) {
        Ok(value) => {
            let text = value.value.secret().expose_text().expect("text");
            Ok(text.to_owned())
        }
        Err(unresolved) => Err(unresolved.failure.kind),
    }
}

/// The object that is meant, once it has been looked up.
pub(crate) fn object(backend: &dyn Backend, asked: &Asked<'_>) -> Result<Object, ReadError> {
    if let Some(look) = backend.look(&[asked.resource]) {
        runtime().block_on(look);
    }
    backend.object(asked)
}

/// Its path, or the kind of failure.
pub(crate) fn path(backend: &dyn Backend, resource: &str) -> Result<String, FailureKind> {
    object(backend, &Asked::current(resource))
        .map(|object| object.path)
        .map_err(|error| error.kind.failure_kind())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// What a backend means that knows its objects by resource and version alone.
pub(crate) fn plain_object(asked: &super::Asked<'_>) -> super::Object {
    super::Object {
        scope: String::new(),
        path: asked.resource.to_owned(),
        version: asked.version,
        alias: None,
    }
}
