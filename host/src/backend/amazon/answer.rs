//! What AWS says when it does not give a secret.
//!
//! Nothing of it is repeated: a code is looked up, all other text is left where it is. The code is
//! taken from where it may stand (a header, JSON, XML) and before the status, since services that
//! speak this protocol do not agree on the latter.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Headers;
use http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use serde_json::Value;

use crate::backend::{ReadError, ReadErrorKind, network};

/// A call that came to nothing.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: ReadError,
    pub(crate) about: About,
    /// AWS itself says so, by a code that is known, and not only a status.
    pub(crate) is_coded: bool,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum About {
    /// Who asks: other credentials may be taken.
    Credentials,
    /// What was asked for, or the server as such.
    Object,
    /// The kind of call: the server has no such call.
    Operation,
}

impl Refusal {
    /// What an error of the SDK means.
    pub(crate) fn of<E: Error + 'static>(who: &str, error: &SdkError<E, HttpResponse>) -> Self {
        match error {
            SdkError::ConstructionFailure(_) => about_object(ReadError::new(
                ReadErrorKind::Unavailable,
                format!("the request to {who} cannot be made"),
            )),
            SdkError::DispatchFailure(_) => about_object(network::unreachable(who, error)),
            SdkError::ResponseError(answer) => Self::answered(who, answer.raw()),
            SdkError::ServiceError(answer) => Self::answered(who, answer.raw()),
            SdkError::TimeoutError(_) => {
                about_object(ReadError::transient(format!("{who} does not answer")))
            }
            _ => about_object(network::unreadable(who)),
        }
    }

    /// What an answer means that is none of success, or cannot be read.
    pub(crate) fn answered(who: &str, answer: &HttpResponse) -> Self {
        let headers = answer.headers();
        let body = answer.body().bytes().unwrap_or_default();
        if answer.status().is_success() {
            return about_object(network::unreadable(who));
        }
        let code = code(headers, body);
        Self::coded(who, answer.status().as_u16(), headers, code.as_deref())
    }

    /// What an error code means that comes alone, for one of several objects.
    pub(crate) fn of_code(who: &str, code: Option<&str>) -> Self {
        Self::coded(who, 400, &Headers::new(), code)
    }

    fn coded(who: &str, status: u16, headers: &Headers, code: Option<&str>) -> Self {
        let known = code.and_then(Meaning::of);
        let mut error = network::status(who, status, &of_waiting(headers));
        let Some(meaning) = known else {
            return about_object(error);
        };
        let (kind, cause) = meaning.words();
        error.kind = kind;
        error.cause = format!("{who} {cause}").into();
        error.transient = matches!(meaning, Meaning::Throttled | Meaning::Unwell);
        Self {
            error,
            about: match meaning {
                Meaning::BadCredentials => About::Credentials,
                Meaning::NoSuchCall => About::Operation,
                _ => About::Object,
            },
            is_coded: true,
        }
    }
}

fn about_object(error: ReadError) -> Refusal {
    Refusal {
        error,
        about: About::Object,
        is_coded: false,
    }
}

#[derive(Clone, Copy)]
enum Meaning {
    BadCredentials,
    BadName,
    Denied,
    Gone,
    Missing,
    NoSuchCall,
    Throttled,
    Undecipherable,
    Unwell,
}

impl Meaning {
    /// The codes of Secrets Manager, of STS, and those that every service of AWS may answer.
    fn of(code: &str) -> Option<Self> {
        Some(match code {
            "AuthFailure"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "InvalidToken"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "RequestExpired"
            | "SignatureDoesNotMatch"
            | "TokenRefreshRequired"
            | "UnrecognizedClientException" => Self::BadCredentials,
            "InvalidParameterException" | "ValidationException" => Self::BadName,
            "AccessDenied"
            | "AccessDeniedException"
            | "NotAuthorized"
            | "OptInRequired"
            | "UnauthorizedOperation" => Self::Denied,
            "InvalidRequestException" => Self::Gone,
            "ResourceNotFoundException" => Self::Missing,
            "InvalidAction"
            | "NotImplemented"
            | "UnknownOperationException"
            | "UnsupportedOperation" => Self::NoSuchCall,
            "BandwidthLimitExceeded"
            | "LimitExceededException"
            | "PriorRequestNotComplete"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "SlowDown"
            | "Throttling"
            | "ThrottledException"
            | "ThrottlingException"
            | "TooManyRequestsException" => Self::Throttled,
            "DecryptionFailure" => Self::Undecipherable,
            "IDPCommunicationError"
            | "InternalError"
            | "InternalFailure"
            | "InternalServerError"
            | "InternalServiceError"
            | "InternalServiceErrorException"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "ServiceUnavailable"
            | "ServiceUnavailableException" => Self::Unwell,
            _ => return None,
        })
    }

    fn words(self) -> (ReadErrorKind, &'static str) {
        use ReadErrorKind as Kind;
        match self {
            Self::BadCredentials => (
                Kind::Denied,
                "refuses the credentials: unknown, expired, or the clocks differ",
            ),
            Self::BadName => (Kind::InvalidName, "takes no such name"),
            Self::Denied => (
                Kind::Denied,
                "denies access: the policies of the identity, the resource or its KMS key do not allow it",
            ),
            Self::Gone => (
                Kind::NotFound,
                "has marked the secret for deletion, or it has no value that could be read",
            ),
            Self::Missing => (
                Kind::NotFound,
                "knows no such secret, or none with a value in this stage",
            ),
            Self::NoSuchCall => (Kind::Unavailable, "has no such call"),
            Self::Throttled => (Kind::Unavailable, "gets too many requests"),
            Self::Undecipherable => (Kind::Denied, "cannot decrypt the secret with its KMS key"),
            Self::Unwell => (Kind::Unavailable, "has a failure of its own"),
        }
    }
}

/// An error's code without the name of its service and without an address.
fn code(headers: &Headers, body: &[u8]) -> Option<String> {
    let code = match headers.get("x-amzn-errortype") {
        Some(code) => code.to_owned(),
        None => json_code(body).or_else(|| xml_code(body))?,
    };
    let code = code.split(':').next().unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default();
    Some(code.trim().to_owned())
}

fn json_code(body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let code = document.get("__type").or_else(|| document.get("code"))?;
    code.as_str().map(str::to_owned)
}

fn xml_code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    Some(code.to_owned())
}

/// The headers that say when to come back.
fn of_waiting(headers: &Headers) -> HeaderMap {
    let mut found = HeaderMap::new();
    for name in [RETRY_AFTER, DATE] {
        copy(headers, &name, &mut found);
    }
    found
}

fn copy(from: &Headers, name: &HeaderName, to: &mut HeaderMap) {
    let value = from.get(name.as_str()).and_then(|text| text.parse().ok());
    if let Some(value) = value {
        to.insert(name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn refusal(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Refusal {
        let mut answer =
            HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body));
        for (name, value) in headers {
            answer.headers_mut().insert(*name, *value);
        }
        Refusal::answered("AWS", &answer)
    }

    #[test]
    fn each_code_has_its_kind_wherever_it_stands() {
        use About::{Credentials, Object, Operation};
        use ReadErrorKind::{Denied, InvalidName, NotFound, Unavailable};
        for (code, kind, about, transient) in [
            ("ResourceNotFoundException", NotFound, Object, false),
            ("InvalidRequestException", NotFound, Object, false),
            ("InvalidParameterException", InvalidName, Object, false),
            ("AccessDeniedException", Denied, Object, false),
            ("DecryptionFailure", Denied, Object, false),
            ("UnrecognizedClientException", Denied, Credentials, false),
            ("ExpiredTokenException", Denied, Credentials, false),
            ("InvalidSignatureException", Denied, Credentials, false),
            ("ThrottlingException", Unavailable, Object, true),
            ("InternalServiceError", Unavailable, Object, true),
            ("UnknownOperationException", Unavailable, Operation, false),
        ] {
            let json = format!(
                "{{\"__type\":\"com.amazonaws.secretsmanager#{code}\",\"message\":\"hunter2\"}}"
            );
            let xml = format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>hunter2</Message></Error></ErrorResponse>"
            );
            for status in [400, 403, 404, 500] {
                for body in [&json, &xml] {
                    let refusal = refusal(status, &[], body);
                    let error = &refusal.error;
                    assert_eq!((error.kind, error.transient), (kind, transient), "{code}");
                    assert_eq!(refusal.about, about, "{code}");
                    assert!(!format!("{refusal:?}").contains("hunter2"), "{refusal:?}");
                }
            }
        }
        let header = [(
            "x-amzn-errortype",
            "AccessDeniedException:http://internal.amazon.com/",
        )];
        assert_eq!(refusal(400, &header, "").error.kind, Denied);
    }

    #[test]
    fn without_a_code_the_status_counts() {
        use ReadErrorKind::{Denied, NotFound, Unavailable};
        for (status, kind, transient) in [
            (400, Unavailable, false),
            (403, Denied, false),
            (404, NotFound, false),
            (429, Unavailable, true),
            (302, Unavailable, false),
            (503, Unavailable, true),
            // An answer that could not be read.
            (200, Unavailable, false),
        ] {
            for body in [
                "",
                "hunter2",
                "{\"__type\":\"Hunter2\"}",
                "<Code>Hunter2</Code>",
                "<Code>",
            ] {
                let error = refusal(status, &[], body).error;
                assert_eq!((error.kind, error.transient), (kind, transient), "{status}");
                assert!(!error.cause.to_lowercase().contains("hunter2"));
            }
        }
    }

    #[test]
    fn who_asks_to_be_left_alone_is() {
        let body = "{\"__type\":\"ThrottlingException\"}";
        for status in [400, 429] {
            let refusal = refusal(status, &[("retry-after", "7")], body);
            assert_eq!(refusal.error.retry_after, Some(Duration::from_secs(7)));
        }
    }
}
