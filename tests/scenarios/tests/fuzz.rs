//! The inputs that the fuzzer has kept, and a little fuzzing. `make fuzz` does more of it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use vaultref_scenarios::fuzz::{self, Campaign, Modules};

/// For how long each of the two tests that make inputs does so.
const TIME: Duration = Duration::from_secs(30);

#[test]
fn nothing_is_wrong_after_any_input_that_was_kept() -> Result<()> {
    let modules = Modules::read()?;
    for folder in ["seeds", "corpus", "found"] {
        let inputs = fuzz::load(&fuzz::folder(folder))?;
        assert!(!inputs.is_empty() || folder == "found", "{folder}");
        for (file, script) in inputs {
            if let Some(what) = fuzz::run(&modules, &script).finding {
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
    let modules = Modules::read()?;
    let begin = Instant::now();
    let mut campaign = Campaign::new(&modules, seed);
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
