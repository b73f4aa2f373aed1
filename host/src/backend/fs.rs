//! `fs`: files beneath one directory.
//!
//! Whatever the resource is, whatever links there are: the file that is read lies beneath the
//! vault's directory. The path is made real first, the real file is opened without waiting (a FIFO
//! or a device gives an error, not a hanging daemon), and the open file must be the one whose path
//! was checked. Links inside the directory work, so that a Kubernetes volume (`token -> ..data/token`,
//! `..data -> ..2026_01_01`) is read as it is meant.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use nix::fcntl::OFlag;
use vaultref_contract::Secret;

use super::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading, Spelling, USUAL_TTL};
use crate::config::{ConfigError, Fields};
use crate::environment::Environment;

pub(super) const KIND: Kind = Kind {
    name: "fs",
    build,
    ttl: USUAL_TTL,
    reference_options: &[],
    spelling: Spelling::EXACT,
};

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

#[derive(Debug)]
struct Directory {
    /// As configured: a link in it is followed at each read, so that it can be changed.
    configured: PathBuf,
}

fn build(
    fields: &mut Fields,
    _environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    let node = fields.require("prefix")?;
    // Made absolute once, so that nothing changes with the working directory later.
    let configured = std::path::absolute(node.text()?)
        .map_err(|_| node.error("must be the path of a directory"))?;
    match fs::metadata(&configured) {
        Ok(found) if found.is_dir() => Ok(Arc::new(Directory { configured })),
        Ok(_) => Err(node.error("is not a directory")),
        Err(error) => Err(node.error(format!("cannot be used: {}", phrase(&error)))),
    }
}

impl Backend for Directory {
    fn scope(&self) -> Cow<'_, str> {
        let real = fs::canonicalize(&self.configured);
        Cow::Owned(scope_of(real.as_deref().unwrap_or(&self.configured)))
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        let lexical = lexical(asked.resource)?;
        if !matches!(asked.version, None | Some(1)) {
            return Err(ReadError::new(
                ReadErrorKind::NotFound,
                "a file has its current version only",
            ));
        }
        let directory = fs::canonicalize(&self.configured).map_err(|error| failed(&error))?;
        let written = plain(&lexical);
        let path = match fs::canonicalize(directory.join(&lexical)) {
            Ok(real) => beneath(&directory, &real)?,
            // It may come to be. Until then it is what it is called.
            Err(_) => written.clone(),
        };
        Ok(Object {
            scope: scope_of(&directory),
            alias: (written != path).then_some(written),
            path,
            version: None,
        })
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let configured = self.configured.clone();
        let path = object.path.clone();
        Box::pin(async move {
            tokio::task::spawn_blocking(move || read(&configured, &path))
                .await
                .unwrap_or_else(|_| {
                    Err(ReadError::new(
                        ReadErrorKind::Unavailable,
                        "the read was broken off",
                    ))
                })
        })
    }
}

/// The resource as a path of plain names.
fn lexical(resource: &str) -> Result<PathBuf, ReadError> {
    let odd = |cause| Err(ReadError::new(ReadErrorKind::InvalidName, cause));
    if resource.contains('\0') {
        return odd("a file's name cannot hold NUL");
    }
    let plain = |name: &str| !matches!(name, "" | "." | "..");
    if !resource.split('/').all(plain) {
        return odd("no name between slashes may be empty, '.' or '..'");
    }
    Ok(PathBuf::from(resource))
}

/// The canonical path of a real file, if it lies beneath the real directory.
fn beneath(directory: &Path, real: &Path) -> Result<String, ReadError> {
    match real.strip_prefix(directory) {
        Ok(relative) => Ok(plain(relative)),
        Err(_) => Err(ReadError::new(
            ReadErrorKind::Denied,
            "a link leads out of the directory",
        )),
    }
}

/// Without the directories that Kubernetes puts between a volume and its files (`..data`,
/// `..2026_01_01_00_00_00.1`), which change with each rotation.
fn plain(relative: &Path) -> String {
    let kept: Vec<_> = relative
        .iter()
        .map(|name| name.to_string_lossy())
        .filter(|name| !is_rotated(name))
        .collect();
    kept.join("/")
}

fn is_rotated(name: &str) -> bool {
    name.len() > 2 && name.starts_with("..")
}

fn scope_of(directory: &Path) -> String {
    let mut scope: String = directory
        .iter()
        .map(|name| name.to_string_lossy())
        .filter(|name| name != "/" && !is_rotated(name))
        .flat_map(|name| ["/".to_owned(), name.into_owned()])
        .collect();
    scope.push('/');
    scope
}

fn read(configured: &Path, path: &str) -> Result<Reading, ReadError> {
    let directory = fs::canonicalize(configured).map_err(|error| failed(&error))?;
    let named = fs::canonicalize(directory.join(path));
    let real = match named {
        // Asked for through `..data` in a volume that has no link of its own for the file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::canonicalize(directory.join("..data").join(path))
        }
        other => other,
    }
    .map_err(|error| failed(&error))?;
    if beneath(&directory, &real)? != path {
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
    content(&mut file).map(Reading::new)
}

fn content(file: &mut File) -> Result<Secret, ReadError> {
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
    if length as u64 > MAX_FILE_BYTES {
        return Err(ReadError::new(
            ReadErrorKind::WrongType,
            "the file is larger than 1 MiB",
        ));
    }
    Ok(secret)
}

fn failed(error: &io::Error) -> ReadError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ReadErrorKind::Denied,
        io::ErrorKind::InvalidFilename => ReadErrorKind::InvalidName,
        io::ErrorKind::IsADirectory => ReadErrorKind::WrongType,
        _ => ReadErrorKind::Unavailable,
    };
    ReadError::new(kind, phrase(error))
}

fn phrase(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        kind => kind.to_string(),
    }
}

fn changed() -> ReadError {
    ReadError::new(
        ReadErrorKind::Unavailable,
        "the path changed while the file was being read",
    )
}

fn not_a_file() -> ReadError {
    ReadError::new(ReadErrorKind::WrongType, "not a regular file")
}

#[cfg(test)]
mod tests;
