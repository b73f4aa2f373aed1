//! Load on a gateway by `wrk`, and how the gateway stood it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::process::{Process, Program};
use crate::{paths, wait};

/// A load to be put on a server: keep-alive connections that send the same GET again
/// as soon as it is answered.
#[derive(Clone, Debug)]
pub struct Load {
    url: String,
    connections: u32,
    duration: Duration,
    headers: Vec<(String, String)>,
    cpu: Option<usize>,
}

impl Load {
    /// Load on this path of this server; 16 connections for five seconds.
    #[must_use]
    pub fn on(server: SocketAddr, path: &str) -> Self {
        Self {
            url: format!("http://{server}{path}"),
            connections: 16,
            duration: Duration::from_secs(5),
            headers: Vec::new(),
            cpu: None,
        }
    }

    /// How many connections.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// How long, in whole seconds.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Adds a header to every request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps the load generator on one core.
    #[must_use]
    pub fn cpu(mut self, cpu: Option<usize>) -> Self {
        self.cpu = cpu;
        self
    }

    /// Puts on the load, and waits for its end.
    ///
    /// # Errors
    ///
    /// When `wrk` is missing or fails.
    pub fn run(&self) -> Result<Report> {
        self.start()?.finish()
    }

    /// Puts on the load, and returns at once.
    ///
    /// # Errors
    ///
    /// When `wrk` is missing.
    pub fn start(&self) -> Result<Running> {
        let seconds = self.duration.as_secs().max(1);
        let mut program = Program::new("wrk", paths::wrk()?)
            .args(["--threads", "1", "--timeout", "30s", "--latency"])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{seconds}s")])
            .cpu(self.cpu);
        for (name, value) in &self.headers {
            program = program.arg("--header").arg(format!("{name}: {value}"));
        }
        let process = program.arg(&self.url).spawn()?;
        Ok(Running {
            process,
            deadline: Duration::from_secs(seconds) + wait::START,
        })
    }
}

/// A load that is on.
#[derive(Debug)]
pub struct Running {
    process: Process,
    deadline: Duration,
}

impl Running {
    /// Whether it still sends.
    ///
    /// # Errors
    ///
    /// When the kernel cannot tell.
    pub fn is_on(&self) -> Result<bool> {
        Ok(self.process.ended()?.is_none())
    }

    /// Ends it before its time.
    ///
    /// # Errors
    ///
    /// When it has ended already, or `wrk` fails.
    pub fn stop(self) -> Result<Report> {
        self.process.signal(Signal::SIGINT)?;
        self.finish()
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When `wrk` fails or does not end.
    pub fn finish(self) -> Result<Report> {
        let status = self.process.wait_for_end(self.deadline)?;
        let output = self.process.log();
        if !status.success() {
            bail!("wrk ended with {status}:\n{output}");
        }
        Report::parse(&output)
    }
}

/// What `wrk` saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Requests that were answered.
    pub requests: u64,
    /// Requests answered each second.
    pub per_second: f64,
    /// Answers whose status was neither 2xx nor 3xx.
    pub bad_status: u64,
    /// Connections refused, cut or timed out.
    pub socket_errors: u64,
    /// Half of the answers came within this time.
    pub p50: Duration,
    /// 99 of 100 answers came within this time.
    pub p99: Duration,
}

impl Report {
    /// Whether every request was answered, and well.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.requests > 0 && self.bad_status == 0 && self.socket_errors == 0
    }

    fn parse(output: &str) -> Result<Self> {
        let mut requests = None;
        let mut per_second = None;
        let mut p50 = None;
        let mut p99 = None;
        let mut bad_status = 0;
        let mut socket_errors = 0;
        for line in output.lines().map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [count, "requests", "in", ..] => requests = Some(count.parse()?),
                ["Requests/sec:", rate] => per_second = Some(rate.parse()?),
                ["50%", time] => p50 = Some(duration(time)?),
                ["99%", time] => p99 = Some(duration(time)?),
                ["Non-2xx", "or", "3xx", "responses:", count] => bad_status = count.parse()?,
                ["Socket", "errors:", rest @ ..] => {
                    let counts = rest
                        .iter()
                        .filter_map(|word| word.trim_end_matches(',').parse::<u64>().ok());
                    socket_errors = counts.sum();
                }
                _ => {}
            }
        }
        let missing = || format!("no report of wrk:\n{output}");
        Ok(Self {
            requests: requests.with_context(missing)?,
            per_second: per_second.with_context(missing)?,
            bad_status,
            socket_errors,
            p50: p50.with_context(missing)?,
            p99: p99.with_context(missing)?,
        })
    }
}

/// wrk's own notation: `812.00us`, `1.24ms`, `1.02s`, `1.50m`.
fn duration(text: &str) -> Result<Duration> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)];
    for (unit, seconds) in units {
        if let Some(number) = text.strip_suffix(unit) {
            let number: f64 = number.parse().with_context(|| format!("no time: {text}"))?;
            return Ok(Duration::from_secs_f64(number * seconds));
        }
    }
    bail!("no time: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
Running 2s test @ http://127.0.0.1:40001/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.88ms    1.20ms  30.11ms   97.52%
    Req/Sec    20.87k     1.67k   23.46k    80.00%
  Latency Distribution
     50%  712.00us
     75%    0.86ms
     90%    1.13ms
     99%    6.14ms
  41545 requests in 2.00s, 5.04MB read
  Socket errors: connect 0, read 3, write 1, timeout 0
  Non-2xx or 3xx responses: 7
Requests/sec:  20756.02
Transfer/sec:      2.52MB
";

    #[test]
    fn a_report_has_every_kind_of_failure() -> Result<()> {
        let report = Report::parse(OUTPUT)?;
        let expected = Report {
            requests: 41545,
            per_second: 20756.02,
            bad_status: 7,
            socket_errors: 4,
            p50: Duration::from_micros(712),
            p99: Duration::from_micros(6140),
        };
        assert_eq!(report, expected);
        assert!(!report.is_clean());
        Ok(())
    }

    #[test]
    fn output_without_figures_is_an_error() {
        assert!(Report::parse("unable to connect to 127.0.0.1:1 Connection refused\n").is_err());
    }
}
