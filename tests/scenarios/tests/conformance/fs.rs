//! `fs`: real files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;

use crate::kit::{Abilities, Config, Fixture, Server};

struct Files {
    inside: PathBuf,
    outside: PathBuf,
    _dir: TempDir,
}

fn fixture() -> Result<Files> {
    let dir = TempDir::new()?;
    let files = Files {
        inside: dir.path().join("inside"),
        outside: dir.path().join("outside"),
        _dir: dir,
    };
    fs::create_dir(&files.inside)?;
    fs::create_dir(&files.outside)?;
    Ok(files)
}

impl Fixture for Files {
    fn backend(&self) -> &'static str {
        "fs"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            bytes: true,
            slash: true,
            non_ascii: true,
            versions: false,
            most_bytes: None,
            tls_only: None,
        }
    }

    fn config(&self) -> Config {
        Config {
            fields: json!({ "prefix": self.inside }),
            environment: Vec::new(),
        }
    }

    fn config_at(&self, _server: &Server) -> Option<Config> {
        None
    }

    /// As it should be done: written beside it, then moved over it.
    fn put(&mut self, name: &str, content: &[u8]) -> Result<Option<u64>> {
        let path = self.inside.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let made = path.with_extension("new");
        fs::write(&made, content)?;
        fs::rename(&made, &path)?;
        Ok(None)
    }

    fn delete(&mut self, name: &str) -> Result<()> {
        fs::remove_file(self.inside.join(name))?;
        Ok(())
    }

    /// Modes do not keep out root, which tests may be run as; a link out of the directory is forbidden
    /// to all.
    fn forbid(&mut self, name: &str) -> Result<bool> {
        fs::write(self.outside.join(name), "not yours")?;
        symlink(self.outside.join(name), self.inside.join(name))?;
        Ok(true)
    }
}

every_row!(rows: fixture(), no server);
