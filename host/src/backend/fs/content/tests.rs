use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

struct File {
    dir: TempDir,
    object: Object,
}

impl File {
    fn new(content: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        fs::create_dir(dir.path().join("real")).expect("made");
        fs::write(dir.path().join("real/f"), content).expect("written");
        symlink("real", dir.path().join("link")).expect("linked");
        let real = fs::canonicalize(dir.path().join("real")).expect("there");
        let object = Object {
            scope: scope_of(&real),
            path: "f".to_owned(),
            version: None,
            alias: None,
        };
        Self { dir, object }
    }

    fn modified(&self) -> SystemTime {
        let about = fs::metadata(self.dir.path().join("real/f")).expect("there");
        about.modified().expect("a time")
    }

    fn read(&self, now: SystemTime) -> Result<String, ReadError> {
        let read = read(&self.dir.path().join("link"), &self.object, now)?;
        let text = read.content.expose_text().expect("text");
        Ok(text.to_owned())
    }
}

#[test]
fn an_empty_file_is_believed_once_it_has_settled() {
    let millis = Duration::from_millis;
    let file = File::new("");
    let modified = file.modified();
    for unsettled in [
        modified,
        modified + millis(99),
        // Of another clock.
        modified - millis(99),
    ] {
        let error = file.read(unsettled).expect_err("too young");
        assert!(error.transient, "{error:?}");
        assert_eq!(error.kind, ReadErrorKind::Unavailable);
    }
    for settled in [
        modified + millis(100),
        modified + millis(86_400_000),
        // Of a clock that is wrong.
        modified - millis(86_400_000),
    ] {
        assert_eq!(file.read(settled), Ok(String::new()));
    }
    // What has content is believed at once; so is an empty line.
    for (content, value) in [("x", "x"), ("\n", "")] {
        let file = File::new(content);
        assert_eq!(file.read(file.modified()), Ok(value.to_owned()));
    }
}

#[test]
fn a_directory_that_is_another_one_now_is_not_read_as_the_one_that_was_meant() {
    let file = File::new("one");
    let now = SystemTime::now();
    assert_eq!(file.read(now), Ok("one".to_owned()));
    fs::create_dir(file.dir.path().join("other")).expect("made");
    fs::write(file.dir.path().join("other/f"), "two").expect("written");
    fs::remove_file(file.dir.path().join("link")).expect("removed");
    symlink("other", file.dir.path().join("link")).expect("linked");
    let error = file.read(now).expect_err("another directory");
    assert!(error.transient, "{error:?}");
}
