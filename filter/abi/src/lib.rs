//! Proxy-Wasm ABI 0.2.1: the functions of the gateway that our filters use, and no others, since a
//! gateway that lacks one of them does not load the module at all.
//!
//! The only crate with foreign functions, for the module and for filters of other people alike. It
//! turns every status into data, whatever its number, reads nothing as UTF-8, and exports nothing.
//!
//! It takes over the memory in which a gateway hands something over. That is right where
//! `proxy_on_memory_allocate` takes exactly as many bytes as are asked for from Rust's global
//! allocator, and for none of them nothing, as our module does and as the SDK `proxy-wasm` does.

#![cfg(target_family = "wasm")]

use std::ptr::{null, null_mut};

use vaultref_filter::{HeaderPair, Host, Level, MetricKind, Status, decode_pairs, encode_pairs};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        argument: *const u8,
        argument_size: usize,
        result: *mut *mut u8,
        result_size: *mut usize,
    ) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, number: *mut u32) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        result: *mut *mut u8,
        result_size: *mut usize,
    ) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_get_header_map_pairs(map: u32, result: *mut *mut u8, result_size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        result: *mut *mut u8,
        result_size: *mut usize,
    ) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        result: *mut *mut u8,
        result_size: *mut usize,
    ) -> u32;
    fn proxy_get_metric(number: u32, value: *mut u64) -> u32;
    fn proxy_http_call(
        upstream: *const u8,
        upstream_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_increment_metric(number: u32, change: i64) -> u32;
    fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;
    fn proxy_record_metric(number: u32, value: u64) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_set_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
}

const REQUEST_BODY: u32 = 0;
const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
const CALLOUT_HEADERS: u32 = 6;
const CALLOUT_BODY: u32 = 4;
const CONFIGURATION: u32 = 7;
const REQUEST_STREAM: u32 = 0;
const NO_GRPC_STATUS: i32 = -1;

/// The gateway, with what makes its HTTP calls.
#[derive(Clone, Copy, Debug)]
pub struct Abi<C = Direct>(pub C);

/// Makes HTTP calls. The SDK ends the VM when it gets an answer to a call that it knows nothing of, so
/// in a filter that is built with it they have to be made by its own function.
#[allow(clippy::missing_errors_doc)] // each error is the host's status
pub trait Calls {
    /// Starts a call and gives its token. The timeout is in milliseconds.
    fn dispatch(
        &self,
        upstream: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
        timeout: u32,
    ) -> Result<u32, Status>;
}

/// Makes them without anybody's help.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

impl Calls for Direct {
    fn dispatch(
        &self,
        upstream: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
        timeout: u32,
    ) -> Result<u32, Status> {
        let headers = encode_pairs(headers);
        let trailers = encode_pairs(&[]);
        let mut token = 0;
        // SAFETY: see below.
        done(unsafe {
            proxy_http_call(
                upstream.as_ptr(),
                upstream.len(),
                headers.expose().as_ptr(),
                headers.len(),
                body.as_ptr(),
                body.len(),
                trailers.expose().as_ptr(),
                trailers.len(),
                timeout,
                &raw mut token,
            )
        })?;
        Ok(token)
    }
}

// SAFETY, for every call below: pointers and lengths that go out belong to slices that live until
// the call returns, and the gateway only reads them; pointers that come in point to locals of the
// right type. What the gateway gives back is memory that it had from `proxy_on_memory_allocate`
// (see `owned`).
impl<C: Calls> Host for Abi<C> {
    fn log(&self, level: Level, message: &str) {
        // SAFETY: see above. A log line that is lost is no reason to do anything.
        let _ = unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
    }

    fn now(&self) -> u64 {
        let mut time = 0;
        // SAFETY: see above. A clock that fails stands still.
        let _ = unsafe { proxy_get_current_time_nanoseconds(&raw mut time) };
        time
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn configuration(&self, size: usize) -> Result<Vec<u8>, Status> {
        buffer(CONFIGURATION, size)
    }

    fn set_tick_period(&self, milliseconds: u32) -> Result<(), Status> {
        // SAFETY: no pointers.
        done(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
    }

    fn request_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status> {
        header(REQUEST_HEADERS, name)
    }

    fn request_headers(&self) -> Result<Vec<HeaderPair>, Status> {
        pairs(REQUEST_HEADERS)
    }

    fn set_request_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        set_header(REQUEST_HEADERS, name, value)
    }

    fn add_request_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        add_header(REQUEST_HEADERS, name, value)
    }

    fn remove_request_header(&self, name: &str) -> Result<(), Status> {
        // SAFETY: see above.
        let status =
            unsafe { proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) };
        match done(status) {
            Err(Status::NotFound) => Ok(()),
            other => other,
        }
    }

    fn request_body(&self, size: usize) -> Result<Vec<u8>, Status> {
        buffer(REQUEST_BODY, size)
    }

    fn set_request_body(&self, size: usize, body: &[u8]) -> Result<(), Status> {
        // nginx takes no more bytes than the length says, Envoy nothing but all of them.
        let length = size.max(body.len());
        // SAFETY: see above.
        done(unsafe { proxy_set_buffer_bytes(REQUEST_BODY, 0, length, body.as_ptr(), body.len()) })
    }

    fn property(&self, path: &[&str]) -> Result<Vec<u8>, Status> {
        let path = path.join("\0");
        let value = given(|result, size| {
            // SAFETY: see above.
            unsafe { proxy_get_property(path.as_ptr(), path.len(), result, size) }
        })?;
        Ok(value.unwrap_or_default())
    }

    fn set_property(&self, path: &[&str], value: &[u8]) -> Result<(), Status> {
        let path = path.join("\0");
        // SAFETY: see above.
        done(unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) })
    }

    fn dispatch(
        &self,
        upstream: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
        timeout: u32,
    ) -> Result<u32, Status> {
        self.0.dispatch(upstream, headers, body, timeout)
    }

    fn callout_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status> {
        header(CALLOUT_HEADERS, name)
    }

    fn callout_body(&self, size: usize) -> Result<Vec<u8>, Status> {
        buffer(CALLOUT_BODY, size)
    }

    fn call_foreign_function(&self, name: &str, argument: &[u8]) -> Result<Vec<u8>, Status> {
        let value = given(|result, size| {
            // SAFETY: see above.
            unsafe {
                proxy_call_foreign_function(
                    name.as_ptr(),
                    name.len(),
                    argument.as_ptr(),
                    argument.len(),
                    result,
                    size,
                )
            }
        })?;
        Ok(value.unwrap_or_default())
    }

    fn send_local_response(
        &self,
        status: u32,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Result<(), Status> {
        let headers = encode_pairs(headers);
        // SAFETY: see above; there are no details.
        done(unsafe {
            proxy_send_local_response(
                status,
                null(),
                0,
                body.as_ptr(),
                body.len(),
                headers.expose().as_ptr(),
                headers.len(),
                NO_GRPC_STATUS,
            )
        })
    }

    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status> {
        header(RESPONSE_HEADERS, name)
    }

    fn response_headers(&self) -> Result<Vec<HeaderPair>, Status> {
        pairs(RESPONSE_HEADERS)
    }

    fn set_response_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        set_header(RESPONSE_HEADERS, name, value)
    }

    fn add_response_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        add_header(RESPONSE_HEADERS, name, value)
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<u32, Status> {
        let mut number = 0;
        // SAFETY: see above.
        done(unsafe {
            proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut number)
        })?;
        Ok(number)
    }

    fn metric(&self, number: u32) -> Result<u64, Status> {
        let mut value = 0;
        // SAFETY: see above.
        done(unsafe { proxy_get_metric(number, &raw mut value) })?;
        Ok(value)
    }

    fn increment_metric(&self, number: u32, change: i64) -> Result<(), Status> {
        // SAFETY: no pointers.
        done(unsafe { proxy_increment_metric(number, change) })
    }

    fn record_metric(&self, number: u32, value: u64) -> Result<(), Status> {
        // SAFETY: no pointers.
        done(unsafe { proxy_record_metric(number, value) })
    }

    fn resume_request(&self) -> Result<(), Status> {
        // SAFETY: no pointers.
        done(unsafe { proxy_continue_stream(REQUEST_STREAM) })
    }

    fn set_effective_context(&self, context: u32) -> Result<(), Status> {
        // SAFETY: no pointers.
        done(unsafe { proxy_set_effective_context(context) })
    }
}

fn done(status: u32) -> Result<(), Status> {
    Status::from_abi(status).map_or(Ok(()), Err)
}

fn pairs(map: u32) -> Result<Vec<HeaderPair>, Status> {
    let bytes = given(|result, size| {
        // SAFETY: `given` gives valid places for the result.
        unsafe { proxy_get_header_map_pairs(map, result, size) }
    })?;
    decode_pairs(&bytes.unwrap_or_default()).ok_or(Status::InternalFailure)
}

fn set_header(map: u32, name: &str, value: &[u8]) -> Result<(), Status> {
    // SAFETY: name and value live until the call returns.
    done(unsafe {
        proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

fn add_header(map: u32, name: &str, value: &[u8]) -> Result<(), Status> {
    // SAFETY: name and value live until the call returns.
    done(unsafe {
        proxy_add_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

fn header(map: u32, name: &str) -> Result<Option<Vec<u8>>, Status> {
    let value = given(|result, size| {
        // SAFETY: the name lives until the call returns; `given` gives valid places for the result.
        unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), result, size) }
    });
    match value {
        Err(Status::NotFound) => Ok(None),
        // Envoy gives no memory for a value that is empty; the header is there all the same.
        value => value.map(|value| Some(value.unwrap_or_default())),
    }
}

fn buffer(buffer: u32, size: usize) -> Result<Vec<u8>, Status> {
    let value = given(|result, result_size| {
        // SAFETY: `given` gives valid places for the result.
        unsafe { proxy_get_buffer_bytes(buffer, 0, size, result, result_size) }
    })?;
    Ok(value.unwrap_or_default())
}

/// Calls a function that gives bytes back; none if the gateway left the pointer null.
fn given(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Option<Vec<u8>>, Status> {
    let mut data = null_mut();
    let mut size = 0;
    done(call(&raw mut data, &raw mut size))?;
    if data.is_null() {
        return Ok(None);
    }
    if size == 0 {
        return Ok(Some(Vec::new()));
    }
    // SAFETY: the ABI says that what a gateway gives back was allocated by
    // `proxy_on_memory_allocate` for exactly this size, and is ours now.
    Ok(Some(unsafe { Vec::from_raw_parts(data, size, size) }))
}
