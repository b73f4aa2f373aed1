//! A program's machine in a scenario's hand: a wall clock that jumps, and a name that can be looked up
//! or not. Both come from the C library, before which a library of ours is loaded into the program.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The name that is in the scenario's hand.
pub const NAME: &str = "vault.scenario.test";

/// The library, and the files that it reads.
#[derive(Debug)]
pub struct Machine(TempDir);

impl Machine {
    /// Its clock goes right; its name cannot be looked up.
    ///
    /// # Errors
    ///
    /// When the C compiler is missing.
    pub fn new() -> Result<Self> {
        let home = tempfile::tempdir().context("a folder for the machine")?;
        let source = home.path().join("machine.c");
        fs::write(&source, include_str!("machine.c")).context("the library's source")?;
        let machine = Self(home);
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(machine.library())
            .arg(&source)
            .arg("-ldl")
            .output()
            .context("the C compiler")?;
        let said = String::from_utf8_lossy(&compiled.stderr);
        ensure!(compiled.status.success(), "the C compiler: {said}");
        Ok(machine)
    }

    /// Variables with which a program is on this machine.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 3] {
        let text = |path: PathBuf| path.display().to_string();
        [
            ("LD_PRELOAD", text(self.library())),
            ("SCENARIO_CLOCK", text(self.clock())),
            ("SCENARIO_NAMES", text(self.names())),
        ]
    }

    /// Sets the wall clock to so many seconds ahead of the real one, or behind it.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn jump(&self, seconds: i64) -> Result<()> {
        self.put(self.clock(), &seconds.to_string())
    }

    /// From now on the name has this address; none: it cannot be looked up.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn name_is(&self, address: Option<IpAddr>) -> Result<()> {
        match address {
            Some(address) => self.put(self.names(), &address.to_string()),
            None => fs::remove_file(self.names()).context("the name's file"),
        }
    }

    fn put(&self, path: PathBuf, text: &str) -> Result<()> {
        let new = self.0.path().join("new");
        fs::write(&new, text).context("a file of the machine")?;
        fs::rename(&new, path).context("a file of the machine")
    }

    fn library(&self) -> PathBuf {
        self.0.path().join("machine.so")
    }

    fn clock(&self) -> PathBuf {
        self.0.path().join("clock")
    }

    fn names(&self) -> PathBuf {
        self.0.path().join("names")
    }
}
