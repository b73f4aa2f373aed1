//! What a filter costs a request: CPU and requests a second of a real Envoy on one
//! core, with each of the filters that set the same header, and without any.
//!
//! One Envoy process differs from the next by more than the filters do. So every
//! filter gets several Envoys, one after the other; those of one start run side by
//! side and are loaded in turns, and a filter's cost is taken against the Envoy
//! without a filter of the same start.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod report;
mod rows;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use vaultref_scenarios::envoy::Envoy;
use vaultref_scenarios::load::Load;
use vaultref_scenarios::{paths, wait};

use crate::report::{Round, Rounds};
use crate::rows::{Bed, Row};

/// CPU and requests a second of Envoy with each filter; make bench BENCH_ARGS='…'
#[derive(Debug, Parser)]
struct Args {
    /// How often every Envoy is started anew
    #[arg(long, default_value_t = 8)]
    restarts: u32,
    /// How often each Envoy of a start is loaded
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// How many seconds it is loaded each time
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// How many connections load it
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// Only these filters, by name, with commas between ('none' is always measured)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Envoy has a core of its own; the load and the daemon share another.
const ENVOY_CPU: Option<usize> = Some(0);
const LOAD_CPU: Option<usize> = Some(1);

fn main() -> Result<()> {
    let args = Args::parse();
    let known: Vec<&str> = Row::ALL.iter().map(|row| row.name()).collect();
    for name in &args.only {
        ensure!(
            known.contains(&name.as_str()),
            "no filter '{name}' is measured here, but {}",
            known.join(", ")
        );
    }
    let is_wanted = |row: &Row| {
        *row == Row::None || args.only.is_empty() || args.only.iter().any(|name| name == row.name())
    };
    let rows: Vec<Row> = Row::ALL.into_iter().filter(is_wanted).collect();

    let bed = Bed::prepare(&rows)?;
    for row in &rows {
        bed.check(*row)
            .with_context(|| format!("{}: does not set the header", row.name()))?;
    }
    let mut rounds = Rounds::default();
    for restart in 0..args.restarts {
        eprintln!("start {} of {}", restart + 1, args.restarts);
        let envoys = start(&bed, &rows)?;
        for round in 0..args.rounds {
            // Each round begins with another filter, so that none is always the first.
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.rotate_left((restart * args.rounds + round) as usize % rows.len());
            rounds.add(measure(&args, &rows, &envoys, &order)?);
        }
    }

    let report = report::markdown(
        &rows,
        &rounds,
        &format!(
            "{} starts of every Envoy, {} rounds each, {} s and {} connections a round; Envoy on one core, `--concurrency 1`, it answers by itself.",
            args.restarts, args.rounds, args.seconds, args.connections,
        ),
    );
    println!("{report}");
    let file = paths::target_dir()?.join("bench.md");
    fs::write(&file, &report).with_context(|| file.display().to_string())?;
    eprintln!("written to {}", file.display());
    Ok(())
}

fn start(bed: &Bed, rows: &[Row]) -> Result<Vec<Envoy>> {
    let start = |row: &Row| -> Result<Envoy> {
        let envoy = bed.setup(*row)?.cpu(ENVOY_CPU).start()?;
        bed.wait_until_ready(&envoy)?;
        // One second before anything is measured: V8 compiles what is hot once
        // more, and Envoy fills its pools.
        Load::on(envoy.address(), "/")
            .duration(Duration::from_secs(1))
            .cpu(LOAD_CPU)
            .run()
            .context("warming up")?;
        Ok(envoy)
    };
    rows.iter()
        .map(|row| start(row).with_context(|| row.name().to_owned()))
        .collect()
}

fn measure(args: &Args, rows: &[Row], envoys: &[Envoy], order: &[usize]) -> Result<Round> {
    let mut round = Round::default();
    for &index in order {
        let (row, envoy) = (rows[index], &envoys[index]);
        let load = Load::on(envoy.address(), "/")
            .connections(args.connections)
            .duration(Duration::from_secs(args.seconds))
            .cpu(LOAD_CPU);
        // What the last load left behind is not to be counted.
        wait::until_true("the end of the last load", wait::SOON, || {
            envoy
                .stat("http.ingress.downstream_cx_active")
                .is_ok_and(|active| active == 0)
        })?;
        let requests = "http.ingress.downstream_rq_completed";
        let (count_before, cpu_before) = (envoy.stat(requests)?, envoy.process().cpu_time()?);
        let seen = load.run()?;
        let (count_after, cpu_after) = (envoy.stat(requests)?, envoy.process().cpu_time()?);
        ensure!(
            seen.is_clean(),
            "{}: not every request was answered well: {seen:?}",
            row.name()
        );
        let cpu =
            (cpu_after - cpu_before).as_secs_f64() * 1e6 / (count_after - count_before) as f64;
        round.add(row, cpu, seen.per_second);
    }
    Ok(round)
}
