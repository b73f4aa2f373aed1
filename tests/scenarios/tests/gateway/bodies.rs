//! Bodies: which bytes arrive, with which length, and which never do.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vaultref_harness::NginxOptions;
use vaultref_scenarios::client::{Connection, Request};
use vaultref_scenarios::envoy::{Envoy, WasmFilter};
use vaultref_scenarios::upstream::Received;
use vaultref_scenarios::world::{Kind, Plan, World};
use vaultref_scenarios::{paths, wait};

use crate::{in_both_profiles, in_every_gateway};

in_every_gateway!(
    a_body_bomb_ends_at_the_bound,
    a_request_without_a_body_lacks_its_secret,
    fields_of_a_form_are_written,
    fields_of_json_are_written_and_all_else_keeps_its_bytes,
    large_bodies_pass_where_the_rule_says_so,
    rotation_reaches_bodies,
    what_is_not_what_it_says_is_refused,
);

in_both_profiles!(verbs_do_what_they_say);

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A secret that has to be escaped wherever it goes.
const SECRET: &str = "s\"e\\c&r=e+t é";

fn plan(kind: Kind, mut filter: Value) -> Plan {
    // However busy the machine is: what is late here is not what is tested.
    filter["resolver"] = json!({ "timeout_ms": 20_000 });
    Plan::new(kind.with_every_callback(), filter).file("key", SECRET)
}

fn json_rule() -> Value {
    json!({ "request": { "set": {
        "headers": { "x-key": "here" },
        "body": { "/auth/key": "Bearer {vault://files/key}" },
    }}})
}

fn post(kind: &str, body: impl AsRef<[u8]>) -> Request {
    Request::post("/p", body).header("content-type", kind)
}

fn chunked(kind: &str, chunks: &[&str]) -> Request {
    let chunks: Vec<_> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
    Request::new("POST", "/p")
        .header("content-type", kind)
        .chunked(&chunks)
}

/// The body, which has one length and no other.
fn body_of(got: &Received) -> Result<String> {
    let lengths = got.header_values("content-length");
    let is_chunked = got.header("transfer-encoding").is_some();
    let own = got.body.len().to_string();
    match &lengths[..] {
        [] => {}
        [one] => ensure!(*one == own && !is_chunked, "{}", got.dump()),
        _ => anyhow::bail!("{}", got.dump()),
    }
    Ok(String::from_utf8(got.body.clone())?)
}

fn fields_of_json_are_written_and_all_else_keeps_its_bytes(kind: Kind) -> Result<()> {
    let mut world = plan(kind, json_rule()).start()?;
    let written = r#""Bearer s\"e\\c&r=e+t é""#;
    let long = "x".repeat(8_000);
    let sent = format!(
        r#"{{ "n":12345678901234567890.10, "auth":{{"key":"mine","b":[1 ,2]}}, "n":"{long}\u00e9" }}"#
    );
    let expected = sent.replace("\"mine\"", written);
    let (first, rest) = sent.split_at(20);
    let (second, third) = rest.split_at(4_000);
    let table = [
        (post(JSON, &sent), &expected),
        (chunked(JSON, &[first, second, third]), &expected),
        (
            post("application/vnd.x+json; charset=utf-8", &sent),
            &expected,
        ),
    ];
    // The first requests of each worker wait, the others find the values ready.
    for _ in 0..3 {
        for (request, expected) in &table {
            let got = world.send(request)?.upstream()?;
            assert_eq!(&body_of(&got)?, *expected);
            assert_eq!(got.header("x-key").as_deref(), Some("here"));
        }
        let got = world.send(&chunked(JSON, &["{", "}"]))?.upstream()?;
        assert_eq!(body_of(&got)?, format!(r#"{{"auth":{{"key":{written}}}}}"#));
    }
    Ok(())
}

fn fields_of_a_form_are_written(kind: Kind) -> Result<()> {
    let filter = json!({ "request": {
        "set": { "body": { "api key": "{vault://files/key}" } },
        "remove": { "body": ["debug"] },
    }});
    let mut world = plan(kind, filter).start()?;
    let written = "api%20key=s%22e%5Cc%26r%3De%2Bt%20%C3%A9";
    let sent = "a=%41&api+key=mine&debug=1&api%20key=mine2&b";
    for _ in 0..3 {
        for request in [
            post(FORM, sent),
            chunked(FORM, &["a=%41&ap", "i+key=mine&debug=1&api%20key=mine2&b"]),
        ] {
            let got = world.send(&request)?.upstream()?;
            assert_eq!(body_of(&got)?, format!("a=%41&{written}&b"));
        }
    }
    let got = world.send(&post(FORM, "debug"))?.upstream()?;
    assert_eq!(body_of(&got)?, written);
    Ok(())
}

fn verbs_do_what_they_say(kind: Kind) -> Result<()> {
    let filter = json!({ "request": {
        "remove": { "body": ["/gone", "/list/0"] },
        "rename": { "body": { "/old": "/new" } },
        "replace": { "body": { "/there": "{vault://files/key}", "/absent": "{vault://files/key}" } },
        "add": { "body": { "/there2": "{vault://files/key}", "/added": "{vault://files/key}" } },
        "append": { "body": { "/list2": "{vault://files/key}", "/text": "{vault://files/key}", "/none": "{vault://files/key}" } },
        "set": { "body": { "/list/1": "{vault://files/key}" } },
    }});
    let mut world = plan(kind, filter).start()?;
    let sent = json!({ "gone": 1, "list": [1, 2, 3], "old": 2, "new": 3, "there": 4, "there2": 5,
        "list2": [6], "text": 7 });
    for _ in 0..3 {
        let got = world.send(&post(JSON, sent.to_string()))?.upstream()?;
        let body: Value = serde_json::from_str(&body_of(&got)?)?;
        assert_eq!(
            body,
            json!({ "list": [SECRET, 3], "new": 2, "there": SECRET, "there2": 5, "added": SECRET,
                "list2": [6, SECRET], "text": [7, SECRET], "none": [SECRET] })
        );
    }
    Ok(())
}

fn what_is_not_what_it_says_is_refused(kind: Kind) -> Result<()> {
    let mut filter = json_rule();
    filter["on_error"] = json!({ "status": 422 });
    let mut world = plan(kind, filter).start()?;
    let good = r#"{"auth":{"key":"mine"}}"#;
    let twice = post(JSON, good).header("content-type", "text/plain");
    let table = [
        post(JSON, "{\"auth\":{\"key\":\"mine\"}"),
        post(JSON, "\u{feff}{}"),
        post(JSON, b"{\"a\":\"\xff\"}"),
        post(JSON, "key=mine"),
        post(JSON, r#"{"auth":{"key":"mine","\u006bey":"mine"}}"#),
        post(JSON, r#"{"auth":"mine"}"#),
        post(JSON, "[".repeat(1_000)),
        post(JSON, "{}").header("content-encoding", "gzip"),
        post("application/json; charset=utf-16", good),
        post("text/plain", good),
        post(FORM, good),
        Request::post("/p", good),
        chunked(JSON, &["{\"auth\":", "{\"key\":\"mine\"}"]),
        chunked("text/plain", &[good]),
        twice,
    ];
    for _ in 0..2 {
        for request in &table {
            let status = world.send(request)?.local()?.status;
            // nginx itself has no header that a filter would need twice.
            assert!(
                status == 422 || (kind.is_nginx() && status == 400),
                "{status}: {request:?}"
            );
        }
        let got = world.send(&post(JSON, good))?.upstream()?;
        assert!(!body_of(&got)?.contains("mine"));
    }
    Ok(())
}

fn a_request_without_a_body_lacks_its_secret(kind: Kind) -> Result<()> {
    let rule = |path: &str, request: Value| json!({ "match": { "path_prefix": path }, "request": request });
    let filter = json!({ "rules": [
        rule("/set", json!({ "set": { "body": { "/k": "{vault://files/key}" } } })),
        rule("/replace", json!({ "replace": { "body": { "/k": "{vault://files/key}" } } })),
    ]});
    let mut world = plan(kind, filter).start()?;
    for _ in 0..2 {
        for request in [
            Request::get("/set"),
            Request::post("/set", "").header("content-type", JSON),
        ] {
            assert!(world.send(&request)?.has_status(503));
        }
        let got = world.send(&Request::get("/replace"))?.upstream()?;
        assert_eq!(got.body, b"");
        let got = world.send(&Request::post("/replace", ""))?.upstream()?;
        assert_eq!(got.body, b"");
    }
    if !kind.is_nginx() {
        // It says that a body comes, and none does.
        let empty = Request::new("POST", "/set")
            .header("content-type", JSON)
            .chunked(&[]);
        assert!(world.send(&empty)?.has_status(503));
    }
    Ok(())
}

fn a_body_bomb_ends_at_the_bound(kind: Kind) -> Result<()> {
    let mut filter = json_rule();
    filter["body"] = json!({ "max_bytes": 1_000 });
    let mut world = plan(kind, filter).start()?;
    let body = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
    let chunk = "x".repeat(400);
    let mut bomb = vec!["{\"a\":\""];
    bomb.resize(20, &chunk);
    for _ in 0..2 {
        for request in [
            post(JSON, body(1_001)),
            chunked(JSON, &[&body(1_001)]),
            chunked(JSON, &bomb),
        ] {
            let response = world.send(&request)?.local()?;
            assert_eq!(response.status, 413, "{}", response.dump());
            assert!(response.json()?["error"].is_string());
        }
        for request in [post(JSON, body(1_000)), chunked(JSON, &[&body(1_000)])] {
            let got = world.send(&request)?.upstream()?;
            assert!(body_of(&got)?.starts_with("{\"a\":\"xxx"));
        }
    }
    Ok(())
}

fn large_bodies_pass_where_the_rule_says_so(kind: Kind) -> Result<()> {
    let filter = json!({
        "request": {
            "add": { "body": { "/k": "literal" } },
            "set": { "headers": { "x-key": "{vault://files/token}" } },
        },
        "body": { "max_bytes": 20, "on_excess": "pass" },
    });
    let mut world = plan(kind, filter).file("token", "t0ken").start()?;
    let large = r#"{"aaaaaaaaaaaa":"bbbbbbbbbbbbb"}"#;
    for _ in 0..3 {
        for request in [
            post(JSON, large),
            chunked(JSON, &[&large[..18], &large[18..]]),
        ] {
            let got = world.send(&request)?.upstream()?;
            assert_eq!(body_of(&got)?, large);
            assert_eq!(got.header("x-key").as_deref(), Some("t0ken"));
        }
        let got = world.send(&post(JSON, r#"{"a":1}"#))?.upstream()?;
        assert_eq!(body_of(&got)?, r#"{"a":1,"k":"literal"}"#);
    }
    Ok(())
}

fn rotation_reaches_bodies(kind: Kind) -> Result<()> {
    let mut world = plan(kind, json_rule()).file("key", "old-key").start()?;
    let request = post(JSON, "{}");
    let got = world.send(&request)?.upstream()?;
    assert_eq!(body_of(&got)?, r#"{"auth":{"key":"Bearer old-key"}}"#);
    world.write_secret("key", "new-key")?;
    let has_new = |body: &[u8]| body == br#"{"auth":{"key":"Bearer new-key"}}"#;
    world.eventually("the new key in the body", &request, |seen| {
        match seen.clone().upstream() {
            Ok(got) => has_new(&got.body),
            Err(_) => false,
        }
    })?;
    Ok(())
}

#[test]
fn the_file_for_envoy_refuses_bodies_with_the_reason() -> Result<()> {
    for kind in [Kind::HarnessEnvoy, Kind::Envoy] {
        let Err(error) = Plan::new(kind, json_rule()).quiet().start() else {
            anyhow::bail!("{kind:?} took it");
        };
        let text = format!("{error:#}");
        assert!(
            text.contains("/request/set/body/~1auth~1key") && text.contains("use vaultref.wasm"),
            "{kind:?}: {text}"
        );
    }
    Ok(())
}

mod in_nginx {
    use super::*;

    #[test]
    fn a_spooled_body_is_refused() -> Result<()> {
        let options = NginxOptions {
            client_body_buffer_size: 100,
            ..NginxOptions::kong()
        };
        let mut world = plan(Kind::HarnessNginx, json_rule())
            .nginx(options)
            .start()?;
        let body = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        for _ in 0..2 {
            assert!(world.send(&post(JSON, body(101)))?.has_status(413));
            let got = world.send(&post(JSON, body(100)))?.upstream()?;
            assert!(body_of(&got)?.ends_with(r#"é"}}"#));
        }
        assert!(world.log().contains("client_body_buffer_size"));
        Ok(())
    }

    #[test]
    fn kong_that_is_silent_about_a_failed_call_sends_no_body_of_the_clients() -> Result<()> {
        let mut world = plan(Kind::HarnessNginx, json_rule())
            .nginx(NginxOptions::kong_38())
            .without_daemon()
            .start()?;
        let body = r#"{"auth":{"key":"mine"}}"#;
        assert!(world.send(&post(JSON, body))?.has_status(503));
        Ok(())
    }
}

mod in_envoy {
    use super::*;

    const KINDS: [Kind; 2] = [Kind::Envoy, Kind::HarnessEnvoy];

    /// The body comes while the headers are held.
    fn where_bodies_come_early(kind: Kind) -> Result<World> {
        plan(kind, json_rule()).stopping_iteration().start()
    }

    #[test]
    fn held_headers_and_the_body_go_on_together() -> Result<()> {
        for kind in KINDS {
            let mut world = where_bodies_come_early(kind)?;
            for _ in 0..4 {
                for request in [
                    post(JSON, r#"{"auth":{"key":"mine"}}"#),
                    chunked(JSON, &[r#"{"auth":{"#, r#""key":"mine"}}"#]),
                ] {
                    let got = world.send(&request)?.upstream()?;
                    let body: Value = serde_json::from_str(&body_of(&got)?)?;
                    assert_eq!(body["auth"]["key"], format!("Bearer {SECRET}"));
                }
                assert!(
                    world
                        .send(&post(JSON, r#"{"auth":"mine"}"#))?
                        .has_status(503)
                );
                assert!(world.send(&Request::get("/"))?.has_status(503));
            }
        }
        Ok(())
    }

    #[test]
    fn trailers_do_not_let_a_body_slip_through() -> Result<()> {
        let mut world = plan(Kind::Envoy, json_rule())
            .adjust_listener(|listener| {
                let filter = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
                filter["http_protocol_options"] = json!({ "enable_trailers": true });
            })
            .start()?;
        let sent = "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                    transfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                    b\r\n{\"auth\":{}}\r\n0\r\nx-trailer: 1\r\n\r\n";
        for warm in [false, true] {
            if warm {
                world.until_every_vm_has_answers()?;
            }
            let (envoy, upstream) = world.envoy().context("a real Envoy")?;
            let mut connection = Connection::open(&envoy.address().into())?;
            connection.send(sent.as_bytes())?;
            assert_eq!(connection.response()?.status, 503);
            assert!(upstream.requests().is_empty());
        }
        Ok(())
    }

    /// Envoy's headers leave before the body is looked at. The upstream must not take that for a
    /// request.
    #[test]
    fn of_a_body_that_is_refused_the_upstream_gets_not_a_byte() -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                head.extend(byte);
            }
            sender.send(head)?;
            let mut rest = Vec::new();
            // The connection may be reset in place of closed.
            let _ = stream.read_to_end(&mut rest);
            sender.send(rest)?;
            Ok(())
        });
        let mut filter = json_rule();
        filter["request"]["set"]["body"] = json!({ "/auth/key": "literal" });
        filter["resolver"] = json!({ "upstream": "nobody" });
        let wasm = WasmFilter::new(paths::module("vaultref.wasm")?).json(&filter);
        let envoy = Envoy::setup().filter(wasm).upstream(address).start()?;
        let request = post(JSON, r#"{"auth":"mine"}"#);
        let mut connection = Connection::open(&envoy.address().into())?;
        connection.send(&request.head())?;
        let head = String::from_utf8(receiver.recv_timeout(wait::SOON)?)?;
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        connection.send(request.body_bytes())?;
        assert_eq!(connection.response()?.status, 503);
        // Neither a chunk nor the end of the chunks, with which it would be a request.
        assert_eq!(receiver.recv_timeout(wait::SOON)?, b"");
        Ok(())
    }
}
