//! Patterns with `*`, which stands for any run of characters, slashes among them.

/// A pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Glob(String);

impl Glob {
    pub(super) fn new(pattern: String) -> Self {
        Self(pattern)
    }

    /// Whether the whole text is of this pattern.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.states_after(text).is_some_and(|states| {
            let end = self.0.len();
            states
                .iter()
                .any(|at| self.0.as_bytes()[*at..end].iter().all(|byte| *byte == b'*'))
        })
    }

    /// Whether there is a text that starts with `start` and is of this pattern.
    pub(super) fn could_start_with(&self, start: &str) -> bool {
        self.states_after(start).is_some()
    }

    /// Whether there is such a text that goes on with a `/` for which the pattern has one too: no star
    /// stands for it.
    pub(super) fn names_below(&self, start: &str) -> bool {
        let pattern = self.0.as_bytes();
        self.states_after(start).is_some_and(|states| {
            let next = |at: usize| pattern[at..].iter().find(|byte| **byte != b'*');
            states.into_iter().any(|at| next(at) == Some(&b'/'))
        })
    }

    /// The places in the pattern that may come next when `text` has been read; none if the text is
    /// the start of nothing that matches. (A star is a place that is never left behind.)
    fn states_after(&self, text: &str) -> Option<Vec<usize>> {
        let pattern = self.0.as_bytes();
        let mut states = vec![0];
        for byte in text.bytes() {
            let mut next = Vec::new();
            for at in states {
                let mut at = at;
                while pattern.get(at) == Some(&b'*') {
                    push(&mut next, at);
                    at += 1;
                }
                if pattern.get(at) == Some(&byte) {
                    push(&mut next, at + 1);
                }
            }
            states = next;
        }
        (!states.is_empty()).then_some(states)
    }
}

fn push(states: &mut Vec<usize>, at: usize) {
    if !states.contains(&at) {
        states.push(at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Glob;

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

    #[test]
    fn table() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "a/b", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("AWS_*", "AWS_", true),
            ("AWS_*", "XAWS_A", false),
            ("*/token", "a/b/token", true),
            ("a**b", "ab", true),
            ("ä*", "äx", true),
        ] {
            assert_eq!(
                Glob::new(pattern.into()).matches(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    proptest! {
        #[test]
        fn matches_what_the_definition_matches(pattern in "[ab/*]{0,8}", text in "[ab/]{0,10}") {
            let glob = Glob::new(pattern.clone());
            prop_assert_eq!(glob.matches(&text), naive(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn names_below_where_a_slash_of_its_own_follows_what_matches(
            pattern in "[ab/*]{0,8}",
            start in "[ab/]{0,10}",
        ) {
            let bytes = pattern.as_bytes();
            let mut slashes = (0..bytes.len()).filter(|at| bytes[*at] == b'/');
            let expected = slashes.any(|at| naive(&bytes[..at], start.as_bytes()));
            prop_assert_eq!(Glob::new(pattern.clone()).names_below(&start), expected);
        }

        #[test]
        fn a_text_that_matches_could_start_with_each_of_its_starts(
            pattern in "[ab/*]{0,8}",
            text in "[ab/]{0,10}",
            at in 0usize..11,
        ) {
            let glob = Glob::new(pattern);
            if glob.matches(&text) {
                let start: String = text.chars().take(at).collect();
                prop_assert!(glob.could_start_with(&start));
            }
        }

        #[test]
        fn what_could_not_start_so_never_matches(
            pattern in "[ab/*]{0,6}",
            start in "[ab/]{0,4}",
            rest in "[ab/]{0,4}",
        ) {
            let glob = Glob::new(pattern);
            let whole = [start.as_str(), rest.as_str()].concat();
            prop_assert!(glob.could_start_with(&start) || !glob.matches(&whole));
        }
    }
}
