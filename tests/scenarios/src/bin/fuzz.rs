//! The fuzzer: makes inputs, runs them, keeps what gets somewhere new, and stops at what is wrong.

use std::fs::{self, OpenOptions};
use std::io::{Write as _, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Parser;
use vaultref_scenarios::fuzz::{self, Campaign, Found, Modules, Script};
use vaultref_scenarios::paths;

/// Fuzzes the filter, natively and through both modules in the harness.
#[derive(Parser)]
struct Arguments {
    /// For how many seconds; 60 unless --runs is given.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many inputs are made.
    #[arg(long)]
    runs: Option<u64>,
    /// Where chance begins; the time unless said otherwise. It is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs these inputs, or those of these folders, and makes no others.
    #[arg(long, num_args = 1..)]
    replay: Vec<PathBuf>,
    /// Where inputs are kept that get somewhere new, beside the corpus of the checkout.
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Writes the corpus of the checkout anew: a few inputs that get as far as all that are known.
    #[arg(long)]
    distil: bool,
    /// Shows what was logged by an input that is replayed.
    #[arg(long)]
    log: bool,
    /// Goes on after something was wrong.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    // A panic is a finding, told once and with its input.
    std::panic::set_hook(Box::new(|_| {}));
    let modules = Modules::read()?;
    if !arguments.replay.is_empty() {
        return replay(&modules, &arguments);
    }
    let kept = match &arguments.corpus {
        Some(folder) => folder.clone(),
        None => paths::target_dir()?.join("fuzz/corpus"),
    };
    let mut scripts = fuzz::load(&fuzz::folder("corpus"))?;
    scripts.extend(fuzz::load(&fuzz::folder("seeds"))?);
    scripts.extend(fuzz::load(&kept)?);
    let scripts: Vec<Script> = scripts.into_iter().map(|(_, script)| script).collect();
    if arguments.distil {
        return distil(&modules, scripts);
    }
    run(&modules, &arguments, scripts, &kept)
}

fn run(
    modules: &Modules,
    arguments: &Arguments,
    scripts: Vec<Script>,
    kept: &Path,
) -> Result<ExitCode> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let by_time = time.map_or(1, |time| time.as_secs());
    let seed = arguments.seed.unwrap_or(by_time);
    let runs = arguments.runs.unwrap_or(u64::MAX);
    let seconds = match (arguments.seconds, arguments.runs) {
        (Some(seconds), _) => seconds,
        (None, Some(_)) => u64::MAX / 4,
        (None, None) => 60,
    };
    let known = scripts.len();
    say(&format!("seed {seed}, {known} inputs to begin with"))?;
    let mut campaign = Campaign::new(modules, seed);
    let begin = Instant::now();
    let mut findings = 0;
    for script in scripts {
        if let Err(found) = campaign.begin_with(script) {
            findings += 1;
            tell(&found)?;
        }
    }
    let mut told = Instant::now();
    let mut made = 0;
    let mut new = 0;
    while made < runs
        && begin.elapsed() < Duration::from_secs(seconds)
        && (findings == 0 || arguments.keep_going)
    {
        made += 1;
        match campaign.advance() {
            Ok(None) => {}
            Ok(Some(script)) => {
                new += 1;
                fuzz::save(kept, &script)?;
            }
            Err(found) => {
                findings += 1;
                tell(&found)?;
            }
        }
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            say(&summary(&campaign, begin, new))?;
        }
    }
    let summary = summary(&campaign, begin, new);
    say(&summary)?;
    let log = paths::target_dir()?.join("fuzz/runs.log");
    fs::create_dir_all(log.parent().context("a file lies in a folder")?)?;
    let mut log = OpenOptions::new().create(true).append(true).open(log)?;
    writeln!(log, "seed {seed}: {summary}, {findings} findings")?;
    if new > 0 {
        let at = kept.display();
        say(&format!(
            "new inputs are in {at}; --distil takes what they add into the checkout"
        ))?;
    }
    Ok(match findings {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn summary(campaign: &Campaign<'_>, begin: Instant, new: u64) -> String {
    let (executions, features) = (campaign.executions(), campaign.features());
    let wall = begin.elapsed().as_secs();
    let cpu = cpu_seconds();
    let size = campaign.corpus().len();
    format!(
        "{executions} executions in {wall} s ({cpu} s CPU), {features} features, corpus {size} ({new} new)"
    )
}

/// The processor's time of this process so far.
fn cpu_seconds() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = behind_name.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks / 100
}

fn replay(modules: &Modules, arguments: &Arguments) -> Result<ExitCode> {
    let mut findings = 0;
    for path in &arguments.replay {
        let inputs = match path.is_dir() {
            true => fuzz::load(path)?,
            false => {
                let text = fs::read(path).with_context(|| path.display().to_string())?;
                vec![(path.clone(), Script::parse(&text))]
            }
        };
        for (file, script) in inputs {
            let report = fuzz::run(modules, &script);
            if arguments.log {
                report.log.iter().try_for_each(|line| say(line))?;
            }
            let (file, features) = (file.display(), report.features.len());
            match report.finding {
                None => say(&format!("{file}: nothing is wrong ({features} features)"))?,
                Some(what) => {
                    findings += 1;
                    say(&format!("{file}: {what}"))?;
                }
            }
        }
    }
    Ok(match findings {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn distil(modules: &Modules, scripts: Vec<Script>) -> Result<ExitCode> {
    let folder = fuzz::folder("corpus");
    let (few, missing) = fuzz::distil(modules, scripts);
    for (file, _) in fuzz::load(&folder)? {
        fs::remove_file(file)?;
    }
    for script in &few {
        fuzz::save(&folder, script)?;
    }
    let size: usize = few.iter().map(Script::size).sum();
    let (count, folder) = (few.len(), folder.display());
    say(&format!(
        "{count} inputs, {size} bytes, in {folder}; {missing} features are left out"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the input down, and says how to see it again.
fn tell(found: &Found) -> Result<()> {
    let folder = paths::target_dir()?.join("fuzz/found");
    let file = fuzz::save(&folder, &found.script)?;
    let file = file.display();
    let mut out = stderr().lock();
    writeln!(out, "WRONG: {}", found.what)?;
    writeln!(out, "{}", found.script)?;
    writeln!(out, "again: make fuzz FUZZ_ARGS=\"--replay {file}\"")?;
    Ok(())
}

fn say(line: &str) -> Result<()> {
    writeln!(stdout().lock(), "{line}").context("cannot write")
}
