//! `vaultref exec --watch`: signals and exit codes pass through us, and a change reaches the command.

mod support;

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use support::{Place, Running, VALUE};

const FIRST: &str = "first-hunter2-Zm9v";
const SECOND: &str = "second-hunter2-Zm9v";

/// Waits for input, and goes on when a signal comes.
const WAIT: &str = "while :; do got=; read line || [ \"$got\" ] || exit 3; done";

fn watch(place: &Place, options: &[&str], script: &str) -> Command {
    place.secret("token", FIRST);
    let mut command = place.command();
    command
        .args(["exec", "--watch"])
        .args(options)
        .args(["--", "sh", "-c", script])
        .env("TOKEN", "{vault://files/token}")
        .env_remove("TEST")
        .env_remove("RUST_LOG")
        .env_remove("VAULTREF_LOG");
    command
}

/// Values are sought by what they have in common; the command itself says only how they begin.
fn hides_values(lines: &[String]) {
    assert!(!lines.iter().any(|line| line.contains(VALUE)), "{lines:#?}");
}

#[test]
fn signals_go_to_the_command_and_its_exit_code_comes_back() {
    let place = Place::new();
    let script = format!(
        "for name in HUP USR1 USR2 INT; do trap \"got=1; echo got $name\" $name; done
         trap 'exit 9' TERM; echo pid $$; {WAIT}"
    );
    let mut running = Running::start(&mut watch(&place, &[], &script));
    let own = format!("pid {}", running.child.id());
    assert_ne!(running.wait_for("pid"), own);
    for (signal, name) in [
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGUSR2, "USR2"),
        (Signal::SIGINT, "INT"),
    ] {
        running.send(signal);
        running.wait_for(&format!("got {name}"));
    }
    running.send(Signal::SIGTERM);
    assert_eq!(running.ended().code(), Some(9));
    for (script, code) in [("exit 0", 0), ("exit 33", 33), ("kill -KILL $$", 137)] {
        let status = watch(&place, &[], script).status().expect("started");
        assert_eq!(status.code(), Some(code), "{script}");
    }
    let mut command = place.command();
    command.args(["exec", "--watch", "--", "/no/such/program"]);
    let output = command.output().expect("started");
    assert_eq!(output.status.code(), Some(127));
}

#[test]
fn a_new_value_starts_the_command_anew() {
    let place = Place::new();
    let script = format!("echo has ${{TOKEN%%-*}}; echo file $(cut -d- -f1 \"$KEY\"); {WAIT}");
    let mut command = watch(&place, &["--file", "KEY"], &script);
    let mut running = Running::start(command.env("KEY", "{vault://files/token}"));
    running.wait_for("has first");
    running.wait_for("file first");
    place.secret("token", SECOND);
    running.wait_for("started anew");
    running.wait_for("has second");
    running.wait_for("file second");
    // While it is away the command keeps what it has.
    fs::remove_file(place.path().join("secrets/token")).expect("removed");
    running.wait_for("{vault://files/token}: not-found: the command keeps");
    place.secret("token", FIRST);
    running.wait_for("has first");
    running.send(Signal::SIGTERM);
    assert_eq!(running.ended().code(), Some(143));
    let all = running.all();
    hides_values(&all);
    let starts = all.iter().filter(|line| line.starts_with("has "));
    assert_eq!(starts.count(), 3, "{all:#?}");
}

#[test]
fn a_command_that_does_not_end_is_killed_to_start_anew() {
    let place = Place::new();
    let script = format!("trap 'got=1; echo deaf' TERM; echo has ${{TOKEN%%-*}}; {WAIT}");
    let mut running = Running::start(&mut watch(&place, &["--grace", "1"], &script));
    running.wait_for("has first");
    place.secret("token", SECOND);
    running.wait_for("deaf");
    running.wait_for("has second");
    // Its input is at its end.
    drop(running.child.stdin.take());
    assert_eq!(running.ended().code(), Some(3));
}

#[test]
fn a_command_that_is_told_to_end_is_not_started_anew() {
    let place = Place::new();
    // It takes its time to end, and before it does the value changes.
    let script = format!("trap 'got=1; echo ending' TERM; echo has ${{TOKEN%%-*}}; {WAIT}");
    let mut running = Running::start(&mut watch(&place, &["--grace", "1"], &script));
    running.wait_for("has first");
    running.send(Signal::SIGTERM);
    running.wait_for("ending");
    place.secret("token", SECOND);
    running.wait_for("ending");
    assert_eq!(running.ended().code(), Some(137));
}

#[test]
fn a_new_value_is_in_the_file_before_the_signal_comes() {
    let place = Place::new();
    let run = place.path().join("run");
    fs::create_dir(&run).expect("made");
    let script =
        format!("trap 'got=1; echo file $(cut -d- -f1 \"$KEY\")' HUP; echo ready $KEY; {WAIT}");
    let directory = run.to_str().expect("text");
    let options = ["--signal", "HUP", "--file", "KEY", "--file-dir", directory];
    let mut command = watch(&place, &options, &script);
    place.secret("other", "value");
    command.env("OTHER", "{vault://files/other}");
    let mut running = Running::start(command.env("KEY", "{vault://files/token}"));
    assert!(running.wait_for("ready").contains(directory));
    place.secret("token", SECOND);
    running.wait_for("the command gets SIGHUP");
    running.wait_for("file second");
    // Two more looks at the values, of which none has changed.
    fs::remove_file(place.path().join("secrets/other")).expect("removed");
    running.wait_for("{vault://files/other}: not-found");
    fs::create_dir(place.path().join("secrets/other")).expect("made");
    running.wait_for("{vault://files/other}: wrong-type");
    running.send(Signal::SIGTERM);
    assert_eq!(running.ended().code(), Some(143));
    let all = running.all();
    hides_values(&all);
    let signals = all.iter().filter(|line| line.contains("SIGHUP"));
    assert_eq!(signals.count(), 1, "{all:#?}");
    let left = fs::read_dir(&run).expect("listed").count();
    assert_eq!(left, 0, "the files are gone");
}

#[test]
fn values_that_belong_together_come_together() {
    let place = Place::new();
    place.secret("pair", r#"{"user": "u1", "password": "p1"}"#);
    let script = format!("echo has $PASSWORD $USERNAME; {WAIT}");
    let mut command = watch(&place, &[], &script);
    command
        .env("USERNAME", "{vault://files/pair/user}")
        .env("PASSWORD", "{vault://files/pair/password}");
    let running = Running::start(&mut command);
    assert_eq!(running.wait_for("has p"), "has p1 u1");
    // Without one of the two there is no new start.
    place.secret("pair", r#"{"user": "u2"}"#);
    running.wait_for("PASSWORD: {vault://files/pair/password}: key-not-found");
    place.secret("pair", r#"{"user": "u2", "password": "p2"}"#);
    assert_eq!(running.wait_for("has p"), "has p2 u2");
}
