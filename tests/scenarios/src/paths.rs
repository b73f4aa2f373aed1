//! Where the programs and modules lie that `make` fetches and builds, with an error
//! that says which target brings them.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The top folder of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The folder with cargo's output that the running program was built into.
///
/// # Errors
///
/// When the running program's own path cannot be read or is no `<target>/<profile>/…`.
pub fn target_dir() -> Result<PathBuf> {
    let profile = profile_dir()?;
    let target = profile
        .parent()
        .context("the profile's folder lies in no target folder")?;
    Ok(target.to_path_buf())
}

/// The daemon's program: `VAULTREF_BIN`, or else what lies beside the running test.
///
/// # Errors
///
/// When it is not built yet.
pub fn vaultref() -> Result<PathBuf> {
    let path = match env::var_os("VAULTREF_BIN") {
        Some(path) => PathBuf::from(path),
        None => profile_dir()?.join("vaultref"),
    };
    existing(
        path,
        "the program `vaultref`",
        "use `make test`, or `cargo build -p vaultref-host` before `cargo test`",
    )
}

/// Envoy, as `make` fetches it.
///
/// # Errors
///
/// When it is not installed.
pub fn envoy() -> Result<PathBuf> {
    tool("envoy")
}

/// OpenBao, as `make` fetches it.
///
/// # Errors
///
/// When it is not installed.
pub fn bao() -> Result<PathBuf> {
    tool("bao")
}

/// The Python that has moto, as `make` fetches it.
///
/// # Errors
///
/// When it is not installed.
pub fn moto_python() -> Result<PathBuf> {
    // Its command is made last.
    tool("moto")?;
    Ok(root().join(".tools/moto/bin/python"))
}

/// The stand-in for Google Cloud, as `make` fetches it.
///
/// # Errors
///
/// When it is not installed.
pub fn drongo() -> Result<PathBuf> {
    tool("drongo")
}

/// Python with CyberArk's own client for Conjur, as `make` fetches it.
///
/// # Errors
///
/// When it is not installed.
pub fn conjur_client() -> Result<PathBuf> {
    tool("conjur-client")
}

/// Python with Microsoft's own client for Key Vault, as `make` fetches it.
///
/// # Errors
///
/// When it is not installed.
pub fn azure_client() -> Result<PathBuf> {
    tool("azure-client")
}

/// The load generator, as `make` fetches it.
///
/// # Errors
///
/// When it is not installed.
pub fn wrk() -> Result<PathBuf> {
    tool("wrk")
}

/// A module as shipped: `vaultref.wasm` or `vaultref-envoy.wasm`.
///
/// # Errors
///
/// When it is not built yet.
pub fn module(name: &str) -> Result<PathBuf> {
    existing(
        root().join("dist").join(name),
        &format!("the module {name}"),
        "use `make wasm`",
    )
}

/// A module of `tests/guests` by its package's name, such as `sdk-constant-header`.
///
/// # Errors
///
/// When it is not built yet.
pub fn guest(package: &str) -> Result<PathBuf> {
    let file = format!("{}.wasm", package.replace('-', "_"));
    let path = target_dir()?.join("guests/wasm32-wasip1/wasm").join(file);
    existing(path, &format!("the guest {package}"), "use `make guests`")
}

/// The module of `examples/filter`.
///
/// # Errors
///
/// When it is not built yet.
pub fn example_filter() -> Result<PathBuf> {
    let path = target_dir()?.join("guests/wasm32-wasip1/release/credential_filter.wasm");
    existing(path, "the example's filter", "use `make guests`")
}

fn tool(name: &str) -> Result<PathBuf> {
    let help = format!("use `make test`, or `scripts/install-tools {name}`");
    existing(
        root().join(".tools/bin").join(name),
        &format!("the tool {name}"),
        &help,
    )
}

fn existing(path: PathBuf, what: &str, help: &str) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path);
    }
    bail!("{what} is missing at {}: {help}", path.display())
}

/// `<target>/<profile>`: tests run from its `deps`, programs from itself.
fn profile_dir() -> Result<PathBuf> {
    let program = env::current_exe().context("the running program's path")?;
    let folder = program
        .parent()
        .context("the running program lies in no folder")?;
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    let profile = if is_deps {
        folder.parent()
    } else {
        Some(folder)
    };
    Ok(profile
        .context("the running program lies in no profile's folder")?
        .to_path_buf())
}
