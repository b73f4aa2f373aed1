//! `examples/component` does what its README says.

use std::fs;
use std::sync::Arc;

use anyhow::Result;
use serde_json::json;
use tokio::runtime::Runtime;
use vaultref_host::environment::Environment;
use vaultref_host::resolver::Resolver;
use vaultref_scenarios::upstream::{Reply, Upstream};
use vaultref_scenarios::{component, paths, wait};

use crate::bed::ours;
use crate::embedder::Notifier;

#[test]
fn the_notifier_posts_with_a_token_that_it_cannot_read() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let token = dir.path().join("token");
    let vaults = json!({
        "vaults": [{ "name": "fs", "prefix": "files", "config": { "prefix": dir.path(), "ttl": 1 } }],
    });
    let environment = Arc::new(Environment::new([]));
    let config = vaultref_host::config::parse(&vaults.to_string(), &environment)?;
    let runtime = Runtime::new()?;
    let resolver = Resolver::new(config.vaults, 7, runtime.handle().clone());
    let upstream = Upstream::answering(|_| Reply::status(202))?;
    let module = paths::guest("notifier")?;
    let component = component::of_module(&module)?;
    let mut notifier = Notifier::new(resolver, &component, upstream.address()).map_err(ours)?;

    assert_eq!(
        notifier.notify("nobody").map_err(ours)?,
        Err("the token is not there yet".to_owned())
    );
    fs::write(&token, "first-token")?;
    wait::until("the token", wait::SOON, || {
        Ok(notifier.notify("hello").map_err(ours)?.ok())
    })?;
    let last = upstream.last()?;
    assert_eq!(
        last.header("authorization").as_deref(),
        Some("Bearer first-token")
    );
    assert_eq!((&*last.path, &*last.body), ("/notes", &b"hello"[..]));
    Ok(())
}

/// The README shows both sides whole, as they are compiled here.
#[test]
fn its_readme_shows_what_is_run() -> Result<()> {
    let example = paths::root().join("examples/component");
    let readme = fs::read_to_string(example.join("README.md"))?;
    for file in ["src/lib.rs", "embedder.rs"] {
        let code = fs::read_to_string(example.join(file))?;
        assert!(readme.contains(&format!("```rust\n{code}```")), "{file}");
    }
    Ok(())
}
