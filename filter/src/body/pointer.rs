//! JSON pointers (RFC 6901) as lists of names.

/// The names of a pointer, unescaped; none if the text is no pointer. Indices of lists are names too,
/// and `-` is the place behind the last item.
pub(crate) fn parse(text: &str) -> Option<Vec<String>> {
    let mut names = text.split('/');
    if names.next() != Some("") {
        return None;
    }
    names.map(unescape).collect()
}

fn unescape(written: &str) -> Option<String> {
    let mut name = String::with_capacity(written.len());
    let mut chars = written.chars();
    while let Some(char) = chars.next() {
        name.push(match char {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(name)
}

/// The index of a list that a name is, if it is one.
pub(super) fn index(name: &str) -> Option<usize> {
    let canonical = name == "0" || !name.starts_with('0');
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unescaped_and_anything_else_is_refused() {
        let parsed = |text: &str| parse(text).map(|names| names.join("|"));
        for (text, names) in [
            ("", Some("")),
            ("/", Some("")),
            ("/a", Some("a")),
            ("/a/b/0", Some("a|b|0")),
            ("/a~1b/~0~01", Some("a/b|~~1")),
            ("/a//", Some("a||")),
            ("a", None),
            ("a/b", None),
            ("/~", None),
            ("/~2", None),
        ] {
            assert_eq!(parsed(text).as_deref(), names, "{text}");
        }
        assert_eq!(parse("").map(|names| names.len()), Some(0));
    }

    #[test]
    fn only_plain_numbers_are_indices() {
        for (name, found) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("-", None),
            ("10", Some(10)),
            ("01", None),
            ("-1", None),
            ("+1", None),
            ("", None),
            ("a", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(index(name), found, "{name}");
        }
    }
}
