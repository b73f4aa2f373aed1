use super::*;

fn shape(text: &str) -> Vec<String> {
    let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    template
        .parts()
        .iter()
        .map(|part| match part {
            Part::Reference(found) => format!("R {}", found.as_str()),
            Part::Text(text) => format!("T {text}"),
        })
        .collect()
}

#[test]
fn braces_and_references_in_texts() {
    let table: &[(&str, &[&str])] = &[
        ("", &[]),
        ("plain", &["T plain"]),
        ("{}", &["T {}"]),
        ("{{ x }}", &["T {{ x }}"]),
        ("{vault:/a/b}", &["T {vault:/a/b}"]),
        ("vault://a/b", &["T vault://a/b"]),
        ("{ vault://a/b}", &["T { vault://a/b}"]),
        ("{vault://a/b}", &["R {vault://a/b}"]),
        ("{{vault://a/b}", &["T {vault://a/b}"]),
        ("{{vault://x}", &["T {vault://x}"]),
        ("{{vault://a/b}}", &["T {vault://a/b}}"]),
        ("{{{vault://a/b}", &["T {", "R {vault://a/b}"]),
        ("{{{vault://a/b}}}", &["T {", "R {vault://a/b}", "T }}"]),
        ("{{{{vault://a/b}", &["T {{vault://a/b}"]),
        ("{{{{{vault://a/b}", &["T {{", "R {vault://a/b}"]),
        ("Bearer {vault://a/b}", &["T Bearer ", "R {vault://a/b}"]),
        (
            "{vault://a/b}{vault://a/c}",
            &["R {vault://a/b}", "R {vault://a/c}"],
        ),
        (
            "{vault://a/b}:{vault://a/c}",
            &["R {vault://a/b}", "T :", "R {vault://a/c}"],
        ),
        ("{vault://a/b}}", &["R {vault://a/b}", "T }"]),
        ("{vault://a/b}vault://", &["R {vault://a/b}", "T vault://"]),
        (
            "{{vault://{vault://a/b}",
            &["T {vault://", "R {vault://a/b}"],
        ),
        ("{vault://a/b%7Dc}", &["R {vault://a/b%7Dc}"]),
        (
            r#"{"k":"{vault://a/b}"}"#,
            &[r#"T {"k":""#, "R {vault://a/b}", r#"T "}"#],
        ),
        ("é{vault://a/日本}é", &["T é", "R {vault://a/日本}", "T é"]),
    ];
    for (text, expected) in table {
        assert_eq!(shape(text), *expected, "{text}");
        assert_eq!(
            Template::parse(text).map(|t| t.to_string()).as_deref(),
            Ok(*text)
        );
    }
}

#[test]
fn an_error_names_its_byte() {
    let table = [
        ("{vault://a/b", 0, "has no '}'"),
        ("é {vault://a/b", 3, "has no '}'"),
        ("x{vault://}", 10, "name is missing"),
        ("xx{vault://env}", 14, "path is missing"),
        ("{vault://a/b} {vault://env/}", 27, "path is empty"),
        ("{vault://a/b#v}", 13, "not a number"),
        ("{vault://a/{vault://b/c}}", 11, "another one"),
        ("{vault://a b/c}", 10, "vault's name"),
        ("{vault://a/%ff}", 11, "not UTF-8"),
    ];
    for (text, offset, message) in table {
        let error = Template::parse(text).expect_err(text);
        assert_eq!(error.offset(), offset, "{text}");
        assert!(error.to_string().contains(message), "{text}: {error}");
    }
}

#[test]
fn the_message_for_an_unclosed_reference_shows_how_to_write_it_literally() {
    let error = Template::parse("{vault://a").expect_err("has no end");
    assert!(
        error
            .to_string()
            .contains("a literal '{vault://' is written '{{vault://'"),
        "{error}"
    );
}

#[test]
fn a_scan_goes_past_what_it_cannot_read() {
    let text = "é{vault://a/b} {{vault://no} {vault://} {vault://c {vault://d/e} {vault://";
    let found: Vec<_> = Scan::new(text)
        .map(|scanned| {
            let written = &text[scanned.range.clone()];
            match scanned.found {
                Ok(reference) => {
                    assert_eq!(reference.as_str(), written);
                    format!("{written} at {}", scanned.range.start)
                }
                Err(error) => format!("{written} fails at {}", error.offset()),
            }
        })
        .collect();
    assert_eq!(
        found,
        [
            "{vault://a/b} at 2",
            "{vault://} fails at 39",
            "{vault://c  fails at 52",
            "{vault://d/e} at 52",
            "{vault:// fails at 66",
        ]
    );
}
