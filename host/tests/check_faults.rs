//! `vaultref check` on files in which everything is wrong that can be: one run names it all.

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{Place, VALUE};

/// Envoy's example, its filter configured by JSON text.
fn envoy_with(configuration: &str) -> String {
    let block = configuration.replace('\n', "\n                            ");
    let text = format!(
        "\"@type\": type.googleapis.com/google.protobuf.StringValue\n                          value: |\n                            {block}\n"
    );
    let bootstrap = {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/envoy/envoy.yaml");
        fs::read_to_string(path).expect("read")
    };
    let (before, rest) = bootstrap
        .split_once("\"@type\": type.googleapis.com/google.protobuf.Struct")
        .expect("a block");
    let (_, after) = rest
        .split_once("                  # To here")
        .expect("its end");
    format!("{before}{text}                  # To here{after}")
}

const FILTER: &str = r#"{ "resolver": { "upstream": "vaultref" },
  "rules": [
    { "matsch": { "path_prefix": "/v1" },
      "request": { "set": { "headers": { "authorization": "Bearer {vault://files\/token}",
                                         "x-one": "é{vault://env/}" } } } },
    { "request": { "set": { "headers": { "x-two": "a {vault://nope/x} b",
                                         "x-three": "{vault://files/token?host=evil}" } },
                   "add": { "headers": { "X-Two": "literal" } } } } ] }
"#;

const IN_ENVOY: &str = r#"{ "resolver": { "upstream": "vaultref", "token_env": "NOT_SEEN" },
  "basic_auth": { "username": "{vault://files/none}",
                  "password": "{vault://files/object/none}" } }"#;

const KONG: &str = r#"_format_version: "3.0"
vaults:
  - name: env
    prefix: kongs-own
    config: { prefix: "A_", ttl: soon }
services:
  - name: one
    url: http://one.internal
    plugins:
      - name: http-log
        config:
          http_endpoint: "https://log.internal/{vault://files/token}"
          headers: { authorization: "{vault://files/object/number}" }
certificates:
  - cert: "{vault://files/out}"
    key: |
      {vault://away/key}
filter_chains:
  - name: chain
    filters:
      - name: vaultref
        config: '{"resolver": {"upstream": "127.0.0.1:8205"}, "request": {"remove": {"headers": ["x-debug"]}}}'
"#;

/// Everything that can be wrong, in files as they are used.
fn faulty() -> Place {
    let place = Place::new();
    let port = support::closed_port();
    let secrets = place.path().join("secrets");
    place.put(
        "vaultref.yaml",
        format!(
            "vaults:
  - {{ name: fs, prefix: files, config: {{ prefix: {secrets:?} }} }}
  - {{ name: hcv, prefix: away, config: {{ port: {port}, token: {VALUE} }} }}
  - {{ name: hcv, prefix: one, config: {{ token: \"{{vault://two/x}}\" }} }}
  - {{ name: hcv, prefix: two, config: {{ token: \"{{vault://one/x}}\" }} }}
  - {{ name: hcv, prefix: wrong, config: {{ token: {VALUE}, colour: {VALUE} }} }}
listen: [ \"tcp://0.0.0.0:1\" ]
"
        ),
    );
    place.secret("object", format!(r#"{{"number": 1, "key": "{VALUE}"}}"#));
    std::os::unix::fs::symlink("/etc/hostname", secrets.join("out")).expect("linked");
    place.put("filter.json", FILTER);
    place.put("envoy.yaml", envoy_with(IN_ENVOY));
    place.put("kong.yaml", KONG);
    place
}

#[test]
fn one_run_names_all_faults_of_all_files_with_their_places() {
    let place = faulty();
    let files = ["filter.json", "envoy.yaml", "kong.yaml", "vaultref.yaml"];
    let (code, found) = place.findings(&files);
    let plugin = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0\
                  /typed_config/config/configuration/value";
    let in_envoy = |pointer: &str| format!("{plugin}{pointer}");
    let table: &[(&str, &str, &str, &str, &str)] = &[
        // The file, what stands at the place, the pointer, the kind and a word of the cause.
        (
            "filter.json",
            "\"matsch\"",
            "/rules/0/matsch",
            "bad-configuration",
            "unknown field",
        ),
        (
            "filter.json",
            "{vault://env/}",
            "/rules/0/request/set/headers/x-one",
            "invalid-reference",
            "(at byte 15)",
        ),
        (
            "filter.json",
            "\"x-two\"",
            "/rules/1/request/set/headers/x-two",
            "bad-configuration",
            "written at",
        ),
        (
            "filter.json",
            "{vault://nope/x}",
            "/rules/1/request/set/headers/x-two",
            "unknown-vault",
            "no vault",
        ),
        (
            "filter.json",
            "{vault://files/token?host=evil}",
            "/rules/1/request/set/headers/x-three",
            "invalid-reference",
            "option is not allowed",
        ),
        (
            "envoy.yaml",
            "\"token_env\"",
            &in_envoy("/resolver/token_env"),
            "bad-configuration",
            "'NOT_SEEN'",
        ),
        (
            "envoy.yaml",
            "{vault://files/none}",
            &in_envoy("/basic_auth/username"),
            "not-found",
            "",
        ),
        (
            "envoy.yaml",
            "{vault://files/object/none}",
            &in_envoy("/basic_auth/password"),
            "key-not-found",
            "",
        ),
        (
            "kong.yaml",
            "ttl: soon",
            "/vaults/0/config/ttl",
            "bad-configuration",
            "whole number",
        ),
        (
            "kong.yaml",
            "{vault://files/token}",
            "/services/0/plugins/0/config/http_endpoint",
            "literal",
            "as it is written",
        ),
        (
            "kong.yaml",
            "{vault://files/object/number}",
            "/services/0/plugins/0/config/headers/authorization",
            "wrong-type",
            "",
        ),
        (
            "kong.yaml",
            "{vault://files/out}",
            "/certificates/0/cert",
            "denied",
            "leads out",
        ),
        (
            "kong.yaml",
            "{vault://away/key}",
            "/certificates/0/key",
            "literal",
            "",
        ),
        (
            "kong.yaml",
            "\"x-debug\"",
            "/filter_chains/0/filters/0/config/request/remove/headers/0",
            "bad-configuration",
            "nginx",
        ),
        (
            "vaultref.yaml",
            "{ name: hcv, prefix: one",
            "/vaults/2",
            "bad-configuration",
            "one -> two -> one",
        ),
        (
            "vaultref.yaml",
            "{vault://two/x}",
            "/vaults/2/config/token",
            "bad-configuration",
            "has a fault",
        ),
        (
            "vaultref.yaml",
            "{vault://one/x}",
            "/vaults/3/config/token",
            "bad-configuration",
            "has a fault",
        ),
        (
            "vaultref.yaml",
            "colour",
            "/vaults/4/config/colour",
            "bad-configuration",
            "unknown field",
        ),
        (
            "vaultref.yaml",
            "\"tcp://0.0.0.0:1\"",
            "/listen/0",
            "bad-configuration",
            "loopback",
        ),
    ];
    let faults: Vec<_> = found
        .iter()
        .filter(|finding| finding["verdict"] == "fault")
        .collect();
    for (file, needle, pointer, kind, word) in table {
        let (line, column) = place.place_of(file, needle);
        let is_it = |fault: &&&Value| {
            fault["file"] == *file
                && fault["pointer"] == *pointer
                && fault["kind"] == *kind
                && fault["line"] == line
                && fault["column"] == column
                && fault["cause"]
                    .as_str()
                    .is_some_and(|cause| cause.contains(word))
        };
        let hits = faults.iter().filter(is_it).count();
        assert_eq!(
            hits, 1,
            "{file}:{line}:{column} {pointer} {kind} in {faults:#?}"
        );
    }
    assert_eq!(faults.len(), table.len(), "{faults:#?}");
    assert_eq!(code, 2);
    // The references that are fine are told too, with the escape of Kong's own writer in one.
    let fine: Vec<_> = found
        .iter()
        .filter(|finding| finding["verdict"] == "ok")
        .collect();
    assert_eq!(fine.len(), 1, "{found:#?}");
    assert_eq!(
        fine[0]["pointer"],
        "/rules/0/request/set/headers/authorization"
    );
    assert_eq!(fine[0]["line"], 4);
    // The same in words.
    let (code, lines) = place.check(&files);
    assert_eq!((code, lines.len()), (2, found.len() + 1));
}

#[test]
fn offline_no_vault_is_asked_and_none_need_be_there() {
    let place = faulty();
    let (code, found) = place.findings(&["--offline", "filter.json", "envoy.yaml", "kong.yaml"]);
    let count = |verdict: &str| {
        found
            .iter()
            .filter(|finding| finding["verdict"] == verdict)
            .count()
    };
    // What only a vault knows is unchecked: two in envoy.yaml, two in kong.yaml, one in filter.json.
    assert_eq!(
        (code, count("unchecked"), count("ok")),
        (2, 5, 0),
        "{found:#?}"
    );
    for kind in [
        "denied",
        "key-not-found",
        "not-found",
        "unavailable",
        "wrong-type",
    ] {
        assert!(
            !found.iter().any(|finding| finding["kind"] == kind),
            "{found:#?}"
        );
    }
    let yaml = "vaults: [{name: fs, prefix: files, config: {prefix: /nonexistent}}, {name: hcv, config: {token: t, ca_cert: /nonexistent.pem}}]";
    place.put("vaultref.yaml", yaml);
    place.put("a.env", "A={vault://files/x}\nB={vault://hcv/a/b}\n");
    let (code, found) = place.findings(&["--offline", "a.env", "vaultref.yaml"]);
    assert_eq!(code, 0, "{found:#?}");
    assert_eq!(place.findings(&["a.env", "vaultref.yaml"]).0, 2);
}

/// Where control planes and nginx have the filter's configuration, and what they pass on to it.
#[test]
fn the_filter_is_found_in_objects_of_kubernetes_and_in_nginx_conf() {
    let place = Place::new();
    place.put("vaultref.yaml", "vaults: [{name: env}]");
    place.put(
        "istio.yaml",
        "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
spec:
  url: oci://registry.internal/vaultref-envoy:1
  vmConfig: { env: [{ name: SEEN, valueFrom: HOST }] }
  pluginConfig:
    resolver: { upstream: u, token_env: NOT_SEEN_A }
    request: { set: { headers: { host: x } } }
---
kind: WasmPlugin
spec: { url: 'oci://registry.internal/other:1', pluginConfig: { request: 1 } }
",
    );
    place.put(
        "gateway.yaml",
        "kind: EnvoyExtensionPolicy
spec:
  wasm:
    - name: vaultref
      code: { type: Image, image: { url: registry.internal/filter } }
      env: { hostKeys: [SEEN] }
      config: { resolver: { upstream: u, token_env: NOT_SEEN_B }, reqest: {} , request: {} }
    - name: small
      code: { type: HTTP, http: { url: 'https://files.internal/vaultref-envoy.wasm' } }
      config: { resolver: { upstream: u }, request: { set: { body: { small: x } } } }
    - name: whole
      code: { type: HTTP, http: { url: 'https://files.internal/vaultref.wasm' } }
      config: { resolver: { upstream: u }, request: { set: { body: { key: x } } } }
    - name: other
      code: { type: Image, image: { url: registry.internal/other } }
      config: { unknown: {} }
",
    );
    place.put(
        "nginx.conf",
        r#"env SEEN;
# proxy_wasm vaultref '{ "unknown": 1 }';
http {
    proxy_set_header x "{vault://env/outside}";
    proxy_wasm vaultref '{ "resolver": { "upstream": "http://u", "token_env": "SEEN" },
                           "request": { "remove": { "headers": ["x-gone"] } } }';
    proxy_wasm other '{ "unknown": 2 }';
}
"#,
    );
    let files = ["istio.yaml", "gateway.yaml", "nginx.conf"];
    let (code, found) = place.findings(&[&["--offline"][..], &files].concat());
    let table = [
        (
            "istio.yaml",
            "NOT_SEEN_A",
            "/spec/pluginConfig/resolver/token_env",
        ),
        (
            "istio.yaml",
            "host: x",
            "/spec/pluginConfig/request/set/headers/host",
        ),
        (
            "gateway.yaml",
            "NOT_SEEN_B",
            "/spec/wasm/0/config/resolver/token_env",
        ),
        ("gateway.yaml", "reqest", "/spec/wasm/0/config/reqest"),
        (
            "gateway.yaml",
            "small: x",
            "/spec/wasm/1/config/request/set/body/small",
        ),
        ("nginx.conf", "{vault://env/outside}", ""),
        ("nginx.conf", "\"http://u\"", "/resolver/upstream"),
        ("nginx.conf", "\"x-gone\"", "/request/remove/headers/0"),
    ];
    for (file, needle, pointer) in table {
        let (line, column) = place.place_of(file, needle);
        let is_it = |finding: &&Value| {
            finding["verdict"] == "fault"
                && finding["file"] == file
                && finding["pointer"] == pointer
                && finding["line"] == line
        };
        let hits = found.iter().filter(is_it).count();
        assert_eq!(hits, 1, "{file}:{line}:{column} {pointer} in {found:#?}");
    }
    assert_eq!((code, found.len()), (2, table.len()), "{found:#?}");
    let long = format!(
        "proxy_wasm vaultref '{{ \"resolver\": {{ \"upstream\": \"u:1\" }}, \"rules\": [{}] }}';",
        " ".repeat(4096)
    );
    place.put("nginx.conf", long);
    let (code, found) = place.findings(&["--offline", "nginx.conf"]);
    assert_eq!((code, found.len()), (2, 1), "{found:#?}");
    assert!(
        found[0]["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("4,095"))
    );
}
