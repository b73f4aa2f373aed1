//! What the documentation tells people to write works: the examples are run as their READMEs say,
//! and the blocks of the top-level README are taken as they stand.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use vaultref_scenarios::client::{Address, Request, Response};
use vaultref_scenarios::envoy::Envoy;
use vaultref_scenarios::process::{Process, Program};
use vaultref_scenarios::{paths, ports, wait};

/// An example of `examples/` with a daemon and an Envoy, in a folder of its own and on free ports.
struct Example {
    dir: TempDir,
    gateway: SocketAddr,
    envoy: Process,
    _daemon: Process,
}

impl Example {
    /// Starts it as its README says, with the module that `file` names in its `envoy.yaml`.
    fn start(name: &str, file: &str, module: &Path) -> Result<Self> {
        let example = paths::root().join("examples").join(name);
        let dir = tempfile::tempdir()?;
        let (gateway, upstream) = (ports::free()?, ports::free()?);
        let written = fs::read_to_string(example.join("envoy.yaml"))?;
        assert!(written.contains(file), "{file} is not what it runs");
        let port = |port: u16| format!("port_value: {port}");
        let envoy = written
            .replace(file, &module.display().to_string())
            .replace(&port(10000), &port(gateway.port()))
            .replace(&port(10001), &port(upstream.port()));
        fs::write(dir.path().join("envoy.yaml"), envoy)?;
        fs::copy(
            example.join("vaultref.yaml"),
            dir.path().join("vaultref.yaml"),
        )?;
        fs::create_dir(dir.path().join("secrets"))?;
        fs::write(dir.path().join("secrets/token"), "first-token")?;
        let daemon = Program::new("vaultref", paths::vaultref()?)
            .args(["serve", "--config", "vaultref.yaml"])
            .in_folder(dir.path())
            .spawn()?;
        let envoy = Program::new("Envoy", paths::envoy()?)
            .args(["-c", "envoy.yaml", "--disable-hot-restart"])
            .args(["--concurrency", "2"])
            .in_folder(dir.path())
            .spawn()?;
        envoy.wait_until("the gateway", wait::START, || {
            Ok(Address::from(gateway).accepts().then_some(()))
        })?;
        Ok(Self {
            dir,
            gateway,
            envoy,
            _daemon: daemon,
        })
    }

    fn send(&self) -> Result<Response> {
        Request::get("/")
            .header("authorization", "Bearer mine")
            .send(self.gateway)
    }

    /// Sends requests until the upstream gets this token, and says what came before.
    fn until_token(&self, token: &str) -> Result<Vec<Response>> {
        let expected = format!("Bearer {token}");
        let mut before = Vec::new();
        self.envoy.wait_until(token, wait::SOON, || {
            let answer = self.send()?;
            let is_there = got(&answer).as_deref() == Some(&expected);
            before.push(answer);
            Ok(is_there.then_some(()))
        })?;
        Ok(before)
    }

    fn write_token(&self, token: &str) -> Result<()> {
        Ok(fs::write(self.dir.path().join("secrets/token"), token)?)
    }

    /// Removes the secret, and waits until requests are refused.
    fn until_refused(&self) -> Result<()> {
        fs::remove_file(self.dir.path().join("secrets/token"))?;
        let refused = self.envoy.wait_until("a refusal", wait::SOON, || {
            Ok(Some(self.send()?).filter(|answer| answer.status == 503))
        })?;
        assert!(refused.json()?.get("error").is_some(), "{}", refused.dump());
        assert_eq!(got(&refused), None);
        Ok(())
    }
}

/// What the upstream says that it got.
fn got(answer: &Response) -> Option<String> {
    answer.header("x-upstream-got")
}

#[test]
fn the_envoy_example_does_what_its_readme_says() -> Result<()> {
    let module = paths::module("vaultref-envoy.wasm")?;
    let example = Example::start("envoy", "../../dist/vaultref-envoy.wasm", &module)?;
    example.until_token("first-token")?;
    // The file names no `vm_id`, and yet the filter knows where it is: elsewhere this is answered 400.
    let twice = Request::get("/")
        .header("authorization", "Bearer mine")
        .header("authorization", "Bearer mine-too")
        .send(example.gateway)?;
    assert_eq!(twice.status, 200, "{}", twice.dump());
    assert_eq!(got(&twice).as_deref(), Some("Bearer first-token"));
    example.write_token("second-token")?;
    example.until_token("second-token")?;
    example.until_refused()
}

#[test]
fn the_filter_example_does_what_its_readme_says() -> Result<()> {
    let module = paths::example_filter()?;
    let file = "target/wasm32-wasip1/release/credential_filter.wasm";
    let example = Example::start("filter", file, &module)?;
    let is_served = |answer: &Response| answer.status == 200;
    // Until it is configured it refuses; it never sends what the client sent.
    for answer in example.until_token("first-token")? {
        assert!(is_served(&answer) || answer.status == 503);
        assert_ne!(got(&answer).as_deref(), Some("Bearer mine"));
    }
    example.write_token("second-token")?;
    // (Each worker has a VM of its own; the slower one may still have been starting.)
    let before = example.until_token("second-token")?;
    assert!(
        before
            .iter()
            .all(|answer| got(answer).as_deref() != Some("Bearer mine"))
    );
    example.until_refused()?;
    let line = "no value for /auth/header_value from the vault 'files': not-found";
    example.envoy.wait_for_line(line, wait::SOON)?;
    example.write_token("third-token")?;
    example.until_token("third-token")?;
    let log = example.envoy.log();
    for token in ["first-token", "second-token", "third-token"] {
        assert!(!log.contains(token), "{log}");
    }
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
