//! Envoy's folder with the files that it reads and writes.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;

use super::Setup;

const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// Envoy's folder with the files that it reads and writes.
#[derive(Debug)]
pub(super) struct Files {
    dir: TempDir,
}

impl Files {
    pub(super) fn write(setup: &Setup) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("vaultref-envoy-")
            .tempdir()
            .context("a folder for Envoy")?;
        let files = Self { dir };
        files.write_lds(setup)?;
        let bootstrap = setup.bootstrap(&files.lds());
        fs::write(files.bootstrap(), bootstrap.to_string()).context("Envoy's configuration")?;
        Ok(files)
    }

    /// Envoy looks at a file again only when another is renamed to it.
    pub(super) fn write_lds(&self, setup: &Setup) -> Result<()> {
        let mut listener = setup.listener();
        listener["@type"] = json!(LISTENER);
        let resources = json!({ "resources": [listener] });
        let new = self.dir.path().join("lds.new");
        fs::write(&new, resources.to_string()).context("Envoy's listener")?;
        fs::rename(&new, self.lds()).context("Envoy's listener")
    }

    pub(super) fn bootstrap(&self) -> PathBuf {
        self.dir.path().join("envoy.json")
    }

    pub(super) fn lds(&self) -> PathBuf {
        self.dir.path().join("lds.json")
    }

    pub(super) fn admin(&self) -> PathBuf {
        self.dir.path().join("admin")
    }

    pub(super) fn admin_address(&self) -> Result<Option<SocketAddr>> {
        // Missing at first, and empty for a moment.
        let text = fs::read_to_string(self.admin()).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        Ok(text.trim().parse().ok())
    }
}
