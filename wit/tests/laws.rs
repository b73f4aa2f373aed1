//! Laws that hold for every input.

use proptest::prelude::*;
use vaultref_contract::wire::decode_reply;
use vaultref_contract::{Reference, Scan, Template, references_in};

/// Texts that are likely to be nearly references.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{vault://".to_owned()),
        Just("vault://".to_owned()),
        Just("env/".to_owned()),
        Just("}".to_owned()),
        Just("{".to_owned()),
        "[{}/?#&=%+a-z0-9 ]{0,4}",
        "%[0-9a-fA-F]{0,2}",
        ".{0,3}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn reference() -> impl Strategy<Value = String> {
    (
        "[a-z][a-z0-9-]{0,6}",
        prop::collection::vec("([^{}?#]|%2F|%7D|%25){1,6}", 1..4),
        any::<bool>(),
        prop::option::of("[^{}#]{0,12}"),
        prop::option::of(any::<u64>()),
    )
        .prop_map(|(vault, path, slash, options, version)| {
            let mut text = format!("{{vault://{vault}/{}", path.join("/"));
            text.push_str(if slash { "/" } else { "" });
            options
                .iter()
                .for_each(|options| text.push_str(&format!("?{options}")));
            version
                .iter()
                .for_each(|version| text.push_str(&format!("#{version}")));
            text + "}"
        })
}

proptest! {
    #[test]
    fn parse_after_print_is_the_identity(text in reference()) {
        if let Ok(reference) = Reference::parse(&text) {
            let printed = reference.to_string();
            prop_assert_eq!(Reference::parse(&printed), Ok(reference), "{}", printed);
        }
    }

    #[test]
    fn most_generated_references_parse(texts in prop::collection::vec(reference(), 64)) {
        // Keeps the law above from holding for want of references.
        let parsed = texts.iter().filter(|text| Reference::parse(text).is_ok()).count();
        prop_assert!(parsed > 32, "{parsed} of 64");
    }

    #[test]
    fn no_text_panics_and_what_parses_prints_back(text in nearly()) {
        let _ = Reference::parse(&text);
        match Template::parse(&text) {
            Ok(template) => prop_assert_eq!(template.to_string(), text),
            Err(error) => {
                prop_assert!(error.offset() <= text.len());
                prop_assert!(text.is_char_boundary(error.offset()));
            }
        }
    }

    #[test]
    fn a_scan_ends_in_order_and_agrees_with_the_template(text in nearly()) {
        let scanned: Vec<_> = Scan::new(&text).collect();
        for pair in scanned.windows(2) {
            prop_assert!(pair[0].range.end <= pair[1].range.start);
        }
        let first = scanned.iter().find_map(|scanned| scanned.found.as_ref().err());
        match Template::parse(&text) {
            Ok(template) => {
                let found = scanned.iter().filter_map(|scanned| scanned.found.as_ref().ok());
                prop_assert!(first.is_none() && template.references().eq(found));
            }
            Err(error) => prop_assert_eq!(first, Some(&error)),
        }
    }

    #[test]
    fn any_string_is_taken_apart_and_put_together(text in any::<String>()) {
        if let Ok(template) = Template::parse(&text) {
            prop_assert_eq!(template.to_string(), text);
        }
    }

    #[test]
    fn a_text_holds_the_references_that_were_put_in(
        pieces in prop::collection::vec(("[^{}]{0,5}", reference()), 0..5),
        tail in "[^{}]{0,5}",
    ) {
        let valid: Vec<_> =
            pieces.iter().filter(|(_, text)| Reference::parse(text).is_ok()).collect();
        let text: String =
            valid.iter().map(|(before, text)| format!("{before}{text}")).collect::<String>() + &tail;
        let template = Template::parse(&text).expect("valid references");
        let found: Vec<_> = template.references().map(|found| found.as_str()).collect();
        let put: Vec<_> = valid.iter().map(|(_, text)| text.as_str()).collect();
        prop_assert_eq!(&found, &put);
        let document = serde_json::json!([{ "x": &text }]);
        prop_assert_eq!(references_in(&document).found.len(), usize::from(!put.is_empty()));
    }

    #[test]
    fn no_answer_panics(bytes in any::<Vec<u8>>(), count in 0usize..3) {
        prop_assert!(decode_reply(&bytes, count).is_err());
    }
}
