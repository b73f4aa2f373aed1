//! Guests written where they are tested: a little WAT around what a test says.

use std::collections::BTreeMap;
use std::time::Duration;

use vaultref_harness::{Gateway, Headers, Module, NginxOptions, Profile};

mod server;

pub(crate) use server::{Trickle, serve};

/// Long enough for any machine; nothing waits that long unless it fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Callbacks: name, number of parameters (`$a`, `$b`, …), and what they return
/// where a test says nothing.
const CALLBACKS: [(&str, usize, Option<i32>); 16] = [
    ("context_create", 2, None),
    ("vm_start", 2, Some(1)),
    ("configure", 2, Some(1)),
    ("tick", 1, None),
    ("request_headers", 3, Some(0)),
    ("request_body", 3, Some(0)),
    ("request_trailers", 2, Some(0)),
    ("response_headers", 3, Some(0)),
    ("response_body", 3, Some(0)),
    ("response_trailers", 2, Some(0)),
    ("done", 1, Some(1)),
    ("log", 1, None),
    ("delete", 1, None),
    ("http_call_response", 5, None),
    ("foreign_function", 3, None),
    ("queue_ready", 2, None),
];

/// Imports: name, and how many parameters there are (all i32, result i32). Together with `proxy_log`,
/// which every guest has, all functions of the ABI that the harness knows.
pub(crate) const IMPORTS: [(&str, usize); 38] = [
    ("proxy_add_header_map_value", 5),
    ("proxy_call_foreign_function", 6),
    ("proxy_close_stream", 1),
    ("proxy_continue_stream", 1),
    ("proxy_define_metric", 4),
    ("proxy_dequeue_shared_queue", 3),
    ("proxy_done", 0),
    ("proxy_enqueue_shared_queue", 3),
    ("proxy_get_buffer_bytes", 5),
    ("proxy_get_buffer_status", 3),
    ("proxy_get_current_time_nanoseconds", 1),
    ("proxy_get_header_map_pairs", 3),
    ("proxy_get_header_map_size", 2),
    ("proxy_get_header_map_value", 5),
    ("proxy_get_log_level", 1),
    ("proxy_get_metric", 2),
    ("proxy_get_property", 4),
    ("proxy_get_shared_data", 5),
    ("proxy_get_status", 3),
    ("proxy_grpc_call", 12),
    ("proxy_grpc_cancel", 1),
    ("proxy_grpc_close", 1),
    ("proxy_grpc_send", 4),
    ("proxy_grpc_stream", 9),
    ("proxy_http_call", 10),
    ("proxy_increment_metric", 2),
    ("proxy_record_metric", 2),
    ("proxy_register_shared_queue", 3),
    ("proxy_remove_header_map_value", 3),
    ("proxy_replace_header_map_value", 5),
    ("proxy_resolve_shared_queue", 5),
    ("proxy_send_local_response", 8),
    ("proxy_set_buffer_bytes", 5),
    ("proxy_set_effective_context", 1),
    ("proxy_set_header_map_pairs", 3),
    ("proxy_set_property", 4),
    ("proxy_set_shared_data", 5),
    ("proxy_set_tick_period_milliseconds", 1),
];

/// A module in the making. The methods that are named as host functions give
/// the WAT of a call; [`Guest::note`] logs its status as `label=number`.
pub(crate) struct Guest {
    data: Vec<u8>,
    callbacks: BTreeMap<&'static str, (String, Option<i32>)>,
    without: Vec<&'static str>,
    more: String,
}

const DATA: usize = 4096;
/// Where [`REMEMBER`] and [`ENTER`], which write the number out, keep which
/// request waits: four bytes a token, up to the heap.
const WAITERS: usize = 65536;

impl Guest {
    pub(crate) fn new() -> Self {
        Self {
            data: Vec::new(),
            callbacks: BTreeMap::new(),
            without: Vec::new(),
            more: String::new(),
        }
    }

    /// Says what a callback does; it returns Continue or true.
    pub(crate) fn on(mut self, name: &'static str, body: impl FnOnce(&mut Self) -> String) -> Self {
        let body = body(&mut self);
        self.callbacks.insert(name, (body, None));
        self
    }

    /// Says what a callback does and what it returns: 1 is Pause or true.
    pub(crate) fn returns(
        mut self,
        name: &'static str,
        value: i32,
        body: impl FnOnce(&mut Self) -> String,
    ) -> Self {
        let body = body(&mut self);
        self.callbacks.insert(name, (body, Some(value)));
        self
    }

    /// Does not export a callback.
    pub(crate) fn without(mut self, name: &'static str) -> Self {
        self.without.push(name);
        self
    }

    /// Further fields of the module.
    pub(crate) fn with(mut self, fields: &str) -> Self {
        self.more.push_str(fields);
        self
    }

    pub(crate) fn compile(self) -> Module {
        let wat = self.wat();
        Module::compile(&wat).unwrap_or_else(|error| panic!("{error}\n{wat}"))
    }

    pub(crate) fn wat(&self) -> String {
        let mut bodies = String::new();
        for (name, count, result) in CALLBACKS {
            if self.without.contains(&name) {
                continue;
            }
            let (body, said) = self.callbacks.get(name).cloned().unwrap_or_default();
            let parameters: String = "abcde"[..count]
                .chars()
                .map(|p| format!(" (param ${p} i32)"))
                .collect();
            let (kind, value) = match result {
                Some(usual) => (
                    "(result i32)",
                    format!("(i32.const {})", said.unwrap_or(usual)),
                ),
                None => ("", String::new()),
            };
            bodies += &format!(
                "(func (export \"proxy_on_{name}\") {parameters} {kind}\n{body}\n{value})\n"
            );
        }
        let used = format!("{bodies}{}", self.more);
        let imports: String = IMPORTS
            .iter()
            .filter(|(name, _)| used.contains(&format!("${name} ")))
            .map(|(name, count)| {
                let mut parameters = " i32".repeat(*count);
                if matches!(*name, "proxy_increment_metric" | "proxy_record_metric") {
                    parameters = " i32 i64".into();
                }
                format!(
                    "(import \"env\" \"{name}\" (func ${name} (param{parameters}) (result i32)))\n"
                )
            })
            .collect();
        assert!(DATA + self.data.len() <= WAITERS, "too much to say");
        let data: String = self
            .data
            .iter()
            .map(|byte| format!("\\{byte:02x}"))
            .collect();
        format!(
            r#"(module
{imports}
(import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
(memory (export "memory") 4)
(global $heap (mut i32) (i32.const 131072))
(global $x (mut i32) (i32.const 0))
(global $y (mut i32) (i32.const 0))
(func (export "proxy_abi_version_0_2_1"))
(func $allocate (export "proxy_on_memory_allocate") (param $n i32) (result i32)
  (local $at i32)
  (local.set $at (global.get $heap))
  (global.set $heap (i32.and (i32.add (i32.add (local.get $at) (local.get $n)) (i32.const 7)) (i32.const -8)))
  (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
    (then (drop (memory.grow (i32.add (i32.div_u (local.get $n) (i32.const 65536)) (i32.const 1))))))
  (local.get $at))
(func $note (param $p i32) (param $n i32) (param $s i32)
  (local $at i32)
  (memory.copy (i32.const 128) (local.get $p) (local.get $n))
  (local.set $at (i32.add (i32.const 128) (local.get $n)))
  (i32.store8 (local.get $at) (i32.const 61))
  (local.set $at (i32.add (local.get $at) (i32.const 1)))
  (if (i32.ge_u (local.get $s) (i32.const 10)) (then
    (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $s) (i32.const 10)) (i32.const 10))))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))))
  (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $s) (i32.const 10))))
  (local.set $at (i32.add (local.get $at) (i32.const 1)))
  (drop (call $proxy_log (i32.const 2) (i32.const 128) (i32.sub (local.get $at) (i32.const 128)))))
(func $show (param $p i32) (param $n i32)
  (local $at i32) (local $size i32)
  (memory.copy (i32.const 128) (local.get $p) (local.get $n))
  (local.set $at (i32.add (i32.const 128) (local.get $n)))
  (i32.store8 (local.get $at) (i32.const 61))
  (local.set $at (i32.add (local.get $at) (i32.const 1)))
  (local.set $size (i32.load (i32.const 20)))
  (if (i32.gt_u (local.get $size) (i32.const 1024)) (then (local.set $size (i32.const 1024))))
  (memory.copy (local.get $at) (i32.load (i32.const 16)) (local.get $size))
  (drop (call $proxy_log (i32.const 2) (i32.const 128)
    (i32.sub (i32.add (local.get $at) (local.get $size)) (i32.const 128)))))
{bodies}
{more}
(data (i32.const {DATA}) "{data}"))"#,
            more = self.more,
        )
    }

    /// Address and size of these bytes, as two arguments.
    pub(crate) fn text(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let at = DATA + self.data.len();
        self.data.extend_from_slice(bytes.as_ref());
        format!("(i32.const {at}) (i32.const {})", bytes.as_ref().len())
    }

    /// Logs `label=` and the number that `value` comes to.
    pub(crate) fn note(&mut self, label: &str, value: impl AsRef<str>) -> String {
        format!("(call $note {} {})\n", self.text(label), value.as_ref())
    }

    /// Logs `label:=status` of a getter, and then `label=` with what it got.
    pub(crate) fn show(&mut self, label: &str, getter: impl AsRef<str>) -> String {
        let status = self.note(&format!("{label}:"), getter);
        format!(
            "(i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const 0))
            {status}(call $show {})\n",
            self.text(label)
        )
    }

    pub(crate) fn header(&mut self, map: u32, key: &str) -> String {
        let key = self.text(key);
        format!(
            "(call $proxy_get_header_map_value (i32.const {map}) {key} (i32.const 16) (i32.const 20))"
        )
    }

    pub(crate) fn replace(&mut self, key: &str, value: &str) -> String {
        let (key, value) = (self.text(key), self.text(value));
        format!("(call $proxy_replace_header_map_value (i32.const 0) {key} {value})")
    }

    pub(crate) fn add(&mut self, key: &str, value: &str) -> String {
        let (key, value) = (self.text(key), self.text(value));
        format!("(call $proxy_add_header_map_value (i32.const 0) {key} {value})")
    }

    pub(crate) fn remove(&mut self, key: &str) -> String {
        let key = self.text(key);
        format!("(call $proxy_remove_header_map_value (i32.const 0) {key})")
    }

    pub(crate) fn http_call(&mut self, upstream: &str) -> String {
        let headers = Headers::from([
            (":method", "GET"),
            (":path", "/v1"),
            (":authority", "resolver"),
        ]);
        self.http_call_with(upstream, &headers, "")
    }

    pub(crate) fn http_call_with(&mut self, upstream: &str, map: &Headers, body: &str) -> String {
        let (upstream, map) = (self.text(upstream), self.text(map.to_wire()));
        let body = self.text(body);
        format!(
            "(call $proxy_http_call {upstream} {map} {body} (i32.const 0) (i32.const 0)
            (i32.const 1000) (i32.const 24))"
        )
    }

    pub(crate) fn local(&mut self, status: u32) -> String {
        let body = self.text("local");
        format!(
            "(call $proxy_send_local_response (i32.const {status}) (i32.const 0) (i32.const 0)
            {body} (i32.const 0) (i32.const 0) (i32.const -1))"
        )
    }

    pub(crate) fn property(&mut self, path: &[&str]) -> String {
        let path = self.text(path.join("\0"));
        format!("(call $proxy_get_property {path} (i32.const 16) (i32.const 20))")
    }

    pub(crate) fn set_property(&mut self, path: &[&str], value: &str) -> String {
        let (path, value) = (self.text(path.join("\0")), self.text(value));
        format!("(call $proxy_set_property {path} {value})")
    }

    pub(crate) fn shared(&mut self, key: &str) -> String {
        let key = self.text(key);
        format!("(call $proxy_get_shared_data {key} (i32.const 16) (i32.const 20) (i32.const 28))")
    }

    pub(crate) fn set_shared(&mut self, key: &str, value: &str, cas: u32) -> String {
        let (key, value) = (self.text(key), self.text(value));
        format!("(call $proxy_set_shared_data {key} {value} (i32.const {cas}))")
    }

    pub(crate) fn foreign(&mut self, name: &str, arguments: &str) -> String {
        let (name, arguments) = (self.text(name), self.text(arguments));
        format!(
            "(call $proxy_call_foreign_function {name} {arguments} (i32.const 16) (i32.const 20))"
        )
    }

    pub(crate) fn set_body(&mut self, length: u32, body: &str) -> String {
        let body = self.text(body);
        format!(
            "(call $proxy_set_buffer_bytes (i32.const 0) (i32.const 0) (i32.const {length}) {body})"
        )
    }
}

/// Reads a buffer.
pub(crate) fn buffer(kind: u32) -> String {
    format!(
        "(call $proxy_get_buffer_bytes (i32.const {kind}) (i32.const 0) (i32.const 65536)
        (i32.const 16) (i32.const 20))"
    )
}

pub(crate) fn tick(milliseconds: u32) -> String {
    format!("(call $proxy_set_tick_period_milliseconds (i32.const {milliseconds}))")
}

/// After a dispatch in a request's callback: keeps its context under the token.
pub(crate) const REMEMBER: &str = "(i32.store offset=65536
    (i32.shl (i32.load (i32.const 24)) (i32.const 2)) (local.get $a))\n";

/// In a call response: enters the context of the request that waits for the
/// token. In Envoy the callback is the root's, which has no request to act on;
/// nginx answers OK and does nothing.
pub(crate) const ENTER: &str = "(call $proxy_set_effective_context \
    (i32.load offset=65536 (i32.shl (local.get $b) (i32.const 2))))";

pub(crate) const RESUME: &str = "(call $proxy_continue_stream (i32.const 0))";

pub(crate) fn nginx() -> Profile {
    Profile::Nginx(NginxOptions::plain())
}

pub(crate) fn kong() -> Profile {
    Profile::Nginx(NginxOptions::kong())
}

/// The text of every log line, for messages of failed assertions.
pub(crate) fn lines(gateway: &Gateway) -> Vec<String> {
    gateway.logs().into_iter().map(|line| line.text).collect()
}

/// Fails, with all that was logged, unless a line is exactly `text`.
#[track_caller]
pub(crate) fn assert_logged(gateway: &Gateway, text: &str) {
    let lines = lines(gateway);
    assert!(
        lines.iter().any(|line| line == text),
        "no line {text:?} in {lines:#?}"
    );
}
