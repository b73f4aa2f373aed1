//! The inputs that are kept: small, and each gets somewhere that none before it does.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
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

/// How many inputs are kept in the checkout, and how many bytes they may have together.
const MOST: usize = 300;
const MOST_BYTES: usize = 700 * 1024;

/// Of these inputs a few that get to most places that all of them get to: always the one that adds
/// most. Says how many places that leaves out.
#[must_use]
pub fn distil(modules: &Modules, mut scripts: Vec<Script>) -> (Vec<Script>, usize) {
    scripts.sort_by_cached_key(|script| (script.size(), script.to_string()));
    let reports = scripts.iter().map(|script| run(modules, script).features);
    let reports: Vec<BTreeSet<u64>> = reports.collect();
    let mut missing: BTreeSet<u64> = reports.iter().flatten().copied().collect();
    // By what each would add, as it was when that was last counted: it can only become less. Of two
    // that add the same the smaller comes first.
    let gains = reports.iter().map(BTreeSet::len);
    let mut heap: BinaryHeap<(usize, Reverse<usize>)> =
        gains.zip((0..scripts.len()).map(Reverse)).collect();
    let mut kept = Vec::new();
    let mut left = MOST_BYTES;
    while let Some((_, Reverse(at))) = heap.pop() {
        let features = &reports[at];
        let gain = features.intersection(&missing).count();
        if heap.peek().is_some_and(|(next, _)| *next > gain) {
            heap.push((gain, Reverse(at)));
            continue;
        }
        let size = scripts[at].size();
        if gain == 0 || kept.len() == MOST {
            break;
        }
        if size > left {
            continue;
        }
        left -= size;
        missing.retain(|feature| !features.contains(feature));
        kept.push(scripts[at].clone());
    }
    (kept, missing.len())
}
