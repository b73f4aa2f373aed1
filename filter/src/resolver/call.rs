//! One call to the resolver: what is sent, and what is believed.
//!
//! One message for both ways, by callout through an upstream of the gateway or by a function of the
//! host. An answer is believed only with the daemon's marker, since gateways make answers of their
//! own.

use vaultref_contract::Secret;
use vaultref_contract::wire::{
    Failure, FailureKind, MARKER_HEADER, MARKER_VALUE, Outcome, RESOLVE_PATH, RefusalKind,
    ReplyError, ResolveRequest, decode_reply,
};

use crate::compile::Resolver;
use crate::config::printable;
use crate::table::{Question, Table};
use crate::{Host, Status};

/// Why there is no answer that can be used.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The daemon does not serve this client.
    CutOff(String),
    /// The call could not be made.
    NotSent(Status),
    /// What came back is not an answer of the daemon.
    Unusable(String),
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSent(status) => write!(f, "the gateway cannot make the call: {status}"),
            Self::CutOff(why) | Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl From<ReplyError> for Unanswered {
    fn from(error: ReplyError) -> Self {
        use RefusalKind::{Forbidden, Unauthorized};
        match &error {
            ReplyError::Refused(refusal) if matches!(refusal.kind, Forbidden | Unauthorized) => {
                Self::CutOff(printable(&error.to_string()))
            }
            _ => Self::Unusable(printable(&error.to_string())),
        }
    }
}

/// What the gateway says about an answer when it hands it over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) headers: usize,
    pub(crate) body: usize,
}

/// Sends a question through an upstream, which waits for vaults for so many milliseconds if that is not
/// longer than the call may take; gives the call's token.
pub(crate) fn dispatch(
    host: &impl Host,
    upstream: &str,
    resolver: &Resolver,
    table: &Table,
    questions: &[Question],
    wait: u32,
) -> Result<u32, Status> {
    // The daemon is to answer while we still listen.
    let longest = resolver.timeout.saturating_sub(resolver.timeout / 5).max(1);
    let body = message(table, questions, wait.min(longest));
    let mut headers: Vec<(&str, &[u8])> = vec![
        (":method", b"POST"),
        (":path", RESOLVE_PATH.as_bytes()),
        (":authority", b"vaultref"),
        ("content-type", b"application/json"),
    ];
    if let Some(authorization) = &resolver.authorization {
        headers.push(("authorization", authorization.expose()));
    }
    host.dispatch(upstream, &headers, &body, resolver.timeout)
}

pub(super) fn denied(count: usize) -> Vec<Outcome> {
    let failure = Failure {
        kind: FailureKind::Denied,
        retryable: true,
        retry_after: None,
    };
    (0..count).map(|_| Outcome::Failure(failure)).collect()
}

/// Reads the answer that is being handed over.
pub(crate) fn read(
    host: &impl Host,
    answer: Answer,
    expected: usize,
) -> Result<Vec<Outcome>, Unanswered> {
    let unusable = |why: &str| Unanswered::Unusable(why.to_owned());
    // Without headers nothing may be asked of them: the call failed or was cut off.
    if answer.headers == 0 {
        return Err(unusable("the call failed"));
    }
    let marker = host.callout_header(MARKER_HEADER).ok().flatten();
    if marker.as_deref() != Some(MARKER_VALUE.as_bytes()) {
        return Err(unusable("the answer is not the daemon's (no marker)"));
    }
    let body = host
        .callout_body(answer.body)
        .map(Secret::new)
        .map_err(|status| Unanswered::Unusable(format!("the answer has no body: {status}")))?;
    if body.len() != answer.body {
        return Err(unusable("the answer is cut short"));
    }
    let status = host.callout_header(":status").ok().flatten();
    let outcomes = decode_reply(body.expose(), expected)?;
    if status.as_deref() != Some(b"200") {
        return Err(unusable("the answer's status is not 200"));
    }
    Ok(outcomes)
}

pub(super) fn message(table: &Table, questions: &[Question], wait_ms: u32) -> Vec<u8> {
    let references = questions.iter().map(|question| {
        let entry = table.get(question.id);
        entry
            .map(|entry| String::from(&*entry.asked.text))
            .unwrap_or_default()
    });
    let request = ResolveRequest {
        references: references.collect(),
        known: questions
            .iter()
            .map(|question| question.known.clone())
            .collect(),
        wait_ms,
        refresh: (0_u32..)
            .zip(questions)
            .filter_map(|(index, question)| question.is_doubted.then_some(index))
            .collect(),
    };
    serde_json::to_vec(&request).unwrap_or_default()
}
