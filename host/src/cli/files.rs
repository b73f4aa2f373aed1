//! Files that hold values: readable by their owner alone, never there in part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::random;

/// Puts content where a path says. Whoever opens it gets the old content or the new one, never a
/// part; it is on the disk before it has its name. A link in its place is replaced, not followed.
pub(super) fn replace(target: &Path, content: &[u8]) -> io::Result<()> {
    let beside = beside(target)?;
    let written = write_new(&beside, content).and_then(|()| fs::rename(&beside, target));
    if written.is_err() {
        // Whatever there is of it must not stay; the first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn beside(target: &Path) -> io::Result<PathBuf> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{:016x}", random()));
    Ok(target.with_file_name(hidden))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A file that was not there, not even as a link.
fn new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_replaced_is_new_whole_and_its_owners_alone() {
        let place = tempfile::TempDir::new().expect("a directory");
        let (target, victim) = (place.path().join("out"), place.path().join("victim"));
        fs::write(&victim, "old").expect("written");
        symlink(&victim, &target).expect("linked");
        for content in [&b"first\xff"[..], b"second", b""] {
            replace(&target, content).expect("replaced");
            let about = fs::symlink_metadata(&target).expect("there");
            assert!(about.is_file());
            assert_eq!(about.permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read(&target).expect("read"), content);
        }
        assert_eq!(fs::read(&victim).expect("read"), b"old");
        assert_eq!(fs::read_dir(place.path()).expect("listed").count(), 2);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let place = tempfile::TempDir::new().expect("a directory");
        let target = place.path().join("directory");
        fs::create_dir_all(target.join("full")).expect("made");
        assert!(replace(&target, b"value").is_err());
        assert!(replace(&place.path().join(".."), b"value").is_err());
        assert_eq!(fs::read_dir(place.path()).expect("listed").count(), 1);
    }
}
