//! A server as a child process that never outlives the program that started it:
//! it is killed when its handle is dropped, and the kernel kills it when the program
//! itself is killed or interrupted.
//!
//! What it writes goes to a file, is part of every error about it, and is printed
//! when the test that owns it fails.

mod held;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;

pub use self::held::Held;
use crate::wait;

/// How much of the end of a log goes into an error or a failing test's output.
const TAIL_LINES: usize = 60;

/// Goes on to the program in its arguments only while its parent is the process whose
/// id is its name: the parent may have died before the signal for that was asked for.
const UNLESS_ORPHANED: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// What to start; see [`Process`].
#[derive(Debug)]
pub struct Program {
    name: String,
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cpu: Option<usize>,
    limits: Vec<String>,
    folder: Option<PathBuf>,
}

impl Program {
    /// The program at `path`; `name` is what errors call it.
    #[must_use]
    pub fn new(name: &str, path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            path,
            args: Vec::new(),
            env: Vec::new(),
            cpu: None,
            limits: Vec::new(),
            folder: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one variable in the child's environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Keeps the child, with all its threads, on one core.
    #[must_use]
    pub fn cpu(mut self, cpu: Option<usize>) -> Self {
        self.cpu = cpu;
        self
    }

    /// Limits what the child may take of the machine, as `prlimit` is told it: `nofile=64`.
    #[must_use]
    pub fn limit(mut self, limit: &str) -> Self {
        self.limits.push(format!("--{limit}"));
        self
    }

    /// The folder that it works in.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// When it cannot be started. That it ends at once is seen by whoever waits for it.
    pub fn spawn(self) -> Result<Process> {
        let dir = tempfile::Builder::new()
            .prefix("vaultref-process-")
            .tempdir()
            .context("a folder for the log")?;
        let log = dir.path().join("log");
        let file = File::create(&log).context("the log file")?;
        // setpriv, sh, taskset and prlimit become the program by exec, so the child's id is its own.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-c", UNLESS_ORPHANED]);
        command.arg(std::process::id().to_string());
        if let Some(cpu) = self.cpu {
            command.args(["taskset", "-c", &cpu.to_string()]);
        }
        if !self.limits.is_empty() {
            command.arg("prlimit").args(&self.limits);
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
            .arg(&self.path)
            .args(&self.args)
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("the log file")?)
            .stderr(file);
        let child = spawn_from_lasting_thread(command)
            .with_context(|| format!("starting {} ({})", self.name, self.path.display()))?;
        Ok(Process {
            name: self.name,
            child: Mutex::new(child),
            log,
            _dir: dir,
        })
    }
}

/// A running server. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Mutex<Child>,
    log: PathBuf,
    _dir: TempDir,
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.lock().id()
    }

    /// All that it has written so far to standard output and error.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until a line of its log contains `needle`, and returns that line.
    ///
    /// # Errors
    ///
    /// When `deadline` has passed or the process has ended without writing it.
    pub fn wait_for_line(&self, needle: &str, deadline: Duration) -> Result<String> {
        self.wait_until(&format!("'{needle}' in its log"), deadline, || {
            Ok(self
                .log()
                .lines()
                .find(|line| line.contains(needle))
                .map(str::to_owned))
        })
    }

    /// Waits until `look` gives a value.
    ///
    /// # Errors
    ///
    /// With the end of the log, when `deadline` has passed, the process has ended,
    /// or `look` fails.
    pub fn wait_until<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(what, deadline, || {
            // Asked before looking: what a process did before it ended still counts.
            let ended = self.ended()?;
            match (look()?, ended) {
                (Some(value), _) => Ok(Some(value)),
                (None, Some(status)) => bail!("ended with {status} before {what}"),
                (None, None) => Ok(None),
            }
        })
        .map_err(|error| {
            anyhow!(
                "{}: {error:#}; the end of its log:\n{}",
                self.name,
                self.log_tail()
            )
        })
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// When `deadline` has passed.
    pub fn wait_for_end(&self, deadline: Duration) -> Result<ExitStatus> {
        wait::until("its end", deadline, || self.ended()).map_err(|error| {
            anyhow!(
                "{}: {error:#}; the end of its log:\n{}",
                self.name,
                self.log_tail()
            )
        })
    }

    /// How it ended, or nothing while it runs.
    ///
    /// # Errors
    ///
    /// When the kernel cannot tell.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        self.lock()
            .try_wait()
            .context("the state of the child process")
    }

    /// Sends a signal: `SIGTERM` to end it in good order, `SIGSTOP` and `SIGCONT` to
    /// have it hang and go on.
    ///
    /// # Errors
    ///
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.id()).context("a process id")?;
        signal::kill(Pid::from_raw(pid), signal)
            .with_context(|| format!("{signal} to {}", self.name))
    }

    /// Has it stop answering, as a server that hangs; its sockets stay open.
    ///
    /// # Errors
    ///
    /// When it is gone already.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Has it go on after [`Self::freeze`].
    ///
    /// # Errors
    ///
    /// When it is gone already.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    ///
    /// When it does not end in time; dropping it kills it then.
    pub fn stop(&self) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            self.signal(Signal::SIGTERM)?;
        }
        self.wait_for_end(wait::SOON)
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.lock();
        // Both fail only for a child that is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// CPU time of all its threads since its start, on and off the kernel's side.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        let tasks = format!("/proc/{}/task", self.id());
        let mut nanos = 0;
        for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
            let path = task
                .context("a thread of the process")?
                .path()
                .join("schedstat");
            // A thread may end between the listing and the reading; its time is
            // then lost, which no server here does in a measured interval.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let first = text
                .split_whitespace()
                .next()
                .context("an empty schedstat")?;
            nanos += first.parse::<u64>().context("schedstat")?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Process {
    #[expect(
        clippy::print_stderr,
        reason = "a failing test shows what its servers said"
    )]
    fn drop(&mut self) {
        let signalled = self
            .ended()
            .ok()
            .flatten()
            .and_then(|status| status.signal());
        self.kill();
        if thread::panicking() {
            let how = signalled.map_or(String::new(), |signal| {
                format!(" (ended by signal {signal})")
            });
            eprintln!(
                "--- the end of the log of {}{how}:\n{}\n---",
                self.name,
                self.log_tail()
            );
        }
    }
}

type Job = (Command, Sender<std::io::Result<Child>>);

/// The kernel sends the parent-death signal when the *thread* that started the child
/// ends, and every test has a thread of its own: one that never ends starts them all.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    let (answer, child) = mpsc::channel();
    spawner
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| anyhow!("the thread that starts child processes has ended"))?;
    child
        .recv()
        .context("the thread that starts child processes")?
        .map_err(Into::into)
}
