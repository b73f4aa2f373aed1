//! `vaultref render`: all of a text or nothing of it.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::{Place, Told, VALUE};

#[test]
fn a_text_comes_out_with_values_and_all_else_as_it_was() {
    let place = Place::new();
    let text =
        b"key: {vault://files/token}\r\nliteral: {{vault://x}\n\xff\xfe{vault://env/test}{x}";
    let file = place.put("app.conf.tmpl", text);
    let expected = [
        format!("key: {VALUE}\r\nliteral: {{vault://x}}\n").as_bytes(),
        b"\xff\xfe",
        format!("{VALUE}{{x}}").as_bytes(),
    ]
    .concat();
    let render = || {
        let mut command = place.command();
        command.arg("render");
        command
    };
    let output = render().arg(&file).output().expect("started");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, expected);
    let opened = fs::File::open(&file).expect("opened");
    let output = render().arg("-").stdin(opened).output().expect("started");
    assert_eq!(output.stdout, expected);
    // Over a file that others may read comes one that they may not.
    let out = place.put("out", "old");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o644)).expect("set");
    let output = render().arg(&file).args(["-o", "out"]).output();
    let told = Told::of(&output.expect("started"));
    assert_eq!((told.code, &*told.out), (0, ""));
    told.hides_values();
    assert_eq!(fs::read(&out).expect("read"), expected);
    let mode = fs::metadata(&out).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_fails_is_told_with_its_line_and_nothing_is_written() {
    let place = Place::new();
    place.put("out", "old");
    for (text, code, lines) in [
        (
            "{vault://env/test}\n{vault://files/none} {vault://nope/x}\n\n x {vault://files/none}",
            2,
            &[
                "vaultref: nothing was rendered:",
                "  t:2: {vault://files/none}: not-found: ",
                "  t:2: {vault://nope/x}: unknown-vault: ",
                "  t:4: {vault://files/none}: not-found: ",
            ][..],
        ),
        (
            "\n{vault://env/test}{vault://env}\n{vault://",
            2,
            &[
                "vaultref: nothing was rendered:",
                "  t:2: invalid-reference: the path is missing",
                "  t:3: invalid-reference: the reference that starts here has no '}'",
            ],
        ),
        (
            "{vault://files/none}",
            3,
            &["vaultref: nothing was rendered:", "  t:1: "],
        ),
    ] {
        place.put("t", text);
        for arguments in [&["render", "t"][..], &["render", "t", "-o", "out"]] {
            let mut command = place.command();
            command.env_remove("RUST_LOG").env_remove("VAULTREF_LOG");
            let told = Told::of(&command.args(arguments).output().expect("started"));
            assert_eq!((told.code, &*told.out), (code, ""), "{}", told.err);
            let found: Vec<_> = told.err.lines().collect();
            assert_eq!(found.len(), lines.len(), "{}", told.err);
            for (line, start) in found.iter().zip(lines) {
                assert!(line.starts_with(start), "{line}, not {start}");
            }
            told.hides_values();
        }
        assert_eq!(fs::read(place.path().join("out")).expect("read"), b"old");
    }
    let left = fs::read_dir(place.path()).expect("listed").count();
    assert_eq!(left, 4, "vaultref.yaml, secrets, out, t");
    assert_eq!(place.run(&["render", "none"]).code, 2);
    place.put("t", "{vault://env/test}");
    let told = place.run(&["render", "t", "-o", "none/out"]);
    assert_eq!(told.code, 1);
    assert!(
        told.err.contains("none/out: cannot be written"),
        "{}",
        told.err
    );
    told.hides_values();
}
