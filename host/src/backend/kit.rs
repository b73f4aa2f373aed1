//! The checks that every backend passes, whatever it is.
//!
//! A backend's own tests hand in a [`Fixture`], which knows how to put things there, and call
//! [`check`]. What is asked goes through the resolver, as in the daemon.

use std::sync::Arc;
use std::time::Duration;

use vaultref_contract::wire::FailureKind;

use super::{Backend, Kind};
use crate::config::parse;
use crate::environment::Environment;
use crate::policy::Access;
use crate::resolver::Resolver;
use crate::vault::Vaults;

/// A place where a test can put secrets.
pub(super) trait Fixture {
    /// The backend's name.
    fn backend(&self) -> &'static str;
    /// Makes or changes an object.
    fn put(&mut self, resource: &str, text: &str);
    /// Takes an object away.
    fn remove(&mut self, resource: &str);
    /// The vaults as they are now; one of them is named like the backend.
    fn vaults(&self) -> Vaults;
}

/// A configuration's vaults.
pub(super) fn vaults(yaml: &str, environment: Environment) -> Vaults {
    parse(yaml, &Arc::new(environment))
        .expect("a configuration")
        .vaults
}

/// What a reference gives now, read by a resolver that has read nothing before.
pub(super) fn get(vaults: Vaults, reference: &str) -> Result<String, FailureKind> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
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

/// Runs all checks.
pub(super) fn check(fixture: &mut impl Fixture) {
    let name = fixture.backend();
    let reference = |rest: &str| format!("{{vault://{name}/{rest}}}");
    let kind = Kind::find(name).expect("a backend of this build");
    assert_eq!(kind.name, name);

    fixture.put("plain", "one");
    assert_eq!(
        get(fixture.vaults(), &reference("plain")),
        Ok("one".to_owned()),
        "create, read"
    );
    fixture.put("plain", "two");
    assert_eq!(
        get(fixture.vaults(), &reference("plain")),
        Ok("two".to_owned()),
        "update"
    );
    assert_eq!(
        get(fixture.vaults(), &reference("plain#1")),
        Ok("two".to_owned()),
        "version 1"
    );
    fixture.remove("plain");
    assert_eq!(
        get(fixture.vaults(), &reference("plain")),
        Err(FailureKind::NotFound),
        "removed"
    );
    assert_eq!(
        get(fixture.vaults(), &reference("never")),
        Err(FailureKind::NotFound),
        "missing"
    );
    assert_eq!(
        get(fixture.vaults(), &reference("plain#77")),
        Err(FailureKind::NotFound)
    );

    let object = r#"{"user":"ada","n":1,"deep":{"er":"x"},"b64":"aGk="}"#;
    fixture.put("object", object);
    for (rest, expected) in [
        ("object/user", Ok("ada")),
        ("object/", Ok(object)),
        ("object/%2Fdeep%2Fer", Ok("x")),
        ("object/b64?base64_decode", Ok("hi")),
        ("object/b64?base64_decode=false", Ok("aGk=")),
        (
            "object/user?base64_decode=true",
            Err(FailureKind::WrongType),
        ),
        ("object/none", Err(FailureKind::KeyNotFound)),
        ("object/%2Fdeep%2Fnone", Err(FailureKind::KeyNotFound)),
        ("object/n", Err(FailureKind::WrongType)),
        ("object/deep", Err(FailureKind::WrongType)),
        ("object?region=x", Err(FailureKind::InvalidReference)),
    ] {
        let expected = expected.map(str::to_owned);
        assert_eq!(get(fixture.vaults(), &reference(rest)), expected, "{rest}");
    }
    fixture.put("object", "no JSON");
    assert_eq!(
        get(fixture.vaults(), &reference("object/user")),
        Err(FailureKind::WrongType)
    );
    fixture.remove("object");
}

/// The path of an object, or the kind of failure.
pub(super) fn path(backend: &dyn Backend, resource: &str) -> Result<String, FailureKind> {
    let asked = super::Asked::current(resource);
    backend
        .object(&asked)
        .map(|object| object.path)
        .map_err(|error| error.kind.failure_kind())
}
