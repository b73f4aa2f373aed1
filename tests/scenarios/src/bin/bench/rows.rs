//! The filters that are compared: each sets the same header to the same value.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use vaultref_scenarios::client::Request;
use vaultref_scenarios::daemon::Daemon;
use vaultref_scenarios::envoy::{Envoy, Setup, WasmFilter};
use vaultref_scenarios::upstream::Upstream;
use vaultref_scenarios::{paths, wait};

/// What the guests in `tests/guests` have built in.
const SECRET: &str = "bench-value-0123456789abcdef";

/// A filter to be measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Row {
    /// Envoy without a filter: what every other is taken against.
    None,
    /// Written without the SDK: the floor of what Wasm can do.
    Bare,
    /// Written with the SDK, as its examples are.
    Sdk,
    /// Envoy's own filter for the purpose.
    CredentialInjector,
    /// Ours, with what Envoy needs.
    VaultrefEnvoy,
    /// Ours, for every gateway.
    Vaultref,
}

impl Row {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Self; 6] = [
        Self::None,
        Self::Bare,
        Self::Sdk,
        Self::CredentialInjector,
        Self::VaultrefEnvoy,
        Self::Vaultref,
    ];

    /// The name in the report and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bare => "bare-constant-header",
            Self::Sdk => "sdk-constant-header",
            Self::CredentialInjector => "credential_injector",
            Self::VaultrefEnvoy => "vaultref-envoy.wasm",
            Self::Vaultref => "vaultref.wasm",
        }
    }

    fn is_ours(self) -> bool {
        matches!(self, Self::Vaultref | Self::VaultrefEnvoy)
    }
}

/// What the filters need around them: a file with the secret, and our daemon.
#[derive(Debug)]
pub(crate) struct Bed {
    daemon: Option<Daemon>,
    dir: TempDir,
}

impl Bed {
    /// Everything that these filters need, started.
    pub(crate) fn prepare(rows: &[Row]) -> Result<Self> {
        let dir = tempfile::tempdir().context("a folder for the secrets")?;
        let files = dir.path().join("files");
        fs::create_dir(&files)?;
        fs::write(files.join("token"), SECRET)?;
        fs::write(dir.path().join("sds.json"), sds().to_string())?;
        let daemon = if rows.iter().any(|row| row.is_ours()) {
            let vaults =
                json!([{ "name": "fs", "prefix": "files", "config": { "prefix": files } }]);
            Some(Daemon::with_vaults(&vaults)?.started()?)
        } else {
            None
        };
        Ok(Self { daemon, dir })
    }

    /// Envoy with this filter, answering by itself.
    pub(crate) fn setup(&self, row: Row) -> Result<Setup> {
        let setup = Envoy::setup();
        Ok(match row {
            Row::None => setup,
            Row::Bare => setup.filter(WasmFilter::new(paths::guest("bare-constant-header")?)),
            Row::Sdk => setup.filter(WasmFilter::new(paths::guest("sdk-constant-header")?)),
            Row::CredentialInjector => setup.filter(self.credential_injector()),
            Row::VaultrefEnvoy => self.ours(setup, "vaultref-envoy.wasm")?,
            Row::Vaultref => self.ours(setup, "vaultref.wasm")?,
        })
    }

    /// Whether the filter does what it is measured for.
    pub(crate) fn check(&self, row: Row) -> Result<()> {
        let upstream = Upstream::start()?;
        let envoy = self.setup(row)?.upstream(upstream.address()).start()?;
        self.wait_until_ready(&envoy)?;
        envoy.send(&Request::get("/").header("authorization", "Bearer of-the-client"))?;
        let expected = if row == Row::None {
            "Bearer of-the-client".to_owned()
        } else {
            format!("Bearer {SECRET}")
        };
        let arrived = upstream.last()?.header("authorization").unwrap_or_default();
        ensure!(
            arrived == expected,
            "'{arrived}' arrived where '{expected}' was expected"
        );
        Ok(())
    }

    /// Waits until this Envoy answers well: its filter has its secret.
    pub(crate) fn wait_until_ready(&self, envoy: &Envoy) -> Result<()> {
        envoy
            .process()
            .wait_until("an answer by 200", wait::START, || {
                Ok((envoy.send(&Request::get("/"))?.status == 200).then_some(()))
            })
    }

    fn ours(&self, setup: Setup, module: &str) -> Result<Setup> {
        let daemon = self.daemon.as_ref().context("the daemon is not started")?;
        let configuration = json!({
            "resolver": { "upstream": "vaultref" },
            "request": { "set": { "headers": { "authorization": "Bearer {vault://files/token}" } } },
        });
        let filter = WasmFilter::new(paths::module(module)?).json(&configuration);
        Ok(setup.filter(filter).resolver(daemon.socket().as_path()))
    }

    fn credential_injector(&self) -> Value {
        json!({
            "name": "envoy.filters.http.credential_injector",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
                "overwrite": true,
                "credential": {
                    "name": "envoy.http.injected_credentials.generic",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
                        "credential": {
                            "name": "token",
                            "sds_config": {
                                "path_config_source": { "path": self.dir.path().join("sds.json") },
                                "resource_api_version": "V3",
                            },
                        },
                        "header": "authorization",
                    },
                },
            },
        })
    }
}

fn sds() -> Value {
    json!({
        "resources": [{
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": "token",
            "generic_secret": { "secret": { "inline_string": format!("Bearer {SECRET}") } },
        }],
    })
}
