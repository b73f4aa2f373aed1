//! The inputs that the fuzzer has kept, and a little fuzzing. `make fuzz` does more of it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use vaultref_scenarios::fuzz::{self, Campaign, Modules};

/// For how long each of the two tests that make inputs does so.
const TIME: Duration = Duration::from_secs(30);

#[test]
fn nothing_is_wrong_after_any_input_that_was_kept() -> Result<()> {
    let modules = modules()?;
    for folder in ["seeds", "corpus", "found"] {
        let inputs = fuzz::load(&fuzz::folder(folder))?;
        assert!(!inputs.is_empty() || folder == "found", "{folder}");
        for (file, script) in inputs {
            if let Some(what) = fuzz::run(modules, &script).finding {
                bail!("{}: {what}", file.display());
            }
        }
    }
    Ok(())
}

#[test]
fn half_a_minute_of_fuzzing_finds_nothing() -> Result<()> {
    fuzz_with(1)
}

#[test]
fn another_half_minute_of_fuzzing_finds_nothing() -> Result<()> {
    fuzz_with(2)
}

fn fuzz_with(seed: u64) -> Result<()> {
    let modules = modules()?;
    let begin = Instant::now();
    let mut campaign = Campaign::new(modules, seed);
    let wrong = |found: fuzz::Found| anyhow::anyhow!("{}\nafter\n{}", found.what, found.script);
    for folder in ["seeds", "corpus"] {
        for (_, script) in fuzz::load(&fuzz::folder(folder))? {
            campaign.begin_with(script).map_err(wrong)?;
        }
    }
    while begin.elapsed() < TIME {
        campaign.advance().map_err(wrong)?;
    }
    Ok(())
}

/// They take seconds to compile: once for all tests.
fn modules() -> Result<&'static Modules> {
    static READ: Mutex<Option<&'static Modules>> = Mutex::new(None);
    let mut read = READ.lock().ok().context("another test has failed here")?;
    if read.is_none() {
        *read = Some(Box::leak(Box::new(Modules::read()?)));
    }
    (*read).context("they were read")
}
