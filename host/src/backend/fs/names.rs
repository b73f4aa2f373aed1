//! What files are called: a resource as a path, a real file as the one name that all ways to it share.

use std::path::{Path, PathBuf};

use crate::backend::{ReadError, ReadErrorKind};

/// The resource as a path of plain names.
pub(super) fn lexical(resource: &str) -> Result<PathBuf, ReadError> {
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
pub(super) fn beneath(directory: &Path, real: &Path) -> Result<String, ReadError> {
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
pub(super) fn plain(relative: &Path) -> String {
    let kept: Vec<_> = relative
        .iter()
        .map(|name| name.to_string_lossy())
        .filter(|name| !is_rotated(name))
        .collect();
    kept.join("/")
}

/// The scope of a vault whose real directory this is.
pub(super) fn scope_of(directory: &Path) -> String {
    let mut scope: String = directory
        .iter()
        .map(|name| name.to_string_lossy())
        .filter(|name| name != "/" && !is_rotated(name))
        .flat_map(|name| ["/".to_owned(), name.into_owned()])
        .collect();
    scope.push('/');
    scope
}

fn is_rotated(name: &str) -> bool {
    name.len() > 2 && name.starts_with("..")
}
