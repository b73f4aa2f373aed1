//! Places and bounds in `nginx.conf`, whose parameters are written with escapes.

use vaultref_filter::{Callbacks, Kind as Host};

use super::*;

fn read(source: &str) -> File {
    let usual = Gateway {
        kind: Host::Nginx,
        callbacks: Callbacks::Every,
        variables: None,
    };
    File::read("nginx.conf".to_owned(), source.as_bytes().to_vec(), &usual)
}

/// The line and column of a byte.
fn at(source: &str, byte: usize) -> (Option<usize>, Option<usize>) {
    let place = read("").place(source, Some(byte), "");
    (place.line, place.column)
}

#[test]
fn places_are_those_of_the_file_behind_escapes() {
    let source = r#"set $x 'it\'s {vault://a/outside}';
proxy_wasm vaultref '{"resolver": {"upstream": "x:1"}, "it\'s": 1, "request": {"set": {"headers":
  {"a": "\'\'\\n\'{vault://a/inside}"}}}}';
proxy_wasm vaultref '{"\'\'": 1, oops}';
"#;
    let file = read(source);
    let places: Vec<_> = file.references.iter().map(|found| &found.place).collect();
    assert_eq!(places.len(), 2);
    for (place, name) in places.iter().zip(["outside", "inside"]) {
        let reference = format!("{{vault://a/{name}}}");
        let expected = at(source, source.find(&reference).expect("there"));
        assert_eq!((place.line, place.column), expected, "{name}");
    }
    let faults: Vec<_> = file
        .faults
        .iter()
        .map(|(place, _, cause)| (place.line, place.column, cause.as_str()))
        .collect();
    let unknown = at(source, source.find(r#""it\'s""#).expect("there"));
    let oops = at(source, source.find("oops").expect("there"));
    for expected in [unknown, oops] {
        let is_there = faults.iter().any(|fault| (fault.0, fault.1) == expected);
        assert!(is_there, "{expected:?}: {faults:?}");
    }
}

/// nginx looks at what is written: with the quote at its end it has to fit 4,096 bytes.
#[test]
fn the_longest_parameter_is_as_long_as_nginx_reads() {
    let start = r#"{"resolver": {"upstream": "x:1"}, "request": {"set": {"headers": {"a": ""#;
    let end = r#""}}}}"#;
    for (escapes, length, is_fine) in [
        (0, 4095, true),
        (0, 4096, false),
        (100, 4095, true),
        (100, 4096, false),
    ] {
        let filling = length - start.len() - end.len() - 2 * escapes;
        let filling = format!("{}{}", r"\'".repeat(escapes), "x".repeat(filling));
        let parameter = format!("{start}{filling}{end}");
        assert_eq!(parameter.len(), length);
        let file = read(&format!("proxy_wasm vaultref '{parameter}';"));
        let is_too_long = file
            .faults
            .iter()
            .any(|(_, _, cause)| cause.contains("4,095"));
        assert_eq!(is_too_long, !is_fine, "{length} with {escapes} escapes");
    }
}
