//! The one place that writes to stdout and stderr, so that what is written can be searched.

use std::io::{self, IsTerminal as _, Write as _};

use super::Status;

/// One line on stderr.
pub(super) fn problem(text: &str) {
    // Where nobody reads there is nobody to tell.
    let _ = writeln!(io::stderr(), "vaultref: {}", one_line(text));
}

/// One line on stdout.
pub(super) fn line(text: &str) -> Status {
    ended(
        io::stdout()
            .lock()
            .write_all(format!("{text}\n").as_bytes()),
    )
}

/// Bytes on stdout as they are; a newline behind them on a terminal only, so that a file or a pipe
/// gets the value and nothing else.
pub(super) fn bytes(bytes: &[u8]) -> Status {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| {
        if io::stdout().is_terminal() {
            out.write_all(b"\n")?;
        }
        out.flush()
    });
    ended(written)
}

fn ended(written: io::Result<()>) -> Status {
    match written {
        Ok(()) => Status::Ok,
        Err(error) => {
            problem(&format!("cannot write to stdout: {}", error.kind()));
            Status::Internal
        }
    }
}

/// Control characters from a file's name or an argument must not reach a terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}
