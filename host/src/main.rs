//! The `vaultref` binary: what a process does once (TLS provider, runtime, log), then the command.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use vaultref_host::cli::{self, Arguments};
use vaultref_host::environment::Environment;

fn main() -> ExitCode {
    let environment = Arc::new(Environment::new(std::env::vars_os()));
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors. Nothing can be done if they cannot be printed.
            let _ = error.print();
            return if error.use_stderr() {
                cli::Status::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    // One TLS stack for all backends, chosen before any of them can choose.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    cli::log_to_stderr(&arguments, &environment);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return cli::report(&format!("cannot start: {}", error.kind())),
    };
    let status = runtime.block_on(cli::run(arguments, &environment));
    // A read that hangs in a file system must not keep the process.
    runtime.shutdown_background();
    status.into()
}
