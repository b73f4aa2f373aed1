use super::*;

/// Every text with its pointer, and the source that its bytes come from.
fn texts(source: &str, trees: &[Tree]) -> Vec<String> {
    let mut found = Vec::new();
    for tree in trees {
        tree.walk(&mut |pointer, tree| {
            if let Some(text) = tree.text() {
                let raw = &source[tree.span.clone()];
                let needle = text.find('{').unwrap_or_default();
                let at = tree.span.start + offset_in_source(raw, text, needle);
                let line = 1 + source[..at].matches('\n').count();
                let word: String = source[at..].chars().take(4).collect();
                found.push(format!("{pointer} {line} {word}"));
            }
        });
    }
    found
}

#[test]
fn yaml_texts_of_every_style_know_their_line_and_byte() {
    let source = "ä: é {a}\nplain: {b: {c: 1}}\nquoted: \"ü \\u00e9 \\\" {d}\"\nsingle: 'it''s {e}'\n\
                  block: |\n  first\n    {f}\nfolded: >-\n  one\n  two {g}\n  three\nlist:\n  - x\n  - \"two\n     {h}\"\n\
                  plain2: one\n  two {i}\n---\nsecond: '{j}'\n";
    let trees = yaml::parse(source).expect("YAML");
    assert_eq!(trees.len(), 2);
    assert_eq!(
        texts(source, &trees),
        [
            "/ä 1 {a}\n",
            "/quoted 3 {d}\"",
            "/single 4 {e}'",
            "/block 7 {f}\n",
            "/folded 10 {g}\n",
            "/list/0 13 x\n  ",
            "/list/1 15 {h}\"",
            "/plain2 17 {i}\n",
            "/second 19 {j}'",
        ]
    );
}

#[test]
fn json_texts_know_their_line_and_byte() {
    let source =
        "{\"a\": \"\\u00e9\\n{x}\",\n \"ä\": [1, -2.5e3, true, null, {}, [],\n  \"{y:\\/\\/}\"]}";
    let tree = json::parse(source).expect("JSON");
    assert_eq!(
        texts(source, std::slice::from_ref(&tree)),
        ["/a 1 {x}\"", "/ä/6 3 {y:\\"]
    );
    assert_eq!(
        *tree.to_json(),
        "{\"a\":\"é\\u000a{x}\",\"ä\":[1,-2.5e3,true,null,{},[],\"{y://}\"]}"
    );
    assert!(tree.to_json().len() <= tree.json_size());
    assert_eq!(tree.place("/ä/4"), source.find("{}").expect("there"));
    assert_eq!(tree.place("/ä/4/none"), source.find("{}").expect("there"));
    assert_eq!(tree.place("/ä"), source.find("\"ä\"").expect("there"));
}

#[test]
fn plain_yaml_is_what_it_looks_like() {
    for (yaml, json) in [
        ("1", "1"),
        ("-1", "-1"),
        ("+1", "1"),
        ("0x1F", "31"),
        ("0o17", "15"),
        ("1.50", "1.5"),
        (".5", "0.5"),
        ("1e3", "1000.0"),
        (".inf", "\".inf\""),
        ("1.2.3", "\"1.2.3\""),
        ("10:30", "\"10:30\""),
        ("a1", "\"a1\""),
        ("-", "[null]"),
        ("~", "null"),
        ("True", "true"),
        ("yes", "\"yes\""),
        ("'1'", "\"1\""),
        ("!!str 1", "\"1\""),
        ("! 1", "\"1\""),
        ("{a: , b: [c]}", "{\"a\":null,\"b\":[\"c\"]}"),
        ("{1: x}", "{\"1\":\"x\"}"),
        ("{a: 1, a: 2}", "{\"a\":1,\"a\":2}"),
        ("a: &x [1]\nb: *x", "{\"a\":[1],\"b\":[1]}"),
        ("\"\\x7f\\u2028\"", "\"\\u007f\u{2028}\""),
    ] {
        let trees = yaml::parse(yaml).expect(yaml);
        assert_eq!(*trees[0].to_json(), json, "{yaml}");
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_byte() {
    for text in [
        "a: [1\nb: 2",
        "\tx: {",
        "a: \"x",
        "{\"a\": }",
        "{\"a\" 1}",
        "\"\\ud800\"",
        "",
    ] {
        let error = json::parse(text).err().expect(text);
        assert!(error.at <= text.len(), "{text}");
    }
    assert_eq!(
        json::parse("{\"a\":\n é}").err().map(|error| error.at),
        Some(7)
    );
    for text in ["a: [1\nb: 2", "a: \"x", "a: b: c", "é: [}"] {
        let error = yaml::parse(text).err().expect(text);
        assert!(
            error.at <= text.len() && text.is_char_boundary(error.at),
            "{text}"
        );
    }
}

#[test]
fn what_is_nested_or_multiplied_without_end_is_refused() {
    let deep = "[".repeat(50_000) + &"]".repeat(50_000);
    assert_eq!(
        json::parse(&deep).err().map(|error| error.problem),
        Some(TOO_DEEP)
    );
    assert!(yaml::parse(&deep).is_err());
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let before = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", [&*before; 10].join(", "));
    }
    assert!(yaml::parse(&laughs).is_err());
}

mod properties {
    use proptest::prelude::*;

    use super::super::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-{}\\[\\]:,\"'|>&*a\\\\n \n\té]{0,40}") {
            if let Ok(trees) = yaml::parse(&text) {
                for tree in &trees {
                    tree.walk(&mut |_, tree| {
                        let raw = &text[tree.span.clone()];
                        if let Some(inner) = tree.text() {
                            let at = offset_in_source(raw, inner, inner.len() / 2);
                            assert!(at <= raw.len() && raw.is_char_boundary(at));
                        }
                    });
                }
            }
            let _ = json::parse(&text);
        }

        #[test]
        fn what_json_says_is_kept(text in any::<String>(), number in any::<i64>()) {
            let value = serde_json::json!({ &text: [&text, number, { "": null }] });
            let written = value.to_string();
            let tree = json::parse(&written).expect("JSON");
            let again: serde_json::Value = serde_json::from_str(&tree.to_json()).expect("JSON");
            prop_assert_eq!(&again, &value);
            let trees = yaml::parse(&tree.to_json());
            prop_assert!(trees.is_ok());
        }
    }
}
