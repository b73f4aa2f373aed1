//! What is found, and what is left of a header.

use std::rc::Rc;

use vaultref_contract::Secret;

use super::masked;

fn secrets(texts: &[&str]) -> Vec<Rc<Secret>> {
    let secrets = texts
        .iter()
        .map(|text| Rc::new(Secret::from((*text).to_owned())));
    secrets.collect()
}

#[test]
fn every_occurrence_is_masked_however_much_of_it_is_encoded() {
    let needles = secrets(&["s3cr3t/ a", "%41%42%43", "s3cr3t/ a+longer"]);
    let table: &[(&str, Option<&str>)] = &[
        ("s3cr3t/ a", Some("***")),
        ("Bearer s3cr3t/ a, s3cr3t/ a", Some("Bearer ***, ***")),
        ("s3cr3t/ as3cr3t/ a", Some("******")),
        ("/x?k=s3cr3t%2F%20a&y", Some("/x?k=***&y")),
        ("/x?k=s3cr3t%2f+a&y", Some("/x?k=***&y")),
        ("%733cr3t/%20%61", Some("***")),
        ("s3cr3t/ a+longer", Some("***")),
        ("s3cr3t/ a%2blonger", Some("***")),
        ("s3cr3t/ a longer", Some("*** longer")),
        ("%41%42%43", Some("***")),
        ("%2541%2542%2543", Some("***")),
        ("s3cr3t/  a", None),
        ("S3CR3T/ A", None),
        ("s3cr3t/ ", None),
        ("s3cr3t/%2", None),
        ("s3cr3t/%", None),
        ("", None),
        ("%", None),
    ];
    for (value, expected) in table {
        let found = masked(value.as_bytes(), &needles);
        let found = found.map(|value| String::from_utf8(value).expect("text"));
        assert_eq!(found.as_deref(), *expected, "{value}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::{masked, secrets};
    use crate::query::encode;

    proptest! {
        #[test]
        fn nothing_is_left_of_what_was_put_in(
            secret in "[ -~]{8,20}",
            before in "[a-z=%+]{0,9}",
            between in "[a-z=%+]{0,9}",
        ) {
            let needles = secrets(&[&secret]);
            let encoded = encode(secret.as_bytes());
            let value = [before.as_bytes(), secret.as_bytes(), between.as_bytes(), &encoded].concat();
            let found = masked(&value, &needles).expect("an occurrence");
            for form in [secret.as_bytes(), &encoded] {
                prop_assert!(!found.windows(form.len()).any(|part| part == form), "{found:?}");
            }
        }

        #[test]
        fn no_bytes_make_it_panic(value in prop::collection::vec(any::<u8>(), 0..60), secret in "[%0-9a]{8,12}") {
            let _ = masked(&value, &secrets(&[&secret]));
        }
    }
}
