//! Values out of pieces and secrets, and the secrets that are refused.

use vaultref_contract::Secret;

use super::{Encoding, Piece, Unrenderable, Value, ValueKind};

fn value(kind: ValueKind, encoding: Encoding) -> Value {
    Value {
        place: String::new(),
        kind,
        encoding,
    }
}

fn pieces() -> Vec<Piece> {
    vec![
        Piece::Text("<".into()),
        Piece::Reference(0),
        Piece::Text("|".into()),
        Piece::Reference(1),
        Piece::Reference(0),
    ]
}

fn rendered(value: &Value, secrets: &[Option<&[u8]>]) -> Result<Vec<u8>, Unrenderable> {
    let secrets: Vec<_> = secrets
        .iter()
        .map(|bytes| bytes.map(|bytes| Secret::new(bytes.to_vec())))
        .collect();
    let made = value.render(|index| secrets.get(index).and_then(Option::as_ref));
    made.map(|secret| secret.expose().to_vec())
}

#[test]
fn pieces_and_secrets_are_joined() {
    let header = value(ValueKind::Text(pieces()), Encoding::Header);
    assert_eq!(
        rendered(&header, &[Some(b"a"), Some(b"\xff\t")]),
        Ok(b"<a|\xff\ta".to_vec())
    );
    let query = value(ValueKind::Text(pieces()), Encoding::Query);
    assert_eq!(
        rendered(&query, &[Some(b"a&"), Some(b"\n")]),
        Ok(b"%3Ca%26%7C%0Aa%26".to_vec())
    );
}

#[test]
fn a_secret_that_is_missing_is_named_by_its_index() {
    let header = value(ValueKind::Text(pieces()), Encoding::Header);
    assert_eq!(
        rendered(&header, &[Some(b"a"), None]),
        Err(Unrenderable::Missing(1))
    );
    assert_eq!(rendered(&header, &[]), Err(Unrenderable::Missing(0)));
}

#[test]
fn control_characters_are_refused_in_headers() {
    for bytes in [&b"a\r\nb"[..], b"\n", b"a\0", b"\x1f", b"\x7f"] {
        let header = value(ValueKind::Text(pieces()), Encoding::Header);
        let expected = Err(Unrenderable::ControlCharacter(1));
        assert_eq!(
            rendered(&header, &[Some(b"a"), Some(bytes)]),
            expected,
            "{bytes:?}"
        );
        let basic = value(
            ValueKind::Basic {
                username: vec![Piece::Text("u".into())],
                password: vec![Piece::Reference(0)],
            },
            Encoding::Header,
        );
        assert_eq!(
            rendered(&basic, &[Some(bytes)]),
            Err(Unrenderable::ControlCharacter(0))
        );
    }
}

#[test]
fn basic_credentials_are_base64_and_a_username_has_no_colon() {
    let basic = value(
        ValueKind::Basic {
            username: vec![Piece::Reference(0)],
            password: vec![Piece::Reference(1)],
        },
        Encoding::Header,
    );
    let expected = b"Basic QWxhZGRpbjpvcGVuOnNlc2FtZQ==".to_vec();
    assert_eq!(
        rendered(&basic, &[Some(b"Aladdin"), Some(b"open:sesame")]),
        Ok(expected)
    );
    assert_eq!(
        rendered(&basic, &[Some(b""), Some(b"")]),
        Ok(b"Basic Og==".to_vec())
    );
    let expected = Err(Unrenderable::ColonInUsername(0));
    assert_eq!(rendered(&basic, &[Some(b"a:b"), Some(b"")]), expected);
}
