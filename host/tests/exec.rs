//! `vaultref exec`: what the command gets, that it takes our place, and what happens if it cannot.

mod support;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use support::{Place, Running, Told, VALUE};

fn exec(place: &Place, options: &[&str], command: &[&str]) -> Command {
    let mut exec = place.command();
    exec.arg("exec").args(options).arg("--").args(command);
    exec
}

fn shell(place: &Place, options: &[&str], script: &str) -> Command {
    exec(place, options, &["sh", "-c", script])
}

/// The environment that a command has, as it has it.
fn variables(command: &mut Command) -> Vec<(OsString, OsString)> {
    let output = command.output().expect("started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let pairs = output.stdout.split(|byte| *byte == 0);
    let pairs = pairs.filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let part = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((part(&pair[..equals]), part(&pair[equals + 1..])))
    });
    pairs.collect()
}

fn variable(found: &[(OsString, OsString)], name: &str) -> Vec<u8> {
    let mut found = found.iter().filter(|(known, _)| known == name);
    let (_, value) = found.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(found.next().is_none(), "{name} comes twice");
    value.as_bytes().to_vec()
}

#[test]
fn the_command_gets_values_byte_for_byte_and_all_else_as_it_was() {
    let place = Place::new();
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB+jCC/==\n\n  odd = \"line\" \\ $HOME\t\r\n-----END CERTIFICATE-----\n";
    place.secret("pem", format!("{pem}\n"));
    place.secret("bytes", b"\xff\xfe\x01");
    place.secret("object", r#"{"db": {"password": "p w"}}"#);
    let odd = OsStr::from_bytes(b"\x80\xff=x\n");
    let mut command = exec(&place, &[], &["env", "-0"]);
    command
        .env("PEM", "{vault://files/pem}")
        .env("BYTES", "{vault://files/bytes}")
        .env(
            "DSN",
            "postgres://u:{vault://files/object/%2Fdb%2Fpassword}@h/{vault://env/test}?x={y}",
        )
        .env("LITERAL", "{{vault://files/none}")
        .env("EMPTY", "")
        .env("ODD", odd)
        .env(OsStr::from_bytes(b"\xffname"), "{vault://env/test}");
    let found = variables(&mut command);
    assert_eq!(variable(&found, "PEM"), pem.as_bytes());
    assert_eq!(variable(&found, "BYTES"), b"\xff\xfe\x01");
    let dsn = format!("postgres://u:p w@h/{VALUE}?x={{y}}");
    assert_eq!(variable(&found, "DSN"), dsn.as_bytes());
    assert_eq!(variable(&found, "LITERAL"), b"{vault://files/none}");
    assert_eq!(variable(&found, "EMPTY"), b"");
    assert_eq!(variable(&found, "ODD"), odd.as_bytes());
    assert_eq!(variable(&found, "TEST"), VALUE.as_bytes());
    let name = OsString::from_vec(b"\xffname".to_vec());
    assert!(found.contains(&(name, VALUE.into())));
    // PATH, TEST, VAULTREF_LOG, RUST_LOG and what was given; nothing is added.
    assert_eq!(found.len(), 11, "{found:?}");
}

#[test]
fn the_command_inherits_no_file_of_ours() {
    let place = Place::new();
    let script = "cd /proc/$$/fd && for fd in *; do echo $fd; done";
    let files = |command: &mut Command| {
        let told = Told::of(&command.output().expect("started"));
        let mut files: Vec<_> = told.out.lines().map(str::to_owned).collect();
        files.sort();
        files
    };
    // Whoever runs this test may have left some open.
    let mut expected = files(Command::new("sh").args(["-c", script]).stdin(Stdio::null()));
    assert_eq!(files(&mut shell(&place, &[], script)), expected);
    expected.push("64".to_owned());
    expected.sort();
    let mut command = shell(&place, &["--file", "TOKEN"], script);
    assert_eq!(
        files(command.env("TOKEN", "{vault://files/token}")),
        expected
    );
}

#[test]
fn the_command_takes_our_place() {
    let place = Place::new();
    let mut running = Running::start(&mut shell(&place, &[], "echo pid $$ && read line; exit 42"));
    let own = format!("pid {}", running.child.id());
    assert_eq!(running.wait_for("pid"), own);
    drop(running.child.stdin.take());
    assert_eq!(running.ended().code(), Some(42));

    let script =
        "trap 'exit 7' TERM; echo ready; while :; do read line || [ $? -gt 128 ] || exit 3; done";
    let mut running = Running::start(&mut shell(&place, &[], script));
    running.wait_for("ready");
    running.send(Signal::SIGTERM);
    assert_eq!(running.ended().code(), Some(7));

    // Also by the one that we ourselves ignore.
    for signal in [Signal::SIGKILL, Signal::SIGPIPE] {
        let script = format!("kill -{} $$; exit 0", signal as i32);
        let status = shell(&place, &[], &script).status().expect("started");
        assert_eq!(status.signal(), Some(signal as i32));
    }
}

#[test]
fn what_cannot_be_run_has_the_exit_codes_of_a_shell() {
    let place = Place::new();
    let file = place.put("no-program", "text");
    for (program, code, word) in [
        ("vaultref-no-such-program", 127, "cannot be run"),
        (file.to_str().expect("text"), 126, "permission denied"),
        (
            place.path().to_str().expect("text"),
            126,
            "permission denied",
        ),
    ] {
        let mut command = exec(&place, &[], &[program]);
        let told = Told::of(
            &command
                .env("A", "{vault://env/test}")
                .output()
                .expect("started"),
        );
        assert_eq!(told.code, code, "{}", told.err);
        assert!(
            told.err.contains(word) && told.err.contains(program),
            "{}",
            told.err
        );
        told.hides_values();
    }
    place.secret("long", "x".repeat(200_000));
    let mut command = exec(&place, &[], &["true"]);
    let told = Told::of(
        &command
            .env("A", "{vault://files/long}")
            .output()
            .expect("started"),
    );
    assert!(
        told.code == 126 && told.err.contains("--file"),
        "{}",
        told.err
    );
}

#[test]
fn what_fails_stops_the_start_and_is_told_in_one_report() {
    let place = Place::new();
    place.secret("object", format!(r#"{{"n": 1, "key": "{VALUE}"}}"#));
    place.secret("nul", format!("{VALUE}\0"));
    std::os::unix::fs::symlink("/etc/hostname", place.path().join("secrets/out")).expect("linked");
    let run = |variables: &[(&str, &str)], options: &[&str]| {
        let mut command = exec(&place, options, &["touch", "started"]);
        let output = command
            .envs(variables.iter().copied())
            .env_remove("VAULTREF_LOG")
            .env_remove("RUST_LOG")
            .output();
        let told = Told::of(&output.expect("started"));
        assert!(!place.path().join("started").exists(), "it was started");
        assert!(
            !told.err.contains(VALUE) && told.out.is_empty(),
            "{}",
            told.err
        );
        (told.code, told.err)
    };
    let (code, err) = run(
        &[
            ("A", "{vault://env/test}"),
            (
                "B",
                "hunter2-Zm9v-around {vault://files/none} {vault://files/object/none}",
            ),
            ("C", "{vault://files/object/n}"),
            ("D", "{vault://files/out}"),
            ("E", "{vault://nope/x}"),
            ("F", "{vault://files/nul}"),
            ("G", "{vault://files/../../etc/passwd}"),
        ],
        &[],
    );
    let lines: Vec<&str> = err.lines().collect();
    let expected = [
        "vaultref: nothing was started:",
        "  B: {vault://files/none}: not-found: no such file or directory",
        "  B: {vault://files/object/none}: key-not-found: the object has no such key",
        "  C: {vault://files/object/n}: wrong-type: ",
        "  D: {vault://files/out}: denied: a link leads out of the directory",
        "  E: {vault://nope/x}: unknown-vault: no vault of that name is configured",
        "  F: {vault://files/nul}: wrong-type: the value holds NUL",
        "  G: {vault://files/../../etc/passwd}: invalid-reference: ",
    ];
    assert_eq!(lines.len(), expected.len(), "{err}");
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line}, not {start}");
    }
    assert_eq!(code, 2);
    for (value, expected) in [
        ("{vault://files/none}{vault://files/out}", 4),
        ("{vault://files/none}", 3),
        ("{vault://files/none", 2),
        ("{vault://files/}", 2),
    ] {
        assert_eq!(run(&[("A", value)], &[]).0, expected, "{value}");
    }
    let (code, err) = run(&[], &["--file", "NONE"]);
    assert!(
        code == 2 && err.contains("NONE: there is no such variable"),
        "{err}"
    );
    let (code, _) = run(&[], &["--config", "none.yaml"]);
    assert_eq!(code, 2);
    for options in [
        &["--signal", "HUP"][..],
        &["--watch", "--signal", "WHAT"],
        &["--for", "nginx"],
    ] {
        assert_eq!(run(&[], options).0, 2);
    }
}

#[test]
fn a_vault_that_is_away_is_code_5() {
    let place = Place::new();
    let port = support::closed_port();
    let yaml = format!("vaults: [{{name: hcv, config: {{token: {VALUE}, port: {port}}}}}]");
    place.put("vaultref.yaml", yaml);
    let mut command = exec(&place, &[], &["true"]);
    let told = Told::of(
        &command
            .env("A", "{vault://hcv/a/b}")
            .output()
            .expect("started"),
    );
    assert!(
        told.code == 5 && told.err.contains("A: {vault://hcv/a/b}: unavailable"),
        "{}",
        told.err
    );
    told.hides_values();
}

#[test]
fn a_value_in_a_file_is_in_no_variable_and_can_be_read_again() {
    let place = Place::new();
    let content = b"-----BEGIN KEY-----\n\0\xff hunter2-Zm9v\n";
    place.secret("key", [content, &b"\n"[..]].concat());
    let script = "cat \"$KEY\"; cat <\"$KEY\"; (cat \"$KEY\"); stat -Lc 'mode %a' \"$KEY\"; echo \"$KEY\"; env >&2";
    let in_directory = place.path().join("run");
    fs::create_dir(&in_directory).expect("made");
    let directory = in_directory.to_str().expect("text");
    for (options, start) in [
        (&["--file", "KEY"][..], "/proc/self/fd/"),
        (&["--file", "KEY", "--file-dir", directory], directory),
    ] {
        let mut command = shell(&place, options, script);
        let output = command
            .env("KEY", "{vault://files/key}")
            .env_remove("TEST")
            .output();
        let output = output.expect("started");
        assert!(output.status.success());
        let expected = [content, content, &content[..], b"mode 600\n"].concat();
        let rest = output
            .stdout
            .strip_prefix(&*expected)
            .expect("three times, byte for byte");
        assert!(rest.starts_with(start.as_bytes()));
        let environment = String::from_utf8_lossy(&output.stderr);
        assert!(
            environment.contains(&format!("KEY={start}")),
            "{environment}"
        );
        assert!(!environment.contains(VALUE), "{environment}");
    }
    // In a directory of its own, which nobody else can enter, it stays for the command.
    let entries: Vec<_> = fs::read_dir(&in_directory)
        .expect("listed")
        .flatten()
        .collect();
    assert_eq!(entries.len(), 1);
    let mode = entries[0].metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(
        fs::read(entries[0].path().join("KEY")).expect("read"),
        content
    );
    // If the command cannot be run, it does not stay.
    let mut command = exec(
        &place,
        &["--file", "KEY", "--file-dir", directory],
        &["/none"],
    );
    let told = Told::of(
        &command
            .env("KEY", "{vault://files/key}")
            .output()
            .expect("started"),
    );
    assert_eq!(told.code, 127);
    assert_eq!(fs::read_dir(&in_directory).expect("listed").count(), 1);
}

#[test]
fn for_kong_no_value_stands_in_a_setting() {
    let place = Place::new();
    let mut command = exec(&place, &["--for", "kong"], &["env", "-0"]);
    command
        .env("KONG_PG_PASSWORD", "{vault://files/token}")
        .env("KONG_PG_DSN", "password={vault://files/token} host=a")
        .env("KONG_SSL_CERT", "{vault://env/ssl-cert}")
        .env("SSL_CERT", "{vault://files/token}")
        .env("REDIS_PASSWORD", "{vault://files/token}");
    let found = variables(&mut command);
    for (name, value) in [
        (
            "KONG_PG_PASSWORD",
            "{vault://env/vaultref-kong-pg-password}",
        ),
        ("VAULTREF_KONG_PG_PASSWORD", VALUE),
        ("KONG_PG_DSN", "{vault://env/vaultref-kong-pg-dsn}"),
        ("VAULTREF_KONG_PG_DSN", &format!("password={VALUE} host=a")),
        ("KONG_SSL_CERT", "{vault://env/ssl-cert}"),
        ("SSL_CERT", VALUE),
        ("REDIS_PASSWORD", VALUE),
    ] {
        assert_eq!(variable(&found, name), value.as_bytes(), "{name}");
    }
    let settings = found
        .iter()
        .filter(|(name, _)| name.as_bytes().starts_with(b"KONG_"));
    for (name, value) in settings {
        assert!(!value.to_string_lossy().contains(VALUE), "{name:?}");
    }
}
