//! The binary as a person or a gateway meets it: exit codes, messages, and no value in any of them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Stands in every place where a value can stand.
const VALUE: &str = "hunter2-Zm9v";

fn vaultref(directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vaultref"));
    command
        .env_clear()
        .env("TEST", VALUE)
        .env("VAULTREF_LOG", "trace")
        .env("RUST_LOG", "trace")
        .current_dir(directory.path())
        .stdin(Stdio::null());
    command
}

fn place(vaultref_yaml: &str) -> TempDir {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("vaultref.yaml"), vaultref_yaml).expect("written");
    fs::write(
        directory.path().join("object"),
        json!({"key": VALUE, "n": 1}).to_string(),
    )
    .expect("written");
    directory
}

fn run(directory: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let output = vaultref(directory)
        .args(arguments)
        .output()
        .expect("started");
    told(&output)
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().expect("no signal"),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn fs_vault(directory: &TempDir) {
    let yaml = format!(
        "vaults: [{{name: fs, config: {{prefix: {:?}}}}}]",
        directory.path()
    );
    fs::write(directory.path().join("vaultref.yaml"), yaml).expect("written");
}

#[test]
fn get_prints_the_value_and_nothing_else() {
    let directory = place("{}");
    fs_vault(&directory);
    for reference in ["env/test", "{vault://env/test}", "fs/object/key"] {
        let (code, out, err) = run(&directory, &["get", reference]);
        assert_eq!((code, out.as_str()), (0, VALUE), "{reference}: {err}");
        assert!(!err.contains(VALUE), "{err}");
    }
    let (code, out, _) = run(&directory, &["get", "env/test", "--json"]);
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, &shown["results"][0]["secret"]["value"]["text"]),
        (0, &json!(VALUE))
    );
}

#[test]
fn exit_codes_are_as_documented() {
    let directory = place("{}");
    fs_vault(&directory);
    std::os::unix::fs::symlink("/etc/hostname", directory.path().join("out")).expect("linked");
    for (arguments, expected, word) in [
        (&["get", "env/none"][..], 3, "not-found"),
        (&["get", "fs/object/none"], 3, "key-not-found"),
        (&["get", "fs/object/n"], 3, "wrong-type"),
        (&["get", "fs/out"], 4, "denied"),
        (&["get", "nope/x"], 2, "unknown-vault"),
        (&["get", "env"], 2, "invalid-reference"),
        (&["get", "env/test?host=evil"], 2, "invalid-reference"),
        (
            &["get", "env/test", "--config", "none.yaml"],
            2,
            "none.yaml: cannot be read",
        ),
        (&["parse", "x"], 2, "not a reference"),
        (
            &["serve", "--config", "none.yaml"],
            2,
            "none.yaml: cannot be read",
        ),
        (&["serve"], 2, "no 'listen'"),
        (&["frobnicate"], 2, "frobnicate"),
        (&[], 2, "Usage"),
    ] {
        let (code, out, err) = run(&directory, arguments);
        assert_eq!(code, expected, "{arguments:?}: {err}");
        assert!(err.contains(word), "{arguments:?}: {err}");
        assert!(
            out.is_empty() && !err.contains(VALUE),
            "{arguments:?}: {out}{err}"
        );
    }
    let (code, out, _) = run(&directory, &["--help"]);
    assert!(code == 0 && out.contains("Exit codes"), "{out}");
    let (_, out, _) = run(&directory, &["get", "env/none", "--json"]);
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(shown["results"][0]["failure"]["kind"], "not-found");
}

#[test]
fn a_vault_that_is_not_there_is_code_5() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let directory = place(&format!(
        "vaults: [{{name: hcv, config: {{token: {VALUE}, port: {port}}}}}]"
    ));
    let (code, out, err) = run(&directory, &["get", "hcv/a/b"]);
    assert_eq!((code, out.as_str()), (5, ""), "{err}");
    assert!(
        err.contains("unavailable: the vault cannot be reached") && !err.contains(VALUE),
        "{err}"
    );
}

#[test]
fn a_configuration_that_is_wrong_is_named_and_not_repeated() {
    for (yaml, place_of_it) in [
        (
            format!("vaults: [{{name: hcv, config: {{token: t, port: {VALUE}}}}}]"),
            "vaultref.yaml: vaults[0].config.port: ",
        ),
        (
            format!("clients: [{{name: a, peer: {VALUE}}}]"),
            "vaultref.yaml: clients[0].peer: ",
        ),
        (format!("vaults: [\"{VALUE}"), "vaultref.yaml: line "),
        (format!("listen: [{VALUE}]"), "vaultref.yaml: listen[0]: "),
    ] {
        let directory = place(&yaml);
        for arguments in [&["serve"][..], &["get", "env/test"]] {
            let (code, out, err) = run(&directory, arguments);
            assert_eq!(code, 2, "{err}");
            assert!(err.contains(place_of_it), "{yaml}: {err}");
            assert!(
                !err.contains(VALUE) && !out.contains(VALUE),
                "{yaml}: {err}{out}"
            );
        }
    }
}

#[test]
fn parse_reads_lines_and_prints_a_line_for_each() {
    let directory = place("{}");
    let mut child = vaultref(&directory)
        .args(["parse", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = child.stdin.take().expect("piped");
    input
        .write_all(b"{vault://a/b/c?ttl=1&x#2}\nno\n\xff\n{vault://env/test}")
        .expect("written");
    drop(input);
    let (code, out, _) = told(&child.wait_with_output().expect("ended"));
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!((code, lines.len()), (0, 4), "{out}");
    let ok = json!({"name": "a", "resource": "b", "key": "c", "version": 2, "config": {"ttl": "1", "x": true}});
    assert_eq!(
        lines[0],
        json!({"reference": "{vault://a/b/c?ttl=1&x#2}", "ok": ok})
    );
    assert!(lines[1]["error"].is_string() && lines[2]["error"].is_string());
    assert_eq!(lines[3]["ok"], json!({"name": "env", "resource": "test"}));
}

struct Daemon {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Daemon {
    fn start(directory: &TempDir) -> Self {
        let mut child = vaultref(directory)
            .arg("serve")
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let (sender, lines) = mpsc::channel();
        let stderr = child.stderr.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    fn wait_for(&self, needle: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(20)) {
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error}, no '{needle}' in {seen:#?}"),
            }
            if seen.last().is_some_and(|line| line.contains(needle)) {
                return seen;
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn serve_says_when_it_is_ready_answers_and_ends_and_prints_no_value() {
    let directory = place("");
    let socket = directory.path().join("v.sock");
    let yaml = format!(
        "{{vaults: [{{name: fs, config: {{prefix: {:?}}}}}], listen: [{{unix: {socket:?}}}]}}",
        directory.path()
    );
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        fs::write(directory.path().join("vaultref.yaml"), &yaml).expect("written");
        let mut daemon = Daemon::start(&directory);
        let mut seen = daemon.wait_for("vaultref is ready");
        assert!(
            seen.iter()
                .any(|line| line.contains(&format!("listening unix:{}", socket.display())))
        );
        let body = r#"{"references":["{vault://env/test}","{vault://fs/object/key}","{vault://fs/object/n}","{vault://env/none}"],"wait_ms":5000}"#;
        let mut stream = UnixStream::connect(&socket).expect("connected");
        write!(
            stream,
            "POST /v1/resolve HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer.matches(VALUE).count(), 2, "{answer}");
        let pid = i32::try_from(daemon.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("sent");
        let status = daemon.child.wait().expect("ended");
        assert_eq!(status.code(), Some(0));
        assert!(!socket.exists());
        seen.extend(daemon.lines.iter());
        let mut out = String::new();
        daemon
            .child
            .stdout
            .take()
            .expect("piped")
            .read_to_string(&mut out)
            .expect("read");
        let all = seen.join("\n");
        assert!(
            all.contains("cannot read"),
            "the log tells of what is missing: {all}"
        );
        assert!(!all.contains(VALUE) && out.is_empty(), "{all}{out}");
    }
}

#[test]
fn serve_says_why_it_cannot_listen() {
    let directory = place("listen: [{unix: none/v.sock}]");
    let (code, _, err) = run(&directory, &["serve"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("cannot listen on unix:none/v.sock: the directory none does not exist"),
        "{err}"
    );
}
