//! Files of lines: `NAME=value`, Kong's `kong.conf`, and texts that are to be rendered.

use std::borrow::Cow;

/// A value in a file of lines.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line<'a> {
    /// The variable or setting; empty in a text.
    pub(super) name: &'a str,
    /// The byte at which the value starts.
    pub(super) at: usize,
    pub(super) value: Cow<'a, str>,
}

/// `NAME=value` lines, as shells, Docker and systemd take them.
pub(super) fn environment(text: &str) -> Vec<Line<'_>> {
    assignments(text, Cow::Borrowed)
}

/// `kong.conf`: what follows a `#` is a comment, unless it is written `\#`.
pub(super) fn kong(text: &str) -> Vec<Line<'_>> {
    assignments(text, |value| {
        let mut hashes = value.match_indices('#').map(|(at, _)| at);
        let is_comment = |at: &usize| !value.get(..*at).unwrap_or_default().ends_with('\\');
        let end = hashes.find(is_comment).unwrap_or(value.len());
        let value = value.get(..end).unwrap_or_default();
        if value.contains("\\#") {
            return Cow::Owned(value.replace("\\#", "#"));
        }
        Cow::Borrowed(value)
    })
}

/// Every line.
pub(super) fn plain(text: &str) -> Vec<Line<'_>> {
    let lines = lines(text).map(|(at, line)| Line {
        name: "",
        at,
        value: Cow::Borrowed(line),
    });
    lines.collect()
}

/// Whether a text consists of assignments.
pub(super) fn is_environment(text: &str) -> bool {
    let mut assigned = 0;
    let plain = lines(text).all(|(_, line)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return true;
        }
        assigned += 1;
        let line = line.strip_prefix("export ").unwrap_or(line);
        line.split_once('=').is_some_and(|(name, _)| is_name(name))
    });
    plain && assigned > 0
}

fn assignments<'a>(text: &'a str, read: impl Fn(&'a str) -> Cow<'a, str>) -> Vec<Line<'a>> {
    let lines = lines(text).filter_map(|(at, line)| {
        if line.trim_start().starts_with('#') {
            return None;
        }
        let (name, value) = line.split_once('=')?;
        let at = at + name.len() + 1;
        let name = name.trim();
        Some(Line {
            name: name.strip_prefix("export ").unwrap_or(name).trim_start(),
            at,
            value: read(value),
        })
    });
    lines.collect()
}

/// Lines with the bytes at which they start.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |end, line| {
        let at = *end;
        *end += line.len();
        Some((at, line.trim_end_matches(['\n', '\r'])))
    })
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, lines: &[Line<'_>]) -> Vec<String> {
        let shown = lines.iter().map(|line| {
            let start: String = line.value.chars().take(1).collect();
            assert!(text[line.at..].starts_with(&start));
            format!("{}={}", line.name, line.value)
        });
        shown.collect()
    }

    #[test]
    fn assignments_are_taken_apart() {
        let text = "# A=b\nA=b # c\r\n  export B = \"{vault://a/b#1}\"\n\nno\nC==";
        assert_eq!(
            shown(text, &environment(text)),
            ["A=b # c", "B= \"{vault://a/b#1}\"", "C=="]
        );
        assert!(is_environment("# x\n\nA=b\nexport _B1=\n"));
        for text in ["", "# only", "a: b=c", "A=b\nno", "1A=b", "x y=1"] {
            assert!(!is_environment(text), "{text}");
        }
    }

    #[test]
    fn a_hash_begins_a_comment_in_kong_conf() {
        let text = "#pg_user = x\npg_password = {vault://a/b\\#2} # {vault://c/d}\nssl_cert={vault://a/b#2}";
        assert_eq!(
            shown(text, &kong(text)),
            ["pg_password= {vault://a/b#2} ", "ssl_cert={vault://a/b"]
        );
        let text = "é\n{x}";
        assert_eq!(shown(text, &plain(text)), ["=é", "={x}"]);
    }
}
