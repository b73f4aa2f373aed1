//! The bytes of a request into what is asked, the same for every way on which they come.

use vaultref_contract::wire::{
    MAX_REFERENCES, MAX_REQUEST_BYTES, Refusal, RefusalKind, ResolveRequest,
};

/// Reads a request.
///
/// # Errors
/// It is too large, not what the contract says, or asks for too much. Repeats nothing of it.
pub(crate) fn decode(bytes: &[u8]) -> Result<ResolveRequest, Refusal> {
    if bytes.len() > MAX_REQUEST_BYTES {
        return Err(too_large());
    }
    let request: ResolveRequest = serde_json::from_slice(bytes)
        .map_err(|_| bad_request("the body is not what the contract says"))?;
    if request.references.len() > MAX_REFERENCES {
        return Err(bad_request(&format!(
            "more than {MAX_REFERENCES} references"
        )));
    }
    if !request.known.is_empty() && request.known.len() != request.references.len() {
        return Err(bad_request(
            "'known' must have one item for each reference, or none at all",
        ));
    }
    let count = request.references.len();
    let is_one = |index: &u32| usize::try_from(*index).is_ok_and(|index| index < count);
    if request.refresh.len() > count || !request.refresh.iter().all(is_one) {
        return Err(bad_request(
            "'refresh' must name references by their places",
        ));
    }
    Ok(request)
}

/// The request is not what the contract says.
pub(crate) fn bad_request(message: &str) -> Refusal {
    Refusal {
        kind: RefusalKind::BadRequest,
        message: message.to_owned(),
    }
}

/// The body is larger than the contract allows.
pub(crate) fn too_large() -> Refusal {
    Refusal {
        kind: RefusalKind::TooLarge,
        message: format!("the body is larger than {MAX_REQUEST_BYTES} bytes"),
    }
}
