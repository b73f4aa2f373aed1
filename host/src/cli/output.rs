//! The one place that writes to stdout and stderr, so that what is written can be searched.

use std::io::{self, IsTerminal as _, Write as _};

use super::Status;

/// One line on stderr.
pub(super) fn problem(text: &str) {
    // Where nobody reads there is nobody to tell.
    let _ = writeln!(io::stderr(), "vaultref: {}", one_line(text));
}

/// A headline on stderr, and below it a line for each problem. Written at once, so that no other
/// line gets between them.
pub(super) fn problems<'a>(headline: &str, lines: impl Iterator<Item = &'a str>) {
    let mut text = format!("vaultref: {}:\n", one_line(headline));
    for line in lines {
        text.push_str("  ");
        text.push_str(&one_line(line));
        text.push('\n');
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// One line on stdout.
pub(super) fn line(text: &str) -> Status {
    ended(
        io::stdout()
            .lock()
            .write_all(format!("{text}\n").as_bytes()),
    )
}

/// Lines on stdout.
pub(super) fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> Status {
    let text: String = lines
        .flat_map(|line| [one_line(line), "\n".into()])
        .collect();
    ended(io::stdout().lock().write_all(text.as_bytes()))
}

/// How far long work has come, on a terminal only; each call overwrites what the last one said.
pub(super) fn progress(text: &str) {
    let mut terminal = io::stderr().lock();
    if terminal.is_terminal() {
        let _ = write!(terminal, "\r{}\x1b[K", one_line(text));
    }
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
