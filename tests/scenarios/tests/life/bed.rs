//! Envoy with two workers under load, the daemon, and an OpenBao whose value changes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vaultref_scenarios::envoy::Envoy;
use vaultref_scenarios::load::{Load, Report, Running};
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::upstream::Upstream;
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Kind, Plan, World};

/// Longer than the ttl: what was read before the first read that failed is stale by then.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_millis(1500);

/// No scenario takes longer.
const LONGEST: Duration = Duration::from_secs(120);

/// A gateway whose requests carry `value-0`, then whatever is put.
pub(crate) struct Bed {
    pub(crate) world: World,
    /// The value that was put last.
    number: usize,
    start: Instant,
}

/// What a scenario saw, to be printed.
#[derive(Default)]
pub(crate) struct Lost {
    requests: u64,
    lost: u64,
}

impl Bed {
    /// With a vault of these fields, of which ttl, neg_ttl and timeout are set so that an outage
    /// outlasts them. The value must be there.
    pub(crate) fn start(config: Value, more: impl FnOnce(Plan) -> Plan) -> Result<Self> {
        let mut config = config;
        for (name, seconds) in [("ttl", 1), ("neg_ttl", 1), ("timeout", 2)] {
            if config[name].is_null() {
                config[name] = json!(seconds);
            }
        }
        let header = "Bearer {vault://payments/stripe/token}";
        let filter = json!({ "request": { "set": { "headers": { "authorization": header } } } });
        let plan = Plan::new(Kind::Envoy, filter)
            .vault(json!({ "name": "hcv", "prefix": "payments", "config": config }))
            .tallying("authorization")
            .quiet();
        let mut world = more(plan).start()?;
        world.until_every_vm_has_answers()?;
        Ok(Self {
            world,
            number: 0,
            start: Instant::now(),
        })
    }

    pub(crate) fn parts(&self) -> Result<(&Envoy, &Upstream)> {
        self.world.envoy().context("a real Envoy")
    }

    /// Load that lasts until it is stopped.
    pub(crate) fn load(&self) -> Result<Running> {
        let (envoy, _) = self.parts()?;
        let load = Load::on(envoy.address(), "/").connections(8);
        load.duration(LONGEST).start()
    }

    /// How many requests reached the upstream with this value.
    pub(crate) fn count(&self, number: usize) -> Result<u64> {
        let (_, upstream) = self.parts()?;
        let tallied = upstream.tallied(&format!("Bearer value-{number}"));
        Ok(tallied.map_or(0, |tallied| tallied.count))
    }

    /// Changes the value, whether the vault shows it or not; its number.
    pub(crate) fn put(&mut self, bao: &OpenBao) -> Result<usize> {
        self.number += 1;
        put(bao, self.number)?;
        Ok(self.number)
    }

    pub(crate) fn until_sent(&self, number: usize) -> Result<()> {
        let before = self.count(number)?;
        wait::until_true(
            &format!("value {number} at the upstream"),
            wait::SOON,
            || self.count(number).is_ok_and(|count| count > before + 100),
        )
        .with_context(|| self.daemon_log())
    }

    /// Load with the current value and no other for that long.
    pub(crate) fn only(&self, number: usize, during: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < during {
            self.until_sent(number)?;
        }
        ensure!(
            self.count(number + 1)? == 0,
            "value {} was not to be had",
            number + 1
        );
        Ok(())
    }

    /// How many reads have failed.
    pub(crate) fn failures(&self) -> usize {
        self.world.log().matches("cannot read").count()
    }

    /// Load with this value and no other, until a read has failed and the value is stale.
    pub(crate) fn only_stale(&self, number: usize, failures: usize) -> Result<()> {
        wait::until_true("a read that fails", wait::SOON, || {
            self.failures() > failures
        })?;
        self.only(number, LONG_ENOUGH)
    }

    /// Starts a clock for [`Bed::until_fresh`].
    pub(crate) fn over(&mut self) {
        self.start = Instant::now();
    }

    /// Waits for the current value; how long it took since [`Bed::over`].
    pub(crate) fn until_fresh(&self) -> Result<Duration> {
        self.until_sent(self.number)?;
        let (_, upstream) = self.parts()?;
        let tallied = upstream.tallied(&format!("Bearer value-{}", self.number));
        let first = tallied.context("it came")?.first;
        Ok(first.saturating_duration_since(self.start))
    }

    /// The time since [`Bed::over`].
    pub(crate) fn since(&self) -> Duration {
        self.start.elapsed()
    }

    /// Nothing but what was put has been sent.
    pub(crate) fn only_values(&self) -> Result<()> {
        let (_, upstream) = self.parts()?;
        for value in upstream.tally().keys() {
            let known = (0..=self.number).any(|number| *value == format!("Bearer value-{number}"));
            ensure!(known, "the upstream got {value:?}");
        }
        Ok(())
    }

    pub(crate) fn daemon_log(&self) -> String {
        let log = self.world.log();
        let lines = log
            .lines()
            .filter(|line| !line.contains(" TRACE ") && !line.contains(" DEBUG "));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What the daemon says of a read that failed, the last time.
    pub(crate) fn says(&self) -> String {
        let log = self.daemon_log();
        let line = log.lines().rfind(|line| line.contains("cannot read"));
        let said = line.and_then(|line| line.split_once("cannot read"));
        said.map_or_else(
            || "nothing".to_owned(),
            |(_, said)| format!("cannot read{said}"),
        )
    }
}

pub(crate) fn put(bao: &OpenBao, number: usize) -> Result<()> {
    let value = json!({ "token": format!("value-{number}") });
    bao.put(KV2_MOUNT, "stripe", &value).map(drop)
}

impl Lost {
    /// Ends a load, and fails when a request was lost.
    pub(crate) fn none_of(&mut self, load: Running, what: &str, bed: &Bed) -> Result<()> {
        let report: Report = load.stop()?;
        self.requests += report.requests;
        self.lost += report.bad_status + report.socket_errors;
        ensure!(
            report.is_clean(),
            "{what}: {report:?}\n{}",
            bed.daemon_log()
        );
        Ok(())
    }

    /// A row of the table.
    #[expect(
        clippy::print_stdout,
        reason = "a scenario tells what it saw, with --nocapture"
    )]
    pub(crate) fn show(&self, fault: &str, clients: &str, log: &str, fresh: Option<Duration>) {
        let fresh = fresh.map_or("–".to_owned(), |time| {
            format!("{:.1} s", time.as_secs_f64())
        });
        let Self { requests, lost } = self;
        println!("| {fault} | {clients} | {log} | {lost} of {requests} | {fresh} |");
    }
}
