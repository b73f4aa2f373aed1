//! The commands of `vaultref`.
//!
//! Errors are one line on stderr that names the file, the path in it or the reference, and the
//! cause; where there can be several, one report of them. Only `get` and `render` write secrets, to
//! stdout or to a file of its owner's, and only `exec` hands them on.

mod check;
mod exec;
mod files;
mod flush;
mod get;
mod output;
mod parse;
mod render;
mod schema;
mod serve;
mod text;
mod values;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use vaultref_contract::wire::FailureKind;

use crate::config::{self, Config, ConfigError};
use crate::environment::Environment;
use crate::resolver::Resolver;
use crate::vault::Vaults;

/// Vault references for Proxy-Wasm gateways: the resolver.
#[derive(Debug, Parser)]
#[command(name = "vaultref", version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  an internal failure, or one of input and output
  2  usage, configuration, a text that is no reference, an unknown vault
  3  the object or key does not exist, or has a type that is no text
  4  the vault denies it
  5  the vault cannot be reached, or took too long
Of several failures the first of 1, 2, 4, 3, 5 counts. A command started by exec has its own exit
code; 126 if it cannot be run, 127 if it is not there; with --watch 128 and the number of the signal
that ended it.

Environment:
  VAULTREF_CONFIG                the configuration, where --config does not say
  VAULTREF_<BACKEND>_<FIELD>     a field of a backend that is used by its own name
  KONG_VAULT_<BACKEND>_<FIELD>   the same, as Kong has it
  VAULTREF_LOG, RUST_LOG         what is logged (error, warn, info, debug)";

#[derive(Debug, Subcommand)]
enum Command {
    /// Check every reference of some files, and their configuration, in one report
    Check(check::Check),
    /// Start a command with values in the place of the references in its environment variables
    Exec(exec::Exec),
    /// Have a running daemon read values anew, before their ttl is over
    Flush(flush::Flush),
    /// Print the value that a reference stands for
    Get(get::Get),
    /// Show how a reference is read, without reading any secret
    Parse(parse::Parse),
    /// Print a text file with values in the place of its references
    Render(render::Render),
    /// Print the JSON Schema of the filter's configuration
    Schema(schema::Schema),
    /// Run the daemon that gateways ask
    Serve(serve::Serve),
}

/// Which configuration to use.
#[derive(Args, Debug)]
struct ConfigFile {
    /// The configuration [default: $VAULTREF_CONFIG, else ./vaultref.yaml if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn path(&self, environment: &Environment) -> Option<PathBuf> {
        let named = || {
            let value = environment.value("VAULTREF_CONFIG")?.expose_text()?;
            (!value.is_empty()).then(|| PathBuf::from(value))
        };
        let beside = || {
            let path = Path::new("vaultref.yaml");
            path.exists().then(|| path.to_owned())
        };
        self.config.clone().or_else(named).or_else(beside)
    }

    fn load(&self, environment: &Arc<Environment>) -> Result<Config, ConfigError> {
        match self.path(environment) {
            Some(path) => config::load(&path, environment),
            None => config::without_file(environment),
        }
    }
}

/// How a command ended; see `vaultref --help`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// That of the command that was started, or its place.
    Command(u8),
    /// 4
    Denied,
    /// 1
    Internal,
    /// 3
    NotFound,
    /// 0
    Ok,
    /// 5
    Unavailable,
    /// 2
    Usage,
}

impl Status {
    fn of(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Denied => Self::Denied,
            FailureKind::InvalidReference | FailureKind::UnknownVault => Self::Usage,
            FailureKind::KeyNotFound | FailureKind::NotFound | FailureKind::WrongType => {
                Self::NotFound
            }
            FailureKind::Pending | FailureKind::Unavailable => Self::Unavailable,
        }
    }
}

impl Status {
    /// The one of several that a script should see: what must be mended before what may pass.
    fn most_telling(statuses: impl Iterator<Item = Self>) -> Self {
        let rank = |status: &Self| match status {
            Self::Internal => 0,
            Self::Usage => 1,
            Self::Denied => 2,
            Self::NotFound => 3,
            Self::Unavailable => 4,
            Self::Command(_) | Self::Ok => 5,
        };
        statuses.min_by_key(rank).unwrap_or(Self::Ok)
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Command(code) => code,
            Status::Ok => 0u8,
            Status::Internal => 1,
            Status::Usage => 2,
            Status::NotFound => 3,
            Status::Denied => 4,
            Status::Unavailable => 5,
        })
    }
}

/// Runs the command.
pub async fn run(arguments: Arguments, environment: &Arc<Environment>) -> Status {
    match arguments.command {
        Command::Check(check) => check.run(environment).await,
        Command::Exec(exec) => exec.run(environment).await,
        Command::Flush(flush) => flush.run(environment).await,
        Command::Get(get) => get.run(environment).await,
        Command::Parse(parse) => parse.run(),
        Command::Render(render) => render.run(environment).await,
        Command::Schema(schema) => schema.run(),
        Command::Serve(serve) => serve.run(environment).await,
    }
}

/// Sends the log to stderr. Libraries that are used can say no more than warnings, whatever the
/// variables ask for: their debug lines hold requests and answers.
pub fn log_to_stderr(arguments: &Arguments, environment: &Environment) {
    let usual = match arguments.command {
        Command::Serve(_) => "info",
        // Their errors are reported once, by themselves.
        Command::Check(_)
        | Command::Exec(_)
        | Command::Flush(_)
        | Command::Get(_)
        | Command::Parse(_)
        | Command::Render(_)
        | Command::Schema(_) => "error",
    };
    let wanted = ["VAULTREF_LOG", "RUST_LOG"]
        .iter()
        .find_map(|name| environment.value(name)?.expose_text())
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(usual));
    let bound = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("vaultref", LevelFilter::TRACE)
        // They log what servers answer; what is worth knowing of it our own lines say.
        .with_target("aws", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Set twice only if somebody else has set it, and then that one is as good.
    let _ = tracing_subscriber::registry()
        .with(bound)
        .with(lines.with_filter(wanted))
        .try_init();
}

/// Reports a failure that comes before any command, in one line.
#[must_use]
pub fn report(problem: &str) -> ExitCode {
    output::problem(problem);
    Status::Internal.into()
}

fn resolver(vaults: Vaults) -> Resolver {
    Resolver::new(vaults, random(), tokio::runtime::Handle::current())
}

/// The keys of the standard library's hash maps are random; no more is needed to tell one start
/// from another.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish()
}
