use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::SystemTime;

use nix::sys::stat::Mode;
use tempfile::TempDir;
use vaultref_contract::wire::FailureKind;

use super::content;
use crate::backend::Asked;
use crate::backend::kit::{self, get, path, vaults};
use crate::environment::Environment;
use crate::vault::Vaults;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn of(&self, directory: &Path) -> Vaults {
        let yaml = format!("vaults: [{{name: fs, config: {{prefix: {directory:?}}}}}]");
        vaults(&yaml, Environment::default())
    }

    fn vaults(&self) -> Vaults {
        self.of(self.path())
    }

    fn put(&self, resource: &str, text: &str) {
        fs::write(self.path().join(resource), text).expect("written");
    }

    fn get(&self, rest: &str) -> Result<String, FailureKind> {
        get(self.vaults(), &format!("{{vault://fs/{rest}}}"))
    }
}

#[test]
fn one_final_line_ending_is_not_part_of_the_value() {
    let files = Files::new();
    for (content, value) in [
        ("v\n", "v"),
        ("v\r\n", "v"),
        ("v\n\n", "v\n"),
        ("v\r", "v\r"),
        ("\nv", "\nv"),
        ("\n", ""),
        ("", ""),
    ] {
        files.put("f", content);
        assert_eq!(files.get("f"), Ok(value.to_owned()), "{content:?}");
    }
}

#[test]
fn a_file_has_one_version() {
    let files = Files::new();
    files.put("f", "v");
    for (rest, expected) in [
        ("f", Ok("v")),
        ("f#1", Ok("v")),
        ("f#0", Err(FailureKind::NotFound)),
        ("f#2", Err(FailureKind::NotFound)),
    ] {
        assert_eq!(files.get(rest), expected.map(str::to_owned), "{rest}");
    }
}

#[test]
fn nothing_outside_the_directory_is_read() {
    let outer = TempDir::new().expect("a directory");
    fs::write(outer.path().join("secret"), "outside").expect("written");
    let files = Files::new();
    fs::create_dir(files.path().join("sub")).expect("made");
    let outside = outer.path().join("secret");
    symlink(&outside, files.path().join("link")).expect("linked");
    symlink(outer.path(), files.path().join("dir")).expect("linked");
    symlink(
        "../../../../../../../../../etc/passwd",
        files.path().join("sub/up"),
    )
    .expect("linked");
    let escaped = outside.to_string_lossy().replace('/', "%2F");
    for rest in [
        "link",
        "dir/secret/",
        "sub/up/",
        "..%2Fsecret",
        "sub/../link/",
        "../x/",
        "%2Fetc%2Fpasswd",
        "sub/..%2F..%2Fetc%2Fpasswd/",
        "./link/",
        "a%00b",
        &escaped,
    ] {
        let got = files.get(rest).expect_err(rest);
        assert!(
            matches!(got, FailureKind::Denied | FailureKind::InvalidReference),
            "{rest}: {got}"
        );
    }
}

#[test]
fn a_link_that_turns_outward_after_it_was_checked_is_not_followed() {
    let outer = TempDir::new().expect("a directory");
    fs::write(outer.path().join("f"), "outside").expect("written");
    let files = Files::new();
    fs::create_dir(files.path().join("d")).expect("made");
    fs::write(files.path().join("d/f"), "inside").expect("written");
    let vaults = files.vaults();
    let backend = vaults
        .find("fs")
        .expect("the vault")
        .backend()
        .expect("made");
    let object = kit::object(&*backend, &Asked::current("d/f")).expect("inside");
    fs::rename(files.path().join("d"), files.path().join("e")).expect("moved");
    symlink(outer.path(), files.path().join("d")).expect("linked");
    let read = content::read(files.path(), &object, SystemTime::now());
    let kind = read.map(|_| ()).expect_err("outside").kind.failure_kind();
    assert_eq!(kind, FailureKind::Denied);
}

#[test]
fn links_inside_work_and_name_the_real_file() {
    let files = Files::new();
    files.put("real", "v");
    symlink("real", files.path().join("alias")).expect("linked");
    symlink(files.path().join("real"), files.path().join("absolute")).expect("linked");
    let vaults = files.vaults();
    let backend = vaults
        .find("fs")
        .expect("the vault")
        .backend()
        .expect("made");
    for name in ["alias", "absolute", "real"] {
        assert_eq!(files.get(name), Ok("v".to_owned()), "{name}");
        assert_eq!(path(&*backend, name), Ok("real".to_owned()), "{name}");
    }
    assert_eq!(path(&*backend, "not-yet"), Ok("not-yet".to_owned()));
}

/// As a Kubernetes volume is made, and changed: `token -> ..data/token`, `..data -> ..<time>`.
#[test]
fn a_kubernetes_volume_keeps_its_names_when_it_rotates() {
    let files = Files::new();
    let rotate = |time: &str, value: &str| {
        fs::create_dir(files.path().join(time)).expect("made");
        fs::write(files.path().join(time).join("token"), value).expect("written");
        symlink(time, files.path().join("..data_tmp")).expect("linked");
        fs::rename(files.path().join("..data_tmp"), files.path().join("..data")).expect("moved");
    };
    rotate("..2026_01_01", "one");
    symlink("..data/token", files.path().join("token")).expect("linked");
    let vaults = files.vaults();
    let backend = vaults
        .find("fs")
        .expect("the vault")
        .backend()
        .expect("made");
    let before = (backend.scope().into_owned(), path(&*backend, "token"));
    assert_eq!(before.1, Ok("token".to_owned()));
    assert_eq!(path(&*backend, "..data/token"), before.1);
    assert_eq!(files.get("token"), Ok("one".to_owned()));
    rotate("..2026_01_02", "two");
    assert_eq!(
        (backend.scope().into_owned(), path(&*backend, "token")),
        before
    );
    assert_eq!(files.get("token"), Ok("two".to_owned()));
    assert_eq!(files.get("..data/token/"), Ok("two".to_owned()));
    // A vault whose directory is the volume's inner one is the same place.
    let inner = files.of(&files.path().join("..data"));
    assert_eq!(
        inner
            .find("fs")
            .expect("the vault")
            .backend()
            .expect("made")
            .scope(),
        before.0
    );
    assert_eq!(get(inner, "{vault://fs/token}"), Ok("two".to_owned()));
}

#[test]
fn only_regular_files_of_a_bounded_size() {
    let files = Files::new();
    fs::create_dir(files.path().join("directory")).expect("made");
    nix::unistd::mkfifo(&files.path().join("fifo"), Mode::S_IRWXU).expect("made");
    files.put("most", &"x".repeat(1024 * 1024));
    files.put("more", &"x".repeat(1024 * 1024 + 1));
    for name in ["directory", "fifo", "more"] {
        assert_eq!(files.get(name), Err(FailureKind::WrongType), "{name}");
    }
    assert_eq!(files.get("most").map(|value| value.len()), Ok(1024 * 1024));
    assert_eq!(
        files.get(&"n".repeat(300)),
        Err(FailureKind::InvalidReference)
    );
}
