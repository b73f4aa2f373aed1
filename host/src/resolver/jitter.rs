//! Random numbers that spread reads over time. They protect nothing, so they need not be good; their
//! seed is handed in, so that a test can repeat them.

use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64.
pub(super) struct Jitter(AtomicU64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `bound`; 0 if that is 0.
    pub(super) fn below(&self, bound: u32) -> u32 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let scaled = (mixed >> 32) * u64::from(bound);
        u32::try_from(scaled >> 32).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Jitter;

    #[test]
    fn it_stays_below_the_bound_and_reaches_all_of_it() {
        let jitter = Jitter::new(7);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[jitter.below(10) as usize] += 1;
        }
        assert!(
            seen.iter().all(|count| (800..1200).contains(count)),
            "{seen:?}"
        );
        assert_eq!(jitter.below(0), 0);
        assert_eq!(jitter.below(1), 0);
    }
}
