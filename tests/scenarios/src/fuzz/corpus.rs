//! The inputs that are kept: small, and each gets somewhere that none before it does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::random::hash;
use super::{Modules, Script, run};
use crate::paths;

/// The corpus of the checkout, or the inputs that once went wrong.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    paths::root().join("tests/scenarios/fuzz").join(name)
}

/// Reads all inputs of a folder, by their names; none if there is no such folder.
///
/// # Errors
///
/// When one cannot be read.
pub fn load(folder: &Path) -> Result<Vec<(PathBuf, Script)>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?;
    files.sort();
    let read = files.into_iter().map(|file| {
        let text = fs::read(&file).with_context(|| file.display().to_string())?;
        Ok((file, Script::parse(&text)))
    });
    read.collect()
}

/// Writes an input into a folder, under a name that is made of it.
///
/// # Errors
///
/// When it cannot be written.
pub fn save(folder: &Path, script: &Script) -> Result<PathBuf> {
    let text = script.to_string();
    let file = folder.join(format!("{:016x}", hash(text.as_bytes())));
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// Of these inputs a few that get to all places that all of them get to, the smallest first.
#[must_use]
pub fn distil(modules: &Modules, mut scripts: Vec<Script>) -> Vec<Script> {
    scripts.sort_by_cached_key(|script| (script.size(), script.to_string()));
    let reports = scripts.iter().map(|script| run(modules, script).features);
    let reports: Vec<BTreeSet<u64>> = reports.collect();
    let mut missing: BTreeSet<u64> = reports.iter().flatten().copied().collect();
    let mut kept = Vec::new();
    // From the rarest: whoever gets there is needed anyway.
    while let Some(feature) = missing.first().copied() {
        let with = reports
            .iter()
            .enumerate()
            .filter(|(_, features)| features.contains(&feature));
        let gain = |features: &BTreeSet<u64>| features.intersection(&missing).count();
        let best = with.max_by_key(|(at, features)| {
            let cost = scripts[*at].size().max(1);
            gain(features) * 1_000_000 / cost
        });
        let Some((at, features)) = best else { break };
        missing = missing.difference(features).copied().collect();
        kept.push(scripts[at].clone());
    }
    kept
}
