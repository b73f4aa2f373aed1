//! What of a secret is meant, as the number that an object's version is.

use crate::backend::{ReadError, ReadErrorKind};

/// Numbers from here on say which account is claimed.
const CLAIMING: u64 = 10_000_000_000_000;

/// A stage, and the account that a reference claims while the vault's own is not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Version {
    pub(super) stage: Stage,
    /// An object with a claim has an entry of its own in the cache, but no other name.
    pub(super) claimed: Option<u64>,
}

/// The stages that have a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    Current,
    Previous,
}

impl Version {
    /// What a number of [`Version::number`] means.
    pub(super) fn of(number: Option<u64>) -> Self {
        let number = number.unwrap_or(1);
        Self {
            stage: if number % 10 == 2 {
                Stage::Previous
            } else {
                Stage::Current
            },
            claimed: number.checked_sub(CLAIMING).map(|claim| claim / 10),
        }
    }

    /// None for what is meant without saying so.
    pub(super) fn number(self) -> Option<u64> {
        let stage = match self.stage {
            Stage::Current => 1,
            Stage::Previous => 2,
        };
        match self.claimed {
            Some(account) => Some(CLAIMING + account * 10 + stage),
            None => (stage != 1).then_some(stage),
        }
    }
}

impl Stage {
    /// The stage that a reference means.
    ///
    /// # Errors
    /// There is none of that number.
    pub(super) fn numbered(version: Option<u64>) -> Result<Self, ReadError> {
        match version {
            None | Some(1) => Ok(Self::Current),
            Some(2) => Ok(Self::Previous),
            Some(_) => Err(ReadError::new(
                ReadErrorKind::NotFound,
                "there is #1, the current version (AWSCURRENT), and #2, the one before (AWSPREVIOUS)",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_its_number() {
        let mut numbers = Vec::new();
        for stage in [Stage::Current, Stage::Previous] {
            for claimed in [None, Some(0), Some(1), Some(999_999_999_999)] {
                let version = Version { stage, claimed };
                assert_eq!(Version::of(version.number()), version);
                assert!(!numbers.contains(&version.number()), "{version:?}");
                numbers.push(version.number());
            }
        }
        assert!(numbers.contains(&None));
    }

    #[test]
    fn there_are_two_stages() {
        assert_eq!(Stage::numbered(None), Ok(Stage::Current));
        assert_eq!(Stage::numbered(Some(1)), Ok(Stage::Current));
        assert_eq!(Stage::numbered(Some(2)), Ok(Stage::Previous));
        for none in [0, 3, 11, 12, CLAIMING + 1, u64::MAX] {
            let kind = Stage::numbered(Some(none)).map_err(|error| error.kind);
            assert_eq!(kind, Err(ReadErrorKind::NotFound), "{none}");
        }
    }
}
