//! The command with its variables: in our place, or as our child.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use super::super::{Status, output};
use super::plan::Filled;
use super::store::{Store, Stored};
use crate::environment::Environment;

/// The exit code for a command that is there and cannot be run, as shells have it.
const CANNOT_RUN: Status = Status::Command(126);

/// The exit code for a command that is not there.
const NOT_THERE: Status = Status::Command(127);

/// What is to be started.
#[derive(Debug)]
pub(super) struct Launch {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Arc<Environment>,
}

impl Launch {
    /// A command, which has a program at least, in an environment.
    pub(super) fn new(mut command: Vec<OsString>, environment: &Arc<Environment>) -> Self {
        let arguments = command.split_off(1.min(command.len()));
        Self {
            program: command.pop().unwrap_or_default(),
            arguments,
            environment: Arc::clone(environment),
        }
    }

    /// Becomes the command. Comes back only if that fails.
    pub(super) fn replace_us(&self, filled: &Filled, store: &Store) -> Status {
        match store.put(&filled.files) {
            // (If it does not fail, nothing is dropped, and the files stay for the command.)
            Ok(stored) => self.failed(&self.command(filled, &stored).exec()),
            Err(error) => no_file(&error),
        }
    }

    /// Starts the command as our child.
    pub(super) fn spawn(
        &self,
        filled: &Filled,
        stored: &Stored,
    ) -> Result<tokio::process::Child, Status> {
        tokio::process::Command::from(self.command(filled, stored))
            .spawn()
            .map_err(|error| self.failed(&error))
    }

    fn command(&self, filled: &Filled, stored: &Stored) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        for (name, value) in self.environment.iter() {
            command.env(name, OsStr::from_bytes(value.expose()));
        }
        for (name, value) in &filled.variables {
            command.env(name, OsStr::from_bytes(value.expose()));
        }
        command.envs(stored.paths());
        command
    }

    fn failed(&self, error: &io::Error) -> Status {
        let program = self.program.to_string_lossy();
        let advice = match error.kind() {
            io::ErrorKind::ArgumentListTooLong => {
                " (one variable holds 128 KiB at most; --file holds more)"
            }
            _ => "",
        };
        output::problem(&format!(
            "{program}: cannot be run: {}{advice}",
            error.kind()
        ));
        match error.kind() {
            io::ErrorKind::NotFound => NOT_THERE,
            _ => CANNOT_RUN,
        }
    }
}

/// The files of values have no place.
pub(super) fn no_file(error: &io::Error) -> Status {
    output::problem(&format!(
        "there is no place for the files: {}",
        error.kind()
    ));
    Status::Internal
}
