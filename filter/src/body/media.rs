//! What a content type says of a body.

/// The bodies that fields are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// `application/x-www-form-urlencoded`
    Form,
    /// `application/json` and `application/…+json`
    Json,
}

/// The kind of body; none for any other kind, another charset than UTF-8, and what could be read in
/// more than one way.
#[inline(never)]
pub(crate) fn media(content_type: &[u8]) -> Option<Media> {
    // A comma stands where somebody has put two headers together.
    if content_type.contains(&b',') {
        return None;
    }
    let mut pieces = content_type.split(|byte| *byte == b';');
    let essence = pieces.next()?.trim_ascii().to_ascii_lowercase();
    let media = match essence.as_slice() {
        b"application/x-www-form-urlencoded" => Media::Form,
        b"application/json" => Media::Json,
        other => {
            let suffix = other
                .strip_prefix(b"application/")?
                .strip_suffix(b"+json")?;
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(byte);
            (!suffix.is_empty() && suffix.iter().all(is_name)).then_some(Media::Json)?
        }
    };
    let charsets = pieces.filter_map(|parameter| {
        let mut halves = parameter.splitn(2, |byte| *byte == b'=');
        let name = halves.next()?.trim_ascii();
        let value = halves.next()?.trim_ascii();
        name.eq_ignore_ascii_case(b"charset").then_some(value)
    });
    for charset in charsets {
        let unquoted = charset
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""));
        if !unquoted.unwrap_or(charset).eq_ignore_ascii_case(b"utf-8") {
            return None;
        }
    }
    Some(media)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_clearly_what_it_is_counts() {
        for (text, expected) in [
            ("application/json", Some(Media::Json)),
            ("Application/JSON ; Charset=UTF-8", Some(Media::Json)),
            ("application/json;charset=\"utf-8\"", Some(Media::Json)),
            ("application/json; odata=verbose", Some(Media::Json)),
            ("application/vnd.api+json", Some(Media::Json)),
            ("application/x-www-form-urlencoded", Some(Media::Form)),
            (
                "application/x-www-form-urlencoded; charset=utf-8",
                Some(Media::Form),
            ),
            ("", None),
            ("json", None),
            ("text/json", None),
            ("text/plain", None),
            ("application/+json", None),
            ("application/x y+json", None),
            ("application/jsonl", None),
            ("application/x-ndjson", None),
            ("application/json, text/plain", None),
            ("application/json; x=1, text/plain", None),
            ("application/json; charset=utf-16", None),
            ("application/json; charset=", None),
            ("application/json; charset=utf-8; charset=latin1", None),
            ("application/x-www-form-urlencoded; charset=latin1", None),
            ("multipart/form-data; boundary=x", None),
        ] {
            assert_eq!(media(text.as_bytes()), expected, "{text}");
        }
    }
}
