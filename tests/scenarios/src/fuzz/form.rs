//! Query strings, read as an upstream reads them.

/// The values that a parameter has in a path with a query.
pub(super) fn query_values(path: &[u8], name: &str) -> Vec<Vec<u8>> {
    values(query(path), name)
}

/// Whether a server that divides at ';' as well finds a parameter more often.
pub(super) fn has_more_at_semicolons(path: &[u8], name: &str) -> bool {
    let parts = query(path).split(|byte| matches!(byte, b'&' | b';'));
    let count = parts.map(|part| values(part, name).len()).sum::<usize>();
    count > query_values(path, name).len()
}

fn query(path: &[u8]) -> &[u8] {
    let path = path.split(|byte| *byte == b'#').next().unwrap_or_default();
    let query = path.iter().position(|byte| *byte == b'?');
    query.map_or(&[][..], |mark| &path[mark + 1..])
}

/// The values that a field has in a form.
pub(super) fn values(form: &[u8], name: &str) -> Vec<Vec<u8>> {
    let pairs = form
        .split(|byte| *byte == b'&')
        .filter(|piece| !piece.is_empty());
    let pairs = pairs.map(|piece| {
        let equals = piece.iter().position(|byte| *byte == b'=');
        let (name, value) = piece.split_at(equals.unwrap_or(piece.len()));
        (decode(name), decode(value.get(1..).unwrap_or_default()))
    });
    pairs
        .filter(|(other, _)| other == name.as_bytes())
        .map(|(_, value)| value)
        .collect()
}

fn decode(written: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = written;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let digit = |at: usize| {
            let byte = tail.get(at).copied().map(char::from);
            byte.and_then(|digit| digit.to_digit(16))
        };
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = &tail[2..];
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out
}
