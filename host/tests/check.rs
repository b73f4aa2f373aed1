//! `vaultref check`: what one run tells of files that are as gateways have them.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Place, Told, VALUE};

/// Runs it and gives the exit code and the lines, which hide all values. The log is off, so that what
/// remains is the report.
fn check(place: &Place, arguments: &[&str]) -> (i32, Vec<String>) {
    let mut command = place.command();
    command.env_remove("RUST_LOG").env_remove("VAULTREF_LOG");
    let output = command
        .arg("check")
        .args(arguments)
        .output()
        .expect("started");
    let told = Told::of(&output);
    told.hides_values();
    assert_eq!(told.err, "", "the report is all there is");
    (told.code, told.out.lines().map(str::to_owned).collect())
}

/// The findings as JSON.
fn findings(place: &Place, arguments: &[&str]) -> (i32, Vec<Value>) {
    let (code, lines) = check(place, &[arguments, &["--json"]].concat());
    let report: Value = serde_json::from_str(&lines.concat()).expect("JSON");
    let findings = report["findings"].as_array().expect("a list").clone();
    let faults = findings
        .iter()
        .filter(|finding| finding["verdict"] == "fault");
    assert_eq!(report["summary"]["faults"], faults.count());
    (code, findings)
}

/// Line and column of a text that stands in a file once.
fn place_of(place: &Place, file: &str, needle: &str) -> (u64, u64) {
    let text = fs::read_to_string(place.path().join(file)).expect("read");
    assert_eq!(text.matches(needle).count(), 1, "{needle} in {file}");
    let (before, _) = text.split_once(needle).expect("there");
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().expect("a line").chars().count() + 1;
    (line as u64, column as u64)
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/envoy")
        .join(name);
    fs::read_to_string(path).expect("read")
}

/// Envoy's example, its filter configured by JSON text.
fn envoy_with(configuration: &str) -> String {
    let block = configuration.replace('\n', "\n                            ");
    let text = format!(
        "\"@type\": type.googleapis.com/google.protobuf.StringValue\n                          value: |\n                            {block}\n"
    );
    let bootstrap = example("envoy.yaml");
    let (before, rest) = bootstrap
        .split_once("\"@type\": type.googleapis.com/google.protobuf.Struct")
        .expect("a block");
    let (_, after) = rest
        .split_once("                  # To here")
        .expect("its end");
    format!("{before}{text}                  # To here{after}")
}

#[test]
fn envoys_example_is_fine_and_says_where_its_reference_stands() {
    let place = Place::new();
    place.put("envoy.yaml", example("envoy.yaml"));
    place.put("example.yaml", example("vaultref.yaml"));
    let files = ["envoy.yaml", "example.yaml"];
    let (code, found) = findings(&place, &files);
    let (line, column) = place_of(&place, "envoy.yaml", "{vault://files/token}");
    let pointer = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0\
                   /typed_config/config/configuration/value/request/set/headers/authorization";
    let expected = json!({
        "file": "envoy.yaml", "line": line, "column": column, "pointer": pointer,
        "vault": "files", "reference": "{vault://files/token}", "verdict": "ok",
    });
    assert_eq!((code, found), (0, vec![expected]));
    let (code, lines) = check(&place, &files);
    assert_eq!(
        (code, &*lines),
        (
            0,
            &[
                format!(
                    "envoy.yaml:{line}:{column}: ok: {{vault://files/token}} (vault files) at {pointer}"
                ),
                "references: 1; 1 ok; faults: 0".to_owned(),
            ][..]
        )
    );
    fs::remove_file(place.path().join("secrets/token")).expect("removed");
    let (code, lines) = check(&place, &files);
    assert!(
        code == 3 && lines[0].contains(": not-found: {vault://files/token}"),
        "{lines:#?}"
    );
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
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
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
    let (code, found) = findings(&place, &files);
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
        let (line, column) = place_of(&place, file, needle);
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
    let (code, lines) = check(&place, &files);
    assert_eq!((code, lines.len()), (2, found.len() + 1));
}

#[test]
fn offline_no_vault_is_asked_and_none_need_be_there() {
    let place = faulty();
    let (code, found) = findings(
        &place,
        &["--offline", "filter.json", "envoy.yaml", "kong.yaml"],
    );
    let count = |verdict: &str| {
        found
            .iter()
            .filter(|finding| finding["verdict"] == verdict)
            .count()
    };
    // What only a vault knows is unchecked: two in envoy.yaml, one in kong.yaml, one in filter.json.
    assert_eq!(
        (code, count("unchecked"), count("ok")),
        (2, 4, 0),
        "{found:#?}"
    );
    // (That a link leads out of the vault's directory is seen without reading anything.)
    for kind in ["key-not-found", "not-found", "unavailable", "wrong-type"] {
        assert!(
            !found.iter().any(|finding| finding["kind"] == kind),
            "{found:#?}"
        );
    }
    let yaml = "vaults: [{name: fs, prefix: files, config: {prefix: /nonexistent}}, {name: hcv, config: {token: t, ca_cert: /nonexistent.pem}}]";
    place.put("vaultref.yaml", yaml);
    place.put("a.env", "A={vault://files/x}\nB={vault://hcv/a/b}\n");
    let (code, found) = findings(&place, &["--offline", "a.env", "vaultref.yaml"]);
    assert_eq!(code, 0, "{found:#?}");
    assert_eq!(findings(&place, &["a.env", "vaultref.yaml"]).0, 2);
}

#[test]
fn exit_codes_are_as_documented() {
    let place = faulty();
    place.secret("fine", "x");
    place.put("vaultref.yaml", {
        let yaml = fs::read_to_string(place.path().join("vaultref.yaml")).expect("read");
        let good = yaml.lines().take(3).collect::<Vec<_>>();
        good.join("\n")
    });
    for (text, code) in [
        ("", 0),
        ("A={vault://files/fine}", 0),
        ("A={vault://files/none}", 3),
        ("A={vault://files/out}\nB={vault://files/none}", 4),
        ("A={vault://away/a/b}", 5),
        ("A={vault://away/a/b}\nB={vault://files/none}", 3),
        ("A={vault://files/out}\nB={vault://", 2),
        ("A={vault://nope/x}", 2),
    ] {
        place.put("a.env", text);
        let (found, lines) = check(&place, &["a.env"]);
        assert_eq!(found, code, "{text}: {lines:#?}");
    }
    let (code, lines) = check(&place, &["none.yaml"]);
    assert!(
        code == 2 && lines[0].starts_with("none.yaml: unreadable: "),
        "{lines:#?}"
    );
    let (code, lines) = check(&place, &["a.env", "--config", "none.yaml"]);
    assert!(
        code == 2
            && lines
                .iter()
                .any(|line| line.starts_with("none.yaml: unreadable")),
        "{lines:#?}"
    );
    assert_eq!(place.run(&["check"]).code, 2);
}

#[test]
fn files_of_lines_are_read_as_their_programs_read_them() {
    let place = Place::new();
    place.put(
        "a.env",
        "# {vault://nope/comment}\nA={vault://files/token}\n export B=\"x {vault://files/token} y\"\n",
    );
    place.put(
        "kong.conf",
        "#pg_user = {vault://nope/comment}\npg_password = {vault://files/token}\n\
         ssl_cert = {vault://files/token}, {vault://files/token\\#1}\nproxy_listen = x{vault://files/token} # y\n\
         pg_user = {vault://files/token#1}\n",
    );
    place.put(
        "app.conf.tmpl",
        "password = {vault://files/token}\n\n\u{e9} {{vault://x} {vault://files/none}\n",
    );
    let (code, found) = findings(&place, &["a.env", "kong.conf", "app.conf.tmpl"]);
    let shown: Vec<_> = found
        .iter()
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap_or("ok").to_owned();
            format!(
                "{}:{}:{} {} {}",
                text("file"),
                finding["line"],
                finding["column"],
                text("pointer"),
                text("kind")
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "a.env:2:3 /A ok",
            "a.env:3:14 /B ok",
            "kong.conf:2:15 /pg_password ok",
            "kong.conf:3:12 /ssl_cert ok",
            "kong.conf:3:35 /ssl_cert ok",
            "kong.conf:4:17 /proxy_listen literal",
            "kong.conf:5:11 /pg_user invalid-reference",
            "app.conf.tmpl:1:12  ok",
            "app.conf.tmpl:3:16  not-found",
        ]
    );
    assert_eq!(code, 2);
}

#[test]
fn a_filter_is_found_wherever_a_document_holds_it() {
    let place = Place::new();
    place.put(
        "istio.yaml",
        "apiVersion: v1
kind: ConfigMap
data:
  note: '{vault://files/token}'
---
kind: WasmPlugin
spec:
  url: oci://registry.internal/filter:1
  pluginConfig:
    resolver: { upstream: vaultref }
    request: { set: { headers: { a: '{vault://files/none}', b: \"\" } }, colour: 1 }
---
kind: EnvoyExtensionPolicy
spec:
  wasm:
    - config: '{\"resolver\": {\"upstream\": \"vaultref\"}, \"rules\": [{\"x\": \"{vault://files/token}\"}]}'
",
    );
    let (code, found) = findings(&place, &["istio.yaml"]);
    let shown: Vec<_> = found
        .iter()
        .map(|finding| {
            let kind = finding["kind"].as_str().unwrap_or("ok");
            format!(
                "{} {} {kind}",
                finding["line"],
                finding["pointer"].as_str().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "4 /data/note ok",
            "11 /spec/pluginConfig/request/set/headers/a not-found",
            "11 /spec/pluginConfig/request/colour bad-configuration",
            "16 /spec/wasm/0/config/rules/0/x bad-configuration",
            "16 /spec/wasm/0/config/rules/0/x ok",
        ]
    );
    assert_eq!(code, 2);
}

#[test]
fn a_filter_that_stands_alone_is_for_the_gateway_that_is_named() {
    let place = Place::new();
    let text = r#"{"resolver": {"upstream": "u"}, "request": {"remove": {"headers": ["x"]}}}"#;
    place.put("filter.json", text);
    assert_eq!(check(&place, &["filter.json"]).0, 0);
    assert_eq!(check(&place, &["filter.json", "--gateway", "envoy"]).0, 0);
    let (code, lines) = check(&place, &["filter.json", "--gateway", "kong"]);
    assert!(
        code == 2 && lines[0].contains("/request/remove/headers/0"),
        "{lines:#?}"
    );
}

#[test]
fn the_vaults_are_those_of_the_option_or_of_a_file_or_the_usual_ones() {
    let place = Place::new();
    let secrets = place.path().join("secrets");
    place.put("a.env", "A={vault://mine/token}");
    place.put(
        "own.yaml",
        format!("{{vaults: [{{name: fs, prefix: mine, config: {{prefix: {secrets:?}}}}}]}}"),
    );
    place.put("kong.yaml", format!("_format_version: '3.0'\nvaults: [{{name: fs, prefix: mine, config: {{prefix: {secrets:?}}}}}]"));
    assert_eq!(check(&place, &["a.env"]).0, 2);
    assert_eq!(check(&place, &["a.env", "--config", "own.yaml"]).0, 0);
    assert_eq!(check(&place, &["a.env", "own.yaml"]).0, 0);
    // Kong looks into its own file first; others do if there is nothing else.
    assert_eq!(check(&place, &["a.env", "kong.yaml"]).0, 2);
    place.put(
        "kong2.yaml",
        format!("_format_version: '3.0'\nvaults: [{{name: fs, prefix: mine, config: {{prefix: {secrets:?}}}}}]\ncertificates: [{{cert: '{{vault://mine/token}}', key: '{{vault://files/token}}'}}]"),
    );
    assert_eq!(check(&place, &["kong2.yaml"]).0, 0);
    assert_eq!(
        check(&place, &["a.env", "own.yaml", "--config", "vaultref.yaml"]).0,
        2
    );
    place.put("a.env", "A={vault://files/token}");
    assert_eq!(check(&place, &["a.env"]).0, 0);
    assert_eq!(check(&place, &["a.env", "./own.yaml"]).0, 2);
    // Without any file there are the environment's.
    fs::remove_file(place.path().join("vaultref.yaml")).expect("removed");
    place.put("a.env", "A={vault://mine/token}");
    assert_eq!(check(&place, &["a.env", "kong.yaml"]).0, 0);
    place.put("a.env", "A={vault://env/path}\nB={vault://env/none}");
    assert_eq!(check(&place, &["a.env"]).0, 3);
    let mut command = place.command();
    command
        .env("VAULTREF_ENV_TTL", VALUE)
        .args(["check", "a.env"]);
    let told = Told::of(&command.output().expect("started"));
    told.hides_values();
    assert!(
        told.code == 2
            && told
                .out
                .contains("VAULTREF_ENV_TTL: must be a whole number"),
        "{}",
        told.out
    );
}

#[test]
fn what_is_no_document_is_named_and_not_repeated() {
    let place = Place::new();
    for (name, text, line) in [
        (
            "a.json",
            format!("{{\"token\": \"{VALUE}\",\n \"x\" {VALUE}}}"),
            2,
        ),
        (
            "a.yaml",
            format!("a: 1\ntoken: [{VALUE}\nb: {VALUE}: {VALUE}"),
            2,
        ),
        (
            "b.yaml",
            format!("vaults:\n  - name: fs\n    name: {VALUE}\n"),
            3,
        ),
        (
            "c.yaml",
            format!("resolver: {{upstream: u}}\nrules: {VALUE}\n"),
            2,
        ),
    ] {
        place.put(name, text);
        let (code, found) = findings(&place, &[name]);
        assert_eq!(code, 2);
        let at_line = found
            .iter()
            .filter(|finding| finding["line"].as_u64() >= Some(line));
        assert!(at_line.count() >= 1, "{name}: {found:#?}");
    }
    // Text that is no UTF-8 is no reason to stop.
    place.put(
        "bytes.tmpl",
        b"\xff\xfe {vault://files/token}\n\xff{vault://files/none}",
    );
    let (code, found) = findings(&place, &["bytes.tmpl"]);
    assert_eq!((code, &found[1]["line"]), (3, &json!(2)));
}

#[test]
fn many_references_are_checked_in_one_run() {
    let place = Place::new();
    // Together more than one answer of the daemon may hold.
    let large = "x".repeat(128 * 1024);
    for index in 0..300 {
        place.secret(&format!("large-{index}"), &large);
    }
    let lines: Vec<_> = (0..3000)
        .map(|index| format!("A{index}={{vault://files/large-{}}}", index % 300))
        .collect();
    place.put("a.env", lines.join("\n"));
    let (code, lines) = check(&place, &["a.env"]);
    assert_eq!(code, 0);
    assert_eq!(
        lines.last().map(String::as_str),
        Some("references: 3000; 3000 ok; faults: 0")
    );
}
