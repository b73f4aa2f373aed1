//! Answers as JSON. The one place where a secret is written out, into a buffer that is wiped.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Failure, Lifetime, Outcome, Refusal, Revision, Value};
use crate::Secret;

/// Writes an answer: `{"results": […]}`, or `{"refusal": {…}}` for a request that was not answered.
///
/// The bytes hold secrets, so they come as one.
#[must_use]
pub fn encode_reply(reply: Result<&[Outcome], &Refusal>) -> Secret {
    let mut writer = WipingWriter(Zeroizing::new(Vec::with_capacity(1024)));
    let shown = match reply {
        Ok(outcomes) => Shown::Results(outcomes.iter().map(ShownOutcome::from).collect()),
        Err(refusal) => Shown::Refusal(refusal),
    };
    // Nothing here can fail: the writer takes everything, and the names are strings.
    if serde_json::to_writer(&mut writer, &shown).is_err() {
        writer.0.clear();
    }
    Secret::new(std::mem::take(&mut *writer.0))
}

/// Reads an answer that must have one outcome for each of `expected` references.
///
/// # Errors
/// Says what is wrong without repeating any of the bytes.
pub fn decode_reply(bytes: &[u8], expected: usize) -> Result<Vec<Outcome>, ReplyError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    struct Reply {
        results: Option<Vec<Outcome>>,
        refusal: Option<Refusal>,
    }
    let reply: Reply = serde_json::from_slice(bytes).map_err(|error| ReplyError::Malformed {
        line: error.line(),
        column: error.column(),
    })?;
    match (reply.results, reply.refusal) {
        (Some(outcomes), None) if outcomes.len() == expected => Ok(outcomes),
        (Some(outcomes), None) => Err(ReplyError::WrongCount {
            expected,
            received: outcomes.len(),
        }),
        (None, Some(refusal)) => Err(ReplyError::Refused(refusal)),
        _ => Err(ReplyError::Malformed { line: 1, column: 0 }),
    }
}

/// Why an answer cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReplyError {
    /// It is not the JSON of this contract. (serde's own message may quote what it read.)
    #[error("the answer is not what the contract says (line {line}, column {column})")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// The host refused the whole request.
    #[error("the resolver refused the request: {}", .0.message)]
    Refused(Refusal),
    /// Outcomes are matched by their order, so a count that differs makes all of them worthless.
    #[error("the answer has {received} results for {expected} references")]
    WrongCount {
        /// How many references were asked for.
        expected: usize,
        /// How many outcomes came.
        received: usize,
    },
}

pub(super) fn decode_bytes(text: &Secret) -> Option<Secret> {
    STANDARD.decode(text.expose()).ok().map(Secret::new)
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Shown<'a> {
    Refusal(&'a Refusal),
    Results(Vec<ShownOutcome<'a>>),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ShownOutcome<'a> {
    Failure(&'a Failure),
    Secret {
        value: ShownValue<'a>,
        revision: &'a Revision,
        lifetime: &'a Lifetime,
    },
    Unchanged(&'a Lifetime),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ShownValue<'a> {
    Bytes(#[serde(serialize_with = "as_base64")] &'a Secret),
    Text(&'a str),
}

impl<'a> From<&'a Outcome> for ShownOutcome<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Failure(failure) => Self::Failure(failure),
            Outcome::Secret(secret) => Self::Secret {
                value: ShownValue::from(&secret.value),
                revision: &secret.revision,
                lifetime: &secret.lifetime,
            },
            Outcome::Unchanged(lifetime) => Self::Unchanged(lifetime),
        }
    }
}

impl<'a> From<&'a Value> for ShownValue<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Text(secret) => secret.expose_text().map_or(Self::Bytes(secret), Self::Text),
            Value::Bytes(secret) => Self::Bytes(secret),
        }
    }
}

fn as_base64<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    let text = Zeroizing::new(STANDARD.encode(secret.expose()));
    serializer.serialize_str(&text)
}

/// A growing buffer that wipes the memory it grows out of.
struct WipingWriter(Zeroizing<Vec<u8>>);

impl io::Write for WipingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Vec::with_capacity(needed.max(self.0.capacity() * 2));
            larger.extend_from_slice(&self.0);
            self.0.zeroize();
            *self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FailureKind, RefusalKind, SecretValue};
    use super::*;

    fn outcomes() -> Vec<Outcome> {
        let lifetime = Lifetime {
            fresh_for: 300,
            usable_for: 86_400,
            stale: false,
        };
        let secret = |bytes: &[u8]| {
            Outcome::Secret(SecretValue {
                value: Value::new(Secret::new(bytes.to_vec())),
                revision: Revision("r-1".to_owned()),
                lifetime,
            })
        };
        vec![
            secret("pä\"ss\n".as_bytes()),
            secret(b"\xff\xfe\x00"),
            Outcome::Unchanged(lifetime),
            Outcome::Failure(Failure {
                kind: FailureKind::NotFound,
                retryable: true,
                retry_after: Some(5),
            }),
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = encode_reply(Ok(&outcomes()));
        let read = decode_reply(written.expose(), 4).expect("own answer");
        let again = encode_reply(Ok(&read));
        assert!(written.same_as(again.expose()));
        let Outcome::Secret(first) = &read[0] else {
            panic!("a secret")
        };
        assert_eq!(first.value.secret().expose(), "pä\"ss\n".as_bytes());
        let Outcome::Secret(second) = &read[1] else {
            panic!("a secret")
        };
        assert!(matches!(second.value, Value::Bytes(_)));
        assert_eq!(second.value.secret().expose(), b"\xff\xfe\x00");
    }

    #[test]
    fn a_large_value_survives_the_growing_buffer() {
        let value = "x\u{1}é".repeat(100_000);
        let outcome = Outcome::Secret(SecretValue {
            value: Value::new(value.clone().into()),
            revision: Revision(String::new()),
            lifetime: Lifetime {
                fresh_for: 0,
                usable_for: 0,
                stale: true,
            },
        });
        let written = encode_reply(Ok(&[outcome]));
        let read = decode_reply(written.expose(), 1).expect("own answer");
        let Outcome::Secret(read) = &read[0] else {
            panic!("a secret")
        };
        assert!(read.value.secret().same_as(value.as_bytes()));
    }

    #[test]
    fn debug_of_an_answer_shows_no_value() {
        let shown = format!("{:?}", outcomes());
        assert!(
            shown.contains("redacted") && !shown.contains("ss"),
            "{shown}"
        );
    }

    #[test]
    fn garbage_is_an_error_that_repeats_nothing() {
        let garbage: [&[u8]; 9] = [
            b"",
            b"hunter2",
            b"\xff\xfe",
            b"{}",
            br#"{"results":[{"secret":"hunter2"}]}"#,
            br#"{"results":[{"hunter2":1}]}"#,
            br#"{"results":[{"failure":{"kind":"hunter2","retryable":true}}]}"#,
            br#"{"results":[],"refusal":{"kind":"internal","message":""}}"#,
            br#"{"results":[{"secret":{"value":{"bytes":"hunter2!"},"revision":"","lifetime":{"fresh_for":1,"usable_for":1,"stale":false}}}]}"#,
        ];
        for bytes in garbage {
            let error = decode_reply(bytes, 1).expect_err("garbage");
            let text = format!("{error} {error:?}");
            assert!(matches!(error, ReplyError::Malformed { .. }), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_count_that_differs_is_an_error() {
        let written = encode_reply(Ok(&outcomes()));
        let error = decode_reply(written.expose(), 3)
            .map(|_| ())
            .expect_err("four for three");
        assert_eq!(
            error,
            ReplyError::WrongCount {
                expected: 3,
                received: 4
            }
        );
    }

    #[test]
    fn a_refusal_is_told_apart() {
        let refusal = Refusal {
            kind: RefusalKind::Unauthorized,
            message: "unknown client".to_owned(),
        };
        let written = encode_reply(Err(&refusal));
        let error = decode_reply(written.expose(), 1)
            .map(|_| ())
            .expect_err("a refusal");
        assert_eq!(error, ReplyError::Refused(refusal));
    }
}
