//! Which references may come with a request.
//!
//! A pattern is `<vault>/<glob>`, as in the daemon's `allow`: `*` stands for any run of characters,
//! slashes among them, and a pattern of an object is one of each of its keys. What is compared is
//! what the reference means, with percent-encoding undone, but in the spelling in which it stands
//! there: this list says what a route is for. What its gateway may read at all is for the daemon's
//! policy, which stands behind it and looks at the object itself.

use vaultref_contract::Reference;

use crate::config::ConfigError;

/// What is allowed; without a pattern, nothing.
#[derive(Debug, Default)]
pub(crate) struct Allow(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    vault: String,
    glob: String,
}

impl Allow {
    /// Reads the patterns at `place`.
    pub(crate) fn compile(place: &str, patterns: &[String]) -> Result<Self, ConfigError> {
        let is_of_vault = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let patterns = patterns.iter().enumerate().map(|(index, pattern)| {
            let parts = pattern.split_once('/').filter(|(vault, glob)| {
                !vault.is_empty() && vault.chars().all(is_of_vault) && !glob.is_empty()
            });
            let Some((vault, glob)) = parts else {
                let message = "must be the name of a vault, '/', and a path in which '*' stands \
                               for any characters";
                return Err(ConfigError::new(format!("{place}/{index}"), message));
            };
            Ok(Pattern {
                vault: vault.to_owned(),
                glob: glob.to_owned(),
            })
        });
        patterns.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn permits(&self, reference: &Reference) -> bool {
        let path = reference.resource();
        let with_key = reference
            .key()
            .map(|key| [path, "/", &plain_key(key)].concat());
        let of_vault = self
            .0
            .iter()
            .filter(|known| known.vault == reference.vault());
        let mut globs = of_vault.map(|pattern| pattern.glob.as_bytes());
        globs.any(|glob| {
            matches(glob, path.as_bytes())
                || with_key
                    .as_ref()
                    .is_some_and(|path| matches(glob, path.as_bytes()))
        })
    }
}

/// A key as it stands in patterns: `/db/password`, a JSON pointer, counts as `db/password`.
pub(super) fn plain_key(key: &str) -> String {
    match key.strip_prefix('/') {
        None => key.to_owned(),
        Some(pointer) => pointer.replace("~1", "/").replace("~0", "~"),
    }
}

/// Whether the whole text is of the pattern.
fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    // What follows the last star, and the text from which it was tried.
    let mut last: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => return true,
            (Some((b'*', rest)), _) => {
                pattern = rest;
                last = Some((rest, text));
            }
            (Some((wanted, rest)), Some((byte, tail))) if wanted == byte => {
                (pattern, text) = (rest, tail);
            }
            // The last star takes in one more; an earlier one need not, since it could only take in
            // what the last one can.
            _ => {
                let more = last.and_then(|(rest, from)| Some((rest, from.split_first()?.1)));
                let Some((rest, tail)) = more else {
                    return false;
                };
                (pattern, text) = (rest, tail);
                last = more;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permits(patterns: &[&str], reference: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.into()).collect();
        let allow = Allow::compile("", &patterns).expect("patterns");
        allow.permits(&Reference::parse(reference).expect(reference))
    }

    #[test]
    fn a_pattern_is_of_the_object_or_of_its_keys() {
        let table = [
            ("tenants/*", "{vault://tenants/acme/key}", true),
            ("tenants/*", "{vault://tenants2/acme/key}", false),
            ("tenants/*", "{vault://tenant/acme/key}", false),
            ("tenants/acme", "{vault://tenants/acme/key}", true),
            ("tenants/acme", "{vault://tenants/acme/}", true),
            ("tenants/acme", "{vault://tenants/acme-2/key}", false),
            ("tenants/acme", "{vault://tenants/acme/deep/key}", false),
            ("tenants/*/key", "{vault://tenants/acme/key}", true),
            ("tenants/*/key", "{vault://tenants/acme/other}", false),
            ("tenants/*/key", "{vault://tenants/acme/}", false),
            ("tenants/*/key", "{vault://tenants/a/b/%2Fkey}", true),
            ("tenants/a/x/y", "{vault://tenants/a/%2Fx%2Fy}", true),
            ("tenants/a/x/y", "{vault://tenants/a/%2Fx~1y}", true),
            ("tenants/a/k", "{vault://tenants/a%2Fk}", true),
            // As it is spelled: the daemon knows what an environment variable is called, not we.
            ("env/MAPS_*", "{vault://env/maps-key}", false),
            ("env/maps-*", "{vault://env/maps-key}", true),
        ];
        for (pattern, reference, expected) in table {
            assert_eq!(
                permits(&[pattern], reference),
                expected,
                "{pattern} {reference}"
            );
        }
        assert!(!permits(&[], "{vault://tenants/acme/key}"));
        assert!(permits(&["a/b", "tenants/*"], "{vault://tenants/acme/key}"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["", "tenants", "/x", "tenants/", "*/x", "ten*/x", "a b/c"] {
            let error = Allow::compile("/allow", &["v/x".into(), pattern.into()]);
            let error = error.map(drop).expect_err(pattern);
            assert_eq!(error.place(), "/allow/1");
        }
    }

    /// The plainest definition there is.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((b'*', rest)), _) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            (Some((byte, rest)), Some((first, tail))) => byte == first && naive(rest, tail),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn matches_what_the_definition_matches(pattern in "[ab/*]{0,8}", text in "[ab/]{0,10}") {
            let expected = naive(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected);
        }
    }
}
