//! The binary in a folder of its own, and what it says.
#![allow(dead_code)] // each test program uses some of it

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Stands in every place where a value can stand, and must not be seen in any other.
pub(crate) const VALUE: &str = "hunter2-Zm9v";

/// A folder with a `vaultref.yaml` whose vault `files` is the folder `secrets` in it.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(TempDir::new().expect("a directory"));
        fs::create_dir(place.path().join("secrets")).expect("made");
        let secrets = place.path().join("secrets");
        let yaml = format!(
            "vaults: [{{name: fs, prefix: files, config: {{prefix: {secrets:?}, ttl: 1, neg_ttl: 0}}}}]"
        );
        place.put("vaultref.yaml", yaml);
        place.secret("token", VALUE);
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file as a whole, so that nobody sees a part of it.
    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        let beside = self.path().join(".new");
        fs::write(&beside, content).expect("written");
        fs::rename(&beside, &path).expect("renamed");
        path
    }

    pub(crate) fn secret(&self, name: &str, content: impl AsRef<[u8]>) {
        self.put(&format!("secrets/{name}"), content);
    }

    /// The binary, as talkative as it can be made.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vaultref"));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TEST", VALUE)
            .env("VAULTREF_LOG", "trace")
            .env("RUST_LOG", "trace")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Told {
        Told::of(&self.command().args(arguments).output().expect("started"))
    }

    /// Runs `check` and gives the exit code and the lines, which hide all values. The log is off, so that what
    /// remains is the report.
    pub(crate) fn check(&self, arguments: &[&str]) -> (i32, Vec<String>) {
        let mut command = self.command();
        command.env_remove("RUST_LOG").env_remove("VAULTREF_LOG");
        let output = command
            .arg("check")
            .args(arguments)
            .output()
            .expect("started");
        let told = Told::of(&output);
        told.hides_values();
        assert_eq!(told.err, "", "the report is all there is");
        (told.code, told.out.lines().map(str::to_owned).collect())
    }

    /// The findings of `check` as JSON.
    pub(crate) fn findings(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        let (code, lines) = self.check(&[arguments, &["--json"]].concat());
        let report: Value = serde_json::from_str(&lines.concat()).expect("JSON");
        let findings = report["findings"].as_array().expect("a list").clone();
        let faults = findings
            .iter()
            .filter(|finding| finding["verdict"] == "fault");
        assert_eq!(report["summary"]["faults"], faults.count());
        (code, findings)
    }

    /// Line and column of a text that stands in a file once.
    pub(crate) fn place_of(&self, file: &str, needle: &str) -> (u64, u64) {
        let text = fs::read_to_string(self.path().join(file)).expect("read");
        assert_eq!(text.matches(needle).count(), 1, "{needle} in {file}");
        let (before, _) = text.split_once(needle).expect("there");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().expect("a line").chars().count() + 1;
        (line as u64, column as u64)
    }
}

/// A port on which nobody listens.
pub(crate) fn closed_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("its address").port()
}

/// What a process said.
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().expect("no signal"),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    pub(crate) fn hides_values(&self) {
        assert!(!self.out.contains(VALUE), "{}", self.out);
        assert!(!self.err.contains(VALUE), "{}", self.err);
    }
}

/// A process whose lines are waited for.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: mpsc::Receiver<String>,
    /// All lines that came, and whether they were waited for.
    seen: RefCell<Vec<(String, bool)>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let (sender, lines) = mpsc::channel();
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().expect("piped"));
        let err: Box<dyn Read + Send> = Box::new(child.stderr.take().expect("piped"));
        for stream in [out, err] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self {
            child,
            lines,
            seen: RefCell::default(),
        }
    }

    /// A line that holds this and was not waited for before. (The two streams come in any order.)
    pub(crate) fn wait_for(&self, needle: &str) -> String {
        let mut seen = self.seen.borrow_mut();
        loop {
            let mut fresh = seen.iter_mut().filter(|(_, is_known)| !is_known);
            if let Some((line, is_known)) = fresh.find(|(line, _)| line.contains(needle)) {
                *is_known = true;
                return line.clone();
            }
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => seen.push((line, false)),
                Err(error) => panic!("{error}, no '{needle}' in {seen:#?}"),
            }
        }
    }

    /// All lines, once nobody writes any more.
    pub(crate) fn all(&self) -> Vec<String> {
        let mut seen = self.seen.borrow_mut();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => seen.push((line, true)),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return seen.iter().map(|(line, _)| line.clone()).collect();
                }
                Err(error) => panic!("{error} after {seen:#?}"),
            }
        }
    }

    /// How it ended, its input being open until then. (To wait for it would close that.)
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.ended_within(Duration::from_secs(60))
            .unwrap_or_else(|| panic!("it does not end; {:#?}", self.seen))
    }

    fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < time {
            if let Some(ended) = self.child.try_wait().expect("waited for") {
                return Some(ended);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    pub(crate) fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("sent");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // First as it is meant, so that what it has started ends too; that ends at the end of its
        // input as well.
        drop(self.child.stdin.take());
        if let Ok(None) = self.child.try_wait() {
            self.send(Signal::SIGTERM);
            self.ended_within(Duration::from_secs(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
