//! What a process holds: memory, descriptors, and what stands in its memory.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
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
            copies += copies_in(|piece, at| memory.read_at(piece, at), start..end, needle);
        }
        Ok(copies)
    }
}

fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

/// How many bytes are read at once.
const PIECE: usize = 1 << 20;

/// What of a memory can be read or not is decided by pages.
const PAGE: u64 = 4096;

/// Pages that have never been written to read as zeros. Some cannot be read, wherever in a mapping they are:
/// those are passed over.
fn copies_in(
    read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    range: Range<u64>,
    needle: &[u8],
) -> usize {
    // Each piece begins with the end of the one before.
    let Some(overlap) = needle.len().checked_sub(1) else {
        return 0;
    };
    let (mut at, mut copies) = (range.start, 0);
    let mut buffer = vec![0; PIECE + overlap];
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let count = read(&mut buffer[..wanted], at).unwrap_or_default();
        let piece = &buffer[..count];
        if needle.first().is_some_and(|first| piece.contains(first)) {
            let windows = piece.windows(needle.len());
            copies += windows.filter(|window| *window == needle).count();
        }
        if count < wanted {
            at = ((at + count as u64) / PAGE + 1) * PAGE;
        } else if count < left {
            at += (count - overlap) as u64;
        } else {
            break;
        }
    }
    copies
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A memory whose pages in `holes` cannot be read; a read ends before one.
    fn read(memory: &[u8], holes: &[u64], piece: &mut [u8], at: u64) -> io::Result<usize> {
        let mut count = 0;
        for byte in piece {
            let at = at + count as u64;
            if holes.contains(&(at / PAGE)) {
                break;
            }
            *byte = memory[usize::try_from(at).expect("small")];
            count += 1;
        }
        match count {
            0 => Err(io::ErrorKind::InvalidInput.into()),
            count => Ok(count),
        }
    }

    #[test]
    fn what_stands_behind_a_page_that_cannot_be_read_is_found() {
        let needle = b"needle";
        let pages = 2 * PIECE as u64 / PAGE + 2;
        let mut memory = vec![b'n'; usize::try_from(pages * PAGE).expect("small")];
        let end = memory.len() - needle.len();
        // At the start, behind one hole and two, across the border of two pieces, at the end.
        let page = usize::try_from(PAGE).expect("small");
        for at in [0, 2 * page, 5 * page + 7, PIECE - 3, 2 * PIECE + 4, end] {
            memory[at..at + needle.len()].copy_from_slice(needle);
        }
        for (holes, copies) in [
            (&[][..], 6),
            (&[1], 6),
            (&[1, 3, 4, 8], 6),
            (&[0, 1, 2], 4),
            (&[pages - 1], 5),
            (&(0..pages).collect::<Vec<_>>(), 0),
        ] {
            let range = 0..pages * PAGE;
            let found = copies_in(|piece, at| read(&memory, holes, piece, at), range, needle);
            assert_eq!(found, copies, "{holes:?}");
        }
        assert_eq!(copies_in(|_, _| Ok(0), 0..PAGE, b""), 0);
    }
}
