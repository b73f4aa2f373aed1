//! The files that a vault is made of, beside its fields: certificates, keys.
//!
//! What they held is not kept, only a number that tells one content from the next. So a vault whose
//! fields are the same can be made anew when one of its files is another.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Files, and what they held when they were read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Files(Vec<(PathBuf, Option<u64>)>);

impl Files {
    /// Reads one. That it cannot be read is remembered too.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let read = std::fs::read(path);
        let held = read.as_ref().ok().map(|content| number(content));
        self.0.push((path.to_owned(), held));
        read
    }

    /// Whether they hold what they held. Waits for the file system.
    pub(crate) fn are_same(&self) -> bool {
        self.0.iter().all(|(path, held)| {
            let content = std::fs::read(path).map(Zeroizing::new);
            *held == content.ok().map(|content| number(&content))
        })
    }
}

fn number(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_comes_or_goes_is_another() {
        let home = tempfile::TempDir::new().expect("a directory");
        let (there, absent) = (home.path().join("there"), home.path().join("absent"));
        std::fs::write(&there, "one").expect("written");
        let mut files = Files::default();
        assert_eq!(files.read(&there).expect("read"), b"one");
        assert!(files.read(&absent).is_err());
        assert!(files.are_same());
        std::fs::write(&there, "two").expect("written");
        assert!(!files.are_same());
        std::fs::write(&there, "one").expect("written");
        assert!(files.are_same());
        std::fs::write(&absent, "").expect("written");
        assert!(!files.are_same());
    }
}
