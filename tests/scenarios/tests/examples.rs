//! What the documentation tells people to write works: the examples are run as their READMEs say,
//! and the blocks of the top-level README are taken as they stand.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use vaultref_scenarios::client::{Address, Request};
use vaultref_scenarios::envoy::Envoy;
use vaultref_scenarios::process::Program;
use vaultref_scenarios::{paths, ports, wait};

/// `examples/envoy`, in a folder of its own and on free ports.
#[test]
fn the_envoy_example_does_what_its_readme_says() -> Result<()> {
    let example = paths::root().join("examples/envoy");
    let dir = tempfile::tempdir()?;
    let (gateway, upstream) = (ports::free()?, ports::free()?);
    let module = paths::module("vaultref-envoy.wasm")?;
    let envoy = fs::read_to_string(example.join("envoy.yaml"))?
        .replace(
            "../../dist/vaultref-envoy.wasm",
            &module.display().to_string(),
        )
        .replace(
            "port_value: 10000",
            &format!("port_value: {}", gateway.port()),
        )
        .replace(
            "port_value: 10001",
            &format!("port_value: {}", upstream.port()),
        );
    fs::write(dir.path().join("envoy.yaml"), envoy)?;
    fs::copy(
        example.join("vaultref.yaml"),
        dir.path().join("vaultref.yaml"),
    )?;
    let secrets = dir.path().join("secrets");
    fs::create_dir(&secrets)?;
    fs::write(secrets.join("token"), "first-token")?;

    let _daemon = Program::new("vaultref", paths::vaultref()?)
        .args(["serve", "--config", "vaultref.yaml"])
        .in_folder(dir.path())
        .spawn()?;
    let envoy = Program::new("Envoy", paths::envoy()?)
        .args([
            "-c",
            "envoy.yaml",
            "--disable-hot-restart",
            "--concurrency",
            "2",
        ])
        .in_folder(dir.path())
        .spawn()?;
    envoy.wait_until("the gateway", wait::START, || {
        Ok(Address::from(gateway).accepts().then_some(()))
    })?;
    let call = || {
        Request::get("/")
            .header("authorization", "Bearer mine")
            .send(gateway)
    };
    let got = |answer: &vaultref_scenarios::client::Response| answer.header("x-upstream-got");

    envoy.wait_until("the first token", wait::SOON, || {
        Ok((got(&call()?).as_deref() == Some("Bearer first-token")).then_some(()))
    })?;
    // The file names no `vm_id`, and yet the filter knows where it is: elsewhere this is answered 400.
    let twice = Request::get("/")
        .header("authorization", "Bearer mine")
        .header("authorization", "Bearer mine-too")
        .send(gateway)?;
    assert_eq!(twice.status, 200, "{}", twice.dump());
    assert_eq!(got(&twice).as_deref(), Some("Bearer first-token"));
    fs::write(secrets.join("token"), "second-token")?;
    envoy.wait_until("the second token", wait::SOON, || {
        Ok((got(&call()?).as_deref() == Some("Bearer second-token")).then_some(()))
    })?;
    fs::remove_file(secrets.join("token"))?;
    let refused = envoy.wait_until("a refusal", wait::SOON, || {
        Ok(Some(call()?).filter(|answer| answer.status == 503))
    })?;
    assert!(refused.json()?.get("error").is_some(), "{}", refused.dump());
    assert_eq!(got(&refused), None);
    Ok(())
}

/// The blocks of YAML in a Markdown file, in order.
fn yaml_blocks(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file)?;
    let blocks = text.split("```yaml\n").skip(1);
    Ok(blocks
        .filter_map(|rest| Some(rest.split_once("```")?.0.to_owned()))
        .collect())
}

#[test]
fn the_readmes_blocks_are_valid() -> Result<()> {
    let blocks = yaml_blocks(&paths::root().join("README.md"))?;
    let [filter, daemon] = &blocks[..] else {
        panic!("the README has {} blocks of YAML", blocks.len())
    };
    let module = paths::module("vaultref-envoy.wasm")?;
    let filter = filter.replace(
        "/etc/envoy/vaultref-envoy.wasm",
        &module.display().to_string(),
    );
    let filters: Vec<Value> = serde_yaml_ng::from_str(&filter)?;
    let filter = filters.into_iter().next().context("a filter")?;
    let socket = Path::new("/run/vaultref/vaultref.sock");
    Envoy::setup().filter(filter).resolver(socket).validate()?;

    let environment = std::sync::Arc::new(vaultref_host::environment::Environment::new([]));
    let daemon = daemon.replace('…', "s.token");
    vaultref_host::config::parse(&daemon, &environment)?;
    Ok(())
}

#[test]
fn the_resolvers_readme_is_valid() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let blocks = yaml_blocks(&paths::root().join("host/README.md"))?;
    let daemon = blocks[0]
        .replace('…', "token")
        .replace("/run/secrets", &dir.path().display().to_string());
    fs::write(dir.path().join("edge.token"), "token-of-the-edge")?;
    let environment = std::sync::Arc::new(vaultref_host::environment::Environment::new([]));
    let config = vaultref_host::config::parse(&daemon, &environment)?;
    assert_eq!(config.listen.len(), 2);
    Ok(())
}
