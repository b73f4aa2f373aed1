//! The HTTP form of the contract: `POST /v1/resolve`.
//!
//! Every answer carries the marker header, so that a gateway's own 502 or 503 is never taken for
//! one. A refusal says what is wrong with the request and repeats nothing of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use axum::routing::post;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HeaderMap, VIA,
};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use vaultref_contract::Secret;
use vaultref_contract::wire::{
    MARKER_HEADER, MARKER_VALUE, MAX_REQUEST_BYTES, Outcome, RESOLVE_PATH, Refusal, RefusalKind,
    encode_reply,
};

use super::auth::{Guard, Identified};
use super::caller::Caller;
use super::control;
use crate::request;
use crate::resolver::Resolver;

/// How much of a body that is too large is read and thrown away, so that the client, which sends
/// first and reads then, gets to see why.
const MAX_DISCARDED: usize = 4 * MAX_REQUEST_BYTES;

/// What all connections share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) guard: Guard,
    pub(super) resolver: Resolver,
    pub(super) body_timeout: Duration,
    pub(super) is_ready: AtomicBool,
}

impl State {
    /// Whose call it is. Until the next call the connection is that client's, or nobody's.
    pub(super) async fn identify(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Result<Identified, Refused> {
        let identified = match token(headers) {
            Ok(token) => self.guard.identify(caller.origin, token).await,
            Err(refusal) => Err(refusal),
        };
        caller.note(identified.is_ok());
        identified.map_err(Refused::from)
    }

    /// Whether the call comes from the user that the daemon runs as, or from root.
    pub(super) fn is_operator(&self, caller: &Caller) -> bool {
        let is_operator = self.guard.is_operator(caller.origin);
        if is_operator {
            caller.note(true);
        }
        is_operator
    }
}

/// The routes for one connection.
pub(super) fn router(state: Arc<State>, caller: &Caller) -> Router {
    let controls = control::routes(&state, caller);
    let caller = caller.clone();
    let resolve = move |request: Request| {
        let (state, caller) = (Arc::clone(&state), caller.clone());
        async move {
            match resolve(&state, &caller, request).await {
                Ok(outcomes) => answer(StatusCode::OK, encode_reply(Ok(&outcomes))),
                Err(refused) => refused.into_answer(),
            }
        }
    };
    Router::new()
        .route(
            RESOLVE_PATH,
            post(resolve).fallback(async || {
                let refused = bad_request("the method must be POST");
                refused.with(StatusCode::METHOD_NOT_ALLOWED).into_answer()
            }),
        )
        .merge(controls)
        .fallback(async || {
            let refused = bad_request("there is nothing at this path");
            refused.with(StatusCode::NOT_FOUND).into_answer()
        })
}

async fn resolve(
    state: &State,
    caller: &Caller,
    request: Request,
) -> Result<Vec<Outcome>, Refused> {
    let (head, body) = request.into_parts();
    refuse_proxied(&head.headers)?;
    // Before its body is read: that of a stranger is not.
    let mut identified = state.identify(caller, &head.headers).await?;
    let body = tokio::time::timeout(state.body_timeout, read(&head.headers, body))
        .await
        .map_err(|_| bad_request("the body took too long"))??;
    let request = request::decode(&body)?;
    if !state.guard.holds(&identified) {
        // The body was long in coming, and the configuration is another.
        identified = state.identify(caller, &head.headers).await?;
    }
    let (access, vaults) = (&identified.access, identified.vaults());
    tracing::debug!(
        client = access.name(),
        references = request.references.len(),
        "resolve"
    );
    Ok(state.resolver.resolve_of(vaults, access, &request).await)
}

/// A gateway's own callout carries none of these; a route that leads here does.
pub(super) fn refuse_proxied(headers: &HeaderMap) -> Result<(), Refused> {
    let proxied = headers.contains_key("x-forwarded-for")
        || headers.contains_key(FORWARDED)
        || headers.contains_key(VIA);
    if !proxied {
        return Ok(());
    }
    Err(Refused::from(Refusal {
        kind: RefusalKind::Forbidden,
        message: "the call came through a proxy".to_owned(),
    }))
}

fn token(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let refused = |message: &str| Refusal {
        kind: RefusalKind::Unauthorized,
        message: message.to_owned(),
    };
    let (Some(first), rest) = (given.next(), given.next()) else {
        return Ok(None);
    };
    if rest.is_some() {
        return Err(refused("more than one 'authorization' header"));
    }
    match first.as_bytes().split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(Some(token)),
        _ => Err(refused("'authorization' must be 'Bearer' and a token")),
    }
}

pub(super) async fn read(headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>, Refused> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_REQUEST_BYTES) && headers.contains_key(EXPECT) {
        return Err(request::too_large().into());
    }
    let room = announced.unwrap_or_default().min(MAX_REQUEST_BYTES);
    let mut bytes = Vec::with_capacity(room);
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| bad_request("the body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen += data.len();
        if seen > MAX_DISCARDED {
            break;
        }
        if seen > MAX_REQUEST_BYTES {
            bytes = Vec::new();
        } else {
            bytes.extend_from_slice(&data);
        }
    }
    if seen > MAX_REQUEST_BYTES {
        return Err(request::too_large().into());
    }
    Ok(bytes)
}

/// A request that is not answered.
pub(super) struct Refused {
    status: StatusCode,
    refusal: Refusal,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::BadRequest => StatusCode::BAD_REQUEST,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            RefusalKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalKind::Unauthorized => StatusCode::UNAUTHORIZED,
        };
        Self { status, refusal }
    }
}

impl Refused {
    fn with(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn into_answer(self) -> Response {
        tracing::info!(
            status = self.status.as_u16(),
            cause = self.refusal.message,
            "refused"
        );
        answer(self.status, encode_reply(Err(&self.refusal)))
    }
}

pub(super) fn bad_request(message: &str) -> Refused {
    request::bad_request(message).into()
}

/// The bytes go to the socket from the secret itself, which is wiped when they are sent.
struct Wiped(Secret);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

fn answer(status: StatusCode, body: Secret) -> Response {
    // An answer that could not be written is empty, which no answer is.
    let (status, body) = if body.is_empty() {
        let refusal = Refusal {
            kind: RefusalKind::Internal,
            message: "the answer could not be written".to_owned(),
        };
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            encode_reply(Err(&refusal)),
        )
    } else {
        (status, body)
    };
    let mut response = Response::new(Body::from(Bytes::from_owner(Wiped(body))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(MARKER_HEADER, HeaderValue::from_static(MARKER_VALUE));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
