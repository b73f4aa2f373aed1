//! What a process holds: memory, descriptors, and what stands in its memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context, Result};

use super::Process;

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Resident memory in KiB.
    pub memory: u64,
    /// The most that it was so far.
    pub most_memory: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Process {
    /// What it holds now.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn held(&self) -> Result<Held> {
        let place = format!("/proc/{}", self.id());
        let status = fs::read_to_string(format!("{place}/status")).context("a process")?;
        let kib = |name: &str| {
            let mut lines = status.lines();
            let rest = lines.find_map(|line| line.strip_prefix(name));
            let number = rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            number.with_context(|| format!("{name} of a process"))
        };
        let descriptors = fs::read_dir(format!("{place}/fd")).context("its descriptors")?;
        Ok(Held {
            memory: kib("VmRSS:")?,
            most_memory: kib("VmHWM:")?,
            descriptors: descriptors.count() as u64,
        })
    }

    /// How often these bytes stand in its memory. It must be a child of ours, which it is.
    ///
    /// # Errors
    ///
    /// When it is gone, or the system does not let us look.
    pub fn copies_of(&self, needle: &[u8]) -> Result<usize> {
        let place = format!("/proc/{}", self.id());
        let maps = fs::read_to_string(format!("{place}/maps")).context("its memory")?;
        let memory = File::open(format!("{place}/mem")).context("its memory")?;
        let mut copies = 0;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let Some((start, end)) = range(line) else {
                continue;
            };
            copies += copies_in(&memory, start, end, needle);
        }
        Ok(copies)
    }
}

fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

/// Pages that have never been written to read as zeros, and some cannot be read.
fn copies_in(memory: &File, start: u64, end: u64, needle: &[u8]) -> usize {
    const PIECE: usize = 1 << 20;
    let Some(first) = needle.first() else {
        return 0;
    };
    let (mut at, mut copies) = (start, 0);
    // Each piece begins with the end of the one before.
    let overlap = needle.len() - 1;
    let mut buffer = vec![0; PIECE + overlap];
    while at < end {
        let length = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let Ok(count) = memory.read_at(&mut buffer[..length], at) else {
            return copies;
        };
        let piece = &buffer[..count];
        if piece.contains(first) {
            copies += piece
                .windows(needle.len())
                .filter(|window| *window == needle)
                .count();
        }
        if count <= overlap || count < length {
            return copies;
        }
        at += (count - overlap) as u64;
    }
    copies
}
