//! What an operator and an orchestrator ask of the daemon: is it alive, is it ready, read this anew.
//!
//! Nothing here gives out a value; names only `/metrics` does. `flush` is for the daemon's own user and root, on a Unix
//! socket: a flush makes the daemon ask its vaults, which is nobody else's to decide.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use vaultref_contract::wire::{MARKER_HEADER, MARKER_VALUE, Refusal, RefusalKind};

use super::caller::Caller;
use super::http::{Refused, State, bad_request, read, refuse_proxied};
use crate::resolver::Flush;

/// The routes for one connection.
pub(super) fn routes(state: &Arc<State>, caller: &Caller) -> Router {
    let (ready, measured, flushed) = (Arc::clone(state), Arc::clone(state), Arc::clone(state));
    let (measurer, flusher) = (caller.clone(), caller.clone());
    Router::new()
        .route("/healthz", get(async || text(StatusCode::OK, "ok")))
        .route(
            "/readyz",
            get(async move || {
                if ready.is_ready.load(Ordering::Relaxed) {
                    text(StatusCode::OK, "ready")
                } else {
                    text(StatusCode::SERVICE_UNAVAILABLE, "not ready")
                }
            }),
        )
        .route(
            "/metrics",
            get(async move |headers: HeaderMap| {
                match metrics(&measured, &measurer, &headers).await {
                    Ok(text) => prometheus(text),
                    Err(refused) => refused.into_answer(),
                }
            }),
        )
        .route(
            FLUSH_PATH,
            post(move |request: Request| {
                let (state, caller) = (Arc::clone(&flushed), flusher.clone());
                async move {
                    match flush(&state, &caller, request).await {
                        Ok(count) => json(&serde_json::json!({ "flushed": count })),
                        Err(refused) => refused.into_answer(),
                    }
                }
            }),
        )
}

/// Where a flush is asked for.
pub(crate) const FLUSH_PATH: &str = "/v1/flush";

/// The body of a flush; nothing means all.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    reference: Option<String>,
    vault: Option<String>,
}

async fn flush(state: &State, caller: &Caller, request: Request) -> Result<usize, Refused> {
    let (head, body) = request.into_parts();
    refuse_proxied(&head.headers)?;
    if !state.is_operator(caller) {
        return Err(Refused::from(Refusal {
            kind: RefusalKind::Forbidden,
            message: "only the daemon's own user may flush, on its Unix socket".to_owned(),
        }));
    }
    let body = tokio::time::timeout(state.body_timeout, read(&head.headers, body))
        .await
        .map_err(|_| bad_request("the body took too long"))??;
    let wanted: Wanted = match &*body {
        [] => Wanted::default(),
        // serde's own words quote what they could not read.
        body => serde_json::from_slice(body)
            .map_err(|_| bad_request("the body must be an object with 'vault' or 'reference'"))?,
    };
    let what = match (wanted.reference, wanted.vault) {
        (None, None) => Flush::All,
        (None, Some(vault)) => Flush::Vault(vault),
        (Some(reference), None) => Flush::Reference(reference),
        (Some(_), Some(_)) => return Err(bad_request("'vault' or 'reference', not both")),
    };
    let count = state
        .resolver
        .flush(&what)
        .ok_or_else(|| bad_request("there is no such vault, or it is no reference to one"))?;
    tracing::info!(objects = count, "flushed");
    Ok(count)
}

/// For the operator, and for clients that are allowed to see them.
async fn metrics(state: &State, caller: &Caller, headers: &HeaderMap) -> Result<String, Refused> {
    refuse_proxied(headers)?;
    if !state.is_operator(caller) {
        let identified = state.identify(caller, headers).await?;
        if !identified.access.sees_metrics() {
            return Err(Refused::from(Refusal {
                kind: RefusalKind::Forbidden,
                message: "this client may not see metrics".to_owned(),
            }));
        }
    }
    state.resolver.metrics().map_err(|_| {
        Refused::from(Refusal {
            kind: RefusalKind::Internal,
            message: "the metrics could not be written".to_owned(),
        })
    })
}

fn prometheus(text: String) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = header::HeaderValue::from_static(kind);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, kind);
    with_marker((headers, text).into_response())
}

fn text(status: StatusCode, text: &'static str) -> Response {
    with_marker((status, text).into_response())
}

fn json(value: &serde_json::Value) -> Response {
    let mut headers = HeaderMap::new();
    let kind = header::HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, kind);
    with_marker((headers, value.to_string()).into_response())
}

fn with_marker(mut response: Response) -> Response {
    let marker = header::HeaderValue::from_static(MARKER_VALUE);
    response.headers_mut().insert(MARKER_HEADER, marker);
    response
}
