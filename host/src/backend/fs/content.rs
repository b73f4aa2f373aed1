//! The content of one file, if it is the file that was meant.
//!
//! Everything is looked at anew: what was found out about the path before is believed no longer than
//! until here. A writer that is at work is not waited for; whoever asked is told to ask once more.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use vaultref_contract::Secret;

use super::names::{beneath, scope_of};
use crate::backend::{Object, ReadError, ReadErrorKind, Reading};

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// An empty file that was changed so short a time ago may be one of which the content is to come.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// Reads the object in the directory that is configured. `now` is what files' times are held against.
pub(super) fn read(
    configured: &Path,
    object: &Object,
    now: SystemTime,
) -> Result<Reading, ReadError> {
    let directory = fs::canonicalize(configured).map_err(|error| failed(&error))?;
    if scope_of(&directory) != object.scope {
        return Err(changed());
    }
    let real = real(&directory, &object.path)?;
    if beneath(&directory, &real)? != object.path {
        return Err(changed());
    }
    if !fs::metadata(&real)
        .map_err(|error| failed(&error))?
        .is_file()
    {
        return Err(not_a_file());
    }
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(&real)
        .map_err(|error| failed(&error))?;
    // Between the look and the opening a directory may have become a link.
    let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|error| failed(&error))?;
    if opened != real {
        return Err(changed());
    }
    content(&mut file, now).map(Reading::new)
}

fn real(directory: &Path, path: &str) -> Result<PathBuf, ReadError> {
    let named = fs::canonicalize(directory.join(path));
    let real = match named {
        // Asked for through `..data` in a volume that has no link of its own for the file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::canonicalize(directory.join("..data").join(path))
        }
        other => other,
    };
    real.map_err(|error| failed(&error))
}

fn content(file: &mut File, now: SystemTime) -> Result<Secret, ReadError> {
    let about = file.metadata().map_err(|error| failed(&error))?;
    if !about.is_file() {
        return Err(not_a_file());
    }
    let expected = about.len().min(MAX_FILE_BYTES) + 1;
    // Room for all of it from the start, so that no growing buffer leaves a copy behind.
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    let read = file
        .by_ref()
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes);
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    let secret = Secret::new(bytes);
    let length = read.map_err(|error| failed(&error))?;
    let after = file.metadata().map_err(|error| failed(&error))?;
    if after.len() != about.len() || after.modified().ok() != about.modified().ok() {
        // Somebody is writing it; half of a secret is none.
        return Err(changed());
    }
    if length == 0 && !is_settled(&after, now) {
        return Err(ReadError::transient(
            "the file is empty and was changed just now",
        ));
    }
    if length as u64 > MAX_FILE_BYTES {
        return Err(ReadError::new(
            ReadErrorKind::WrongType,
            "the file is larger than 1 MiB",
        ));
    }
    Ok(secret)
}

fn is_settled(about: &Metadata, now: SystemTime) -> bool {
    let Ok(modified) = about.modified() else {
        return true;
    };
    // (The file system's clock may be another one: also a little later is 'just now'.)
    let apart = now
        .duration_since(modified)
        .unwrap_or_else(|later| later.duration());
    apart >= SETTLED_AFTER
}

pub(super) fn failed(error: &io::Error) -> ReadError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ReadErrorKind::Denied,
        io::ErrorKind::InvalidFilename => ReadErrorKind::InvalidName,
        io::ErrorKind::IsADirectory => ReadErrorKind::WrongType,
        _ => ReadErrorKind::Unavailable,
    };
    ReadError::new(kind, phrase(error))
}

pub(super) fn phrase(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        kind => kind.to_string(),
    }
}

fn changed() -> ReadError {
    ReadError::transient("the path changed while the file was being read")
}

fn not_a_file() -> ReadError {
    ReadError::new(ReadErrorKind::WrongType, "not a regular file")
}

#[cfg(test)]
mod tests;
