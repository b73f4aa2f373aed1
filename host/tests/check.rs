//! `vaultref check`: what one run tells of files that are as gateways have them.

mod support;

use std::fs;
use std::path::Path;

use serde_json::json;
use support::{Place, Told, VALUE};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/envoy")
        .join(name);
    fs::read_to_string(path).expect("read")
}

#[test]
fn envoys_example_is_fine_and_says_where_its_reference_stands() {
    let place = Place::new();
    place.put("envoy.yaml", example("envoy.yaml"));
    place.put("example.yaml", example("vaultref.yaml"));
    let files = ["envoy.yaml", "example.yaml"];
    let (code, found) = place.findings(&files);
    let (line, column) = place.place_of("envoy.yaml", "{vault://files/token}");
    let pointer = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0\
                   /typed_config/config/configuration/value/request/set/headers/authorization";
    let expected = json!({
        "file": "envoy.yaml", "line": line, "column": column, "pointer": pointer,
        "vault": "files", "reference": "{vault://files/token}", "verdict": "ok",
    });
    assert_eq!((code, found), (0, vec![expected]));
    let (code, lines) = place.check(&files);
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
    let (code, lines) = place.check(&files);
    assert!(
        code == 3 && lines[0].contains(": not-found: {vault://files/token}"),
        "{lines:#?}"
    );
}

#[test]
fn what_depends_on_the_request_is_unchecked() {
    let place = Place::new();
    let filter = json!({
        "resolver": { "upstream": "vaultref" },
        "request": { "set": { "headers": { "x": "{vault://files/$(header:x-tenant)/key}" } } },
        "resolve": { "allow": ["files/*"] },
    });
    place.put("filter.json", filter.to_string());
    place.put("vaultref.yaml", {
        let secrets = place.path().join("secrets");
        format!("vaults: [{{name: fs, prefix: files, config: {{prefix: {secrets:?}}}}}]")
    });
    let (code, found) = place.findings(&["filter.json", "vaultref.yaml"]);
    assert_eq!((code, found.len()), (0, 1), "{found:#?}");
    assert_eq!(found[0]["verdict"], "unchecked");
}

#[test]
fn exit_codes_are_as_documented() {
    let place = Place::new();
    let secrets = place.path().join("secrets");
    let port = support::closed_port();
    place.put(
        "vaultref.yaml",
        format!(
            "vaults:
  - {{ name: fs, prefix: files, config: {{ prefix: {secrets:?} }} }}
  - {{ name: hcv, prefix: away, config: {{ port: {port}, token: {VALUE} }} }}
"
        ),
    );
    std::os::unix::fs::symlink("/etc/hostname", secrets.join("out")).expect("linked");
    place.secret("fine", "x");
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
        let (found, lines) = place.check(&["a.env"]);
        assert_eq!(found, code, "{text}: {lines:#?}");
    }
    let (code, lines) = place.check(&["none.yaml"]);
    assert!(
        code == 2 && lines[0].starts_with("none.yaml: unreadable: "),
        "{lines:#?}"
    );
    let (code, lines) = place.check(&["a.env", "--config", "none.yaml"]);
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
    let (code, found) = place.findings(&["a.env", "kong.conf", "app.conf.tmpl"]);
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
    let (code, found) = place.findings(&["istio.yaml"]);
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
    assert_eq!(place.check(&["filter.json"]).0, 0);
    assert_eq!(place.check(&["filter.json", "--gateway", "envoy"]).0, 0);
    let (code, lines) = place.check(&["filter.json", "--gateway", "kong"]);
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
    assert_eq!(place.check(&["a.env"]).0, 2);
    assert_eq!(place.check(&["a.env", "--config", "own.yaml"]).0, 0);
    assert_eq!(place.check(&["a.env", "own.yaml"]).0, 0);
    // Kong looks into its own file first; others do if there is nothing else.
    assert_eq!(place.check(&["a.env", "kong.yaml"]).0, 2);
    place.put(
        "kong2.yaml",
        format!("_format_version: '3.0'\nvaults: [{{name: fs, prefix: mine, config: {{prefix: {secrets:?}}}}}]\ncertificates: [{{cert: '{{vault://mine/token}}', key: '{{vault://files/token}}'}}]"),
    );
    assert_eq!(place.check(&["kong2.yaml"]).0, 0);
    assert_eq!(
        place
            .check(&["a.env", "own.yaml", "--config", "vaultref.yaml"])
            .0,
        2
    );
    place.put("a.env", "A={vault://files/token}");
    assert_eq!(place.check(&["a.env"]).0, 0);
    assert_eq!(place.check(&["a.env", "./own.yaml"]).0, 2);
    // Without any file there are the environment's.
    fs::remove_file(place.path().join("vaultref.yaml")).expect("removed");
    place.put("a.env", "A={vault://mine/token}");
    assert_eq!(place.check(&["a.env", "kong.yaml"]).0, 0);
    place.put("a.env", "A={vault://env/path}\nB={vault://env/none}");
    assert_eq!(place.check(&["a.env"]).0, 3);
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
        let (code, found) = place.findings(&[name]);
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
    let (code, found) = place.findings(&["bytes.tmpl"]);
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
    let (code, lines) = place.check(&["a.env"]);
    assert_eq!(code, 0);
    assert_eq!(
        lines.last().map(String::as_str),
        Some("references: 3000; 3000 ok; faults: 0")
    );
}
