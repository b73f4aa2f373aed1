//! `vaultref exec`: a command whose environment variables hold values where they held references.
//!
//! The command takes our place: its process is ours, so signals, exit code and the terminal are its
//! own, and nothing of us stays in memory. Only with `--watch` we stay, as its parent. If a single
//! reference has no value, nothing is started. A value never stands in an argument, where everybody
//! could read it.

mod command;
mod plan;
mod store;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::sys::signal::Signal;

use self::command::Launch;
use self::plan::Plan;
use self::store::Store;
use self::watch::{OnChange, Watch};
use super::values::Values;
use super::{ConfigFile, Status, output, resolver};
use crate::environment::Environment;

const NOTHING_STARTED: &str = "nothing was started";

#[derive(Args, Debug)]
pub(super) struct Exec {
    #[command(flatten)]
    config: ConfigFile,
    /// Put the value of this variable into a file in memory, and the file's path into the variable
    #[arg(long = "file", value_name = "VAR")]
    files: Vec<String>,
    /// Put these files (readable by their owner only) into a new directory here, not into memory
    #[arg(long, value_name = "DIR")]
    file_dir: Option<PathBuf>,
    /// Turn KONG_ settings into references to Kong's own `env` vault, so that Kong writes no value
    /// to its disk
    #[arg(long = "for", value_name = "PROGRAM")]
    program: Option<Program>,
    /// Stay as the parent of the command; when a value changes, start it anew
    #[arg(long)]
    watch: bool,
    /// When a value changes, send this signal instead
    #[arg(long, value_name = "SIGNAL", requires = "watch", value_parser = signal)]
    signal: Option<Signal>,
    /// When a value changes, start the command anew (this is what happens without --signal, too)
    #[arg(long, requires = "watch", conflicts_with = "signal")]
    restart: bool,
    /// How many seconds the command has to end before it is killed, when it is to start anew
    #[arg(long, value_name = "SECONDS", requires = "watch", default_value_t = 10)]
    grace: u64,
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// Programs that we know something about.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Program {
    Kong,
}

impl Exec {
    pub(super) async fn run(self, environment: &Arc<Environment>) -> Status {
        let config = match self.config.load(environment) {
            Ok(config) => config,
            Err(error) => {
                output::problem(&error.to_string());
                return Status::Usage;
            }
        };
        let for_kong = self.program == Some(Program::Kong);
        let plan = match Plan::new(environment, &self.files, for_kong) {
            Ok(plan) => plan,
            Err(report) => return report.print(NOTHING_STARTED),
        };
        let resolver = resolver(config.vaults);
        let values = Values::read(&resolver, plan.references()).await;
        let filled = match plan.filled(&values) {
            Ok(filled) => filled,
            Err(report) => return report.print(NOTHING_STARTED),
        };
        let launch = Launch::new(self.command, environment);
        // What a running command is to read anew must have a name that can be given to new content.
        let in_place = self.watch && self.signal.is_some();
        let store = Store::new(self.file_dir, in_place, environment);
        if !self.watch {
            return launch.replace_us(&filled, &store);
        }
        let on_change = match self.signal {
            Some(signal) => OnChange::Signal(signal),
            None => OnChange::Restart {
                grace: Duration::from_secs(self.grace),
            },
        };
        let watch = Watch {
            launch,
            on_change,
            plan,
            resolver,
            store,
        };
        watch.run(values, filled).await
    }
}

fn signal(text: &str) -> Result<Signal, String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    Signal::from_str(&format!("SIG{name}")).map_err(|_| "no signal has this name".to_owned())
}
