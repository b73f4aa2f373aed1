//! Values as files for the command: in memory, or where that is not possible in a directory of
//! their own that only their owner can enter.
//!
//! A file in memory has no name that others could find, and is gone with the last process that has
//! it open. Its path is `/proc/self/fd/<n>`, which can be opened any number of times, each time from
//! the start. It cannot be written any more, by nobody.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, RawFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vaultref_contract::Secret;

use super::super::{files, random};
use crate::environment::Environment;

/// Shells use numbers below this one for their own redirections.
const FIRST_FD: RawFd = 64;

/// Where files of values go.
#[derive(Debug)]
pub(super) struct Store {
    memory: bool,
    /// The first that can be used is.
    directories: Vec<PathBuf>,
}

impl Store {
    /// Uses this directory if one is given, else memory, unless files are to be replaced in place.
    pub(super) fn new(
        directory: Option<PathBuf>,
        in_place: bool,
        environment: &Environment,
    ) -> Self {
        let memory = directory.is_none() && !in_place;
        let named = |name: &str| {
            let text = environment.value(name)?.expose_text()?;
            (!text.is_empty()).then(|| PathBuf::from(text))
        };
        let usual = || {
            // In memory, if not without a name.
            let shared = [Some(PathBuf::from("/dev/shm")), named("XDG_RUNTIME_DIR")];
            let others = [named("TMPDIR"), Some(PathBuf::from("/tmp"))];
            shared.into_iter().chain(others).flatten().collect()
        };
        Self {
            memory,
            directories: directory.map_or_else(usual, |directory| vec![directory]),
        }
    }

    /// Puts files away, by the names of their variables.
    ///
    /// # Errors
    /// The last cause, if there is no place at all.
    pub(super) fn put(&self, files: &[(OsString, Secret)]) -> io::Result<Stored> {
        if files.is_empty() {
            return Ok(Stored::default());
        }
        if self.memory
            && let Ok(stored) = Stored::in_memory(files)
        {
            return Ok(stored);
        }
        let mut last = io::ErrorKind::NotFound.into();
        for directory in &self.directories {
            match Stored::in_directory(directory, files) {
                Ok(stored) => return Ok(stored),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Files that were put away. They go when this does.
#[derive(Debug, Default)]
pub(super) struct Stored {
    paths: Vec<(OsString, PathBuf)>,
    memory: Vec<RawFd>,
    directory: Option<PathBuf>,
}

impl Stored {
    fn in_memory(files: &[(OsString, Secret)]) -> io::Result<Self> {
        let mut stored = Self::default();
        for (variable, value) in files {
            let fd = in_memory(value)?;
            stored.memory.push(fd);
            let path = PathBuf::from(format!("/proc/self/fd/{fd}"));
            // Without /proc there is no such path.
            File::open(&path)?;
            stored.paths.push((variable.clone(), path));
        }
        Ok(stored)
    }

    fn in_directory(parent: &Path, files: &[(OsString, Secret)]) -> io::Result<Self> {
        let directory = std::path::absolute(parent)?.join(format!("vaultref-{:016x}", random()));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let mut stored = Self::default();
        stored.directory = Some(directory.clone());
        for (index, (variable, value)) in files.iter().enumerate() {
            let plain = variable.to_str().filter(|name| {
                name.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            });
            let name = plain.map_or_else(|| index.to_string(), str::to_owned);
            let path = directory.join(name);
            files::replace(&path, value.expose())?;
            stored.paths.push((variable.clone(), path));
        }
        Ok(stored)
    }

    /// The variables with the paths of their files.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&OsString, &PathBuf)> {
        self.paths.iter().map(|(variable, path)| (variable, path))
    }

    /// Gives files in a directory new content, each as a whole.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn replace(&self, files: &[(OsString, Secret)]) -> io::Result<()> {
        for (variable, value) in files {
            let known = self.paths.iter().find(|(known, _)| known == variable);
            if let Some((_, path)) = known {
                files::replace(path, value.expose())?;
            }
        }
        Ok(())
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        for fd in self.memory.drain(..) {
            // It was opened by us and is closed here only.
            let _ = nix::unistd::close(fd);
        }
        if let Some(directory) = &self.directory {
            // Nothing can be done about what cannot be removed.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// A file in memory that stays open when a program is started, and cannot be written any more.
fn in_memory(value: &Secret) -> io::Result<RawFd> {
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
    let mut file = File::from(memfd_create("vaultref", flags)?);
    file.write_all(value.expose())?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    // The copy is inherited (it has no close-on-exec flag), the original is not.
    Ok(fcntl(file.as_fd(), FcntlArg::F_DUPFD(FIRST_FD))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(value: &[u8]) -> Vec<(OsString, Secret)> {
        ["KEY", "odd/name"]
            .map(|name| (name.into(), Secret::new(value.to_vec())))
            .into()
    }

    fn read(stored: &Stored) -> Vec<Vec<u8>> {
        stored
            .paths()
            .map(|(_, path)| fs::read(path).expect("read"))
            .collect()
    }

    #[test]
    fn a_file_in_memory_can_be_read_again_and_not_be_written() {
        let store = Store::new(None, false, &Environment::default());
        let stored = store.put(&files(b"v\0\xff\n")).expect("put away");
        assert!(stored.directory.is_none());
        for _ in 0..2 {
            assert_eq!(read(&stored), [b"v\0\xff\n", b"v\0\xff\n"]);
        }
        for (_, path) in stored.paths() {
            let about = fs::metadata(path).expect("there");
            assert_eq!(about.permissions().mode() & 0o777, 0o600);
            let opened = fs::OpenOptions::new().write(true).open(path);
            assert!(opened.and_then(|mut file| file.write_all(b"x")).is_err());
        }
        let paths: Vec<_> = stored.paths().map(|(_, path)| path.clone()).collect();
        drop(stored);
        assert!(paths.iter().all(|path| File::open(path).is_err()));
    }

    #[test]
    fn files_in_a_directory_are_their_owners_and_go_with_it() {
        let place = tempfile::TempDir::new().expect("a directory");
        let store = Store::new(Some(place.path().into()), false, &Environment::default());
        let stored = store.put(&files(b"old")).expect("put away");
        let directory = stored.directory.clone().expect("a directory");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert!(
            stored
                .paths()
                .all(|(_, path)| path.starts_with(&directory) && mode(path) == 0o600)
        );
        stored.replace(&files(b"new")).expect("replaced");
        assert_eq!(read(&stored), [b"new", b"new"]);
        drop(stored);
        assert_eq!(fs::read_dir(place.path()).expect("listed").count(), 0);
    }

    #[test]
    fn the_first_directory_that_works_is_used() {
        let place = tempfile::TempDir::new().expect("a directory");
        let store = Store {
            memory: false,
            directories: vec![place.path().join("none"), place.path().into()],
        };
        let stored = store.put(&files(b"v")).expect("put away");
        assert!(
            stored
                .paths()
                .all(|(_, path)| path.starts_with(place.path()))
        );
        let store = Store {
            memory: false,
            directories: vec![place.path().join("none")],
        };
        assert!(store.put(&files(b"v")).is_err());
    }
}
