//! What a configuration may look like, and that every error names its place.

use prost::Message as _;
use serde_json::json;

use super::Config;
use crate::testing::Gateway;

/// Configures a gateway and gives the error that it logs.
fn error_of(mut gateway: Gateway, text: &str) -> String {
    *gateway.host.configuration.borrow_mut() = text.as_bytes().to_vec();
    gateway.vm.on_configure(1, text.len());
    let logs = gateway.logs();
    let error = logs.iter().find(|line| line.starts_with("Error"));
    error.unwrap_or_else(|| panic!("accepted: {text}")).clone()
}

#[test]
fn every_error_names_the_place_and_the_cause() {
    let table: &[(&str, &[&str])] = &[
        ("", &["configuration: there is no configuration"]),
        (" \n", &["there is no configuration"]),
        ("text", &["neither a JSON object nor a protobuf Struct"]),
        ("[]", &["neither a JSON object nor a protobuf Struct"]),
        ("{", &["EOF", "line 1"]),
        (
            r#"{"resolver":{"upstream":"u"},"request":{}} x"#,
            &["trailing"],
        ),
        (r#"{"request":{}}"#, &["missing field `resolver`"]),
        (
            r#"{"resolver":{},"request":{}}"#,
            &["/resolver: ", "exactly one"],
        ),
        (
            r#"{"resolver":{"upstream":"u","host_function":true},"request":{}}"#,
            &["/resolver: ", "exactly one"],
        ),
        (
            r#"{"resolver":{"host_function":false},"request":{}}"#,
            &["/resolver: ", "exactly one"],
        ),
        (
            r#"{"resolver":{"upstream":""},"request":{}}"#,
            &["/resolver/upstream: "],
        ),
        (
            r#"{"resolver":{"upstream":"u","timeout_ms":0},"request":{}}"#,
            &["/resolver/timeout_ms: ", "60000"],
        ),
        (
            r#"{"resolver":{"upstream":"u","timeout_ms":60001},"request":{}}"#,
            &["/resolver/timeout_ms: "],
        ),
        (
            r#"{"resolver":{"upstream":"u","timeout_ms":"1s"},"request":{}}"#,
            &[
                "/resolver/timeout_ms: ",
                "a number is expected here, not a text",
            ],
        ),
        (
            r#"{"resolver":{"upstream":"u","token_env":"NOPE"},"request":{}}"#,
            &["/resolver/token_env: ", "'NOPE'"],
        ),
        (
            r#"{"resolver":{"upstream":"u","token_env":""},"request":{}}"#,
            &["/resolver/token_env: "],
        ),
        (
            r#"{"resolver":{"host_function":true,"token_env":"X"},"request":{}}"#,
            &["/resolver/token_env: ", "takes no token"],
        ),
        (
            r#"{"resolver":{"upstream":"u","retries":1},"request":{}}"#,
            &["/resolver/retries: ", "unknown field"],
        ),
        (r#"{"resolver":{"upstream":"u"}}"#, &["nothing to do"]),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[],"request":{}}"#,
            &["one rule for everything"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[],"on_error":{}}"#,
            &["one rule for everything"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{},{"matsch":{}}]}"#,
            &["/rules/1/matsch: ", "unknown field"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":{"a":1}}"#,
            &["/rules", "a list is expected"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"set":{"headers":["a"]}}}"#,
            &["/request/set/headers", "an object is expected"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"set":{"headers":{"a/b":"x"}}}}"#,
            &["/request/set/headers/a~1b: ", "not a header's name"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"set":{"headers":{"a":"x","a":"y"}}}}"#,
            &["/request/set/headers", "'a' stands here twice"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{},"request":{}}"#,
            &["'request' stands here twice"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"set":{"headers":{"a":"{vault://env/a"}}}}"#,
            &["/request/set/headers/a: ", "(at byte 0)"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"request":{"add":{"querystring":{"k":"ab{vault://env/}"}}}}]}"#,
            &["/rules/0/request/add/querystring/k: ", "(at byte 15)"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"basic_auth":{"username":"{vault:\/\/x}","password":"p"}}"#,
            &["/basic_auth/username: ", "(at byte"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"basic_auth":{"username":"a:b","password":"p"}}"#,
            &["/basic_auth/username: ", "':'"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"basic_auth":{"username":"a","password":"p\u0000"}}"#,
            &["/basic_auth/password: ", "control"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"basic_auth":{"username":"a"}}"#,
            &["/basic_auth: ", "password"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"basic_auth":{"username":"a","password":"b"},"request":{"set":{"headers":{"Authorization":"x"}}}}"#,
            &[
                "/basic_auth: ",
                "'authorization'",
                "/request/set/headers/Authorization",
            ],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"set":{"headers":{"X":"1"}},"add":{"headers":{"x":"2"}}}}"#,
            &["/request/set/headers/X: ", "/request/add/headers/x"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"remove":{"headers":["x"]},"append":{"headers":{"x":"2"}}}}"#,
            &["/request/append/headers/x: ", "/request/remove/headers/0"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"rename":{"headers":{"a":"b"}},"replace":{"headers":{"b":"2"}}}}"#,
            &["/request/replace/headers/b: ", "/request/rename/headers/a"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"rename":{"querystring":{"a":"a"}}}}"#,
            &["/request/rename/querystring/a: ", "written at"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"set":{"querystring":{"":"a"}}}}"#,
            &["/request/set/querystring/: ", "no name"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"set":{"headers":{":path":"a"}}}}"#,
            &["/request/set/headers/:path: ", "pseudo"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"set":{"headers":{"Host":"a"}}}}"#,
            &["/request/set/headers/Host: ", "'host'"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"remove":{"headers":["Content-Length"]}}}"#,
            &["/request/remove/headers/0: ", "content-length"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"rename":{"headers":{"a":"TE"}}}}"#,
            &["/request/rename/headers/a: ", "'te'"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{"set":{"headers":{"a":"x\ny"}}}}"#,
            &["/request/set/headers/a: ", "control"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"resolve":{"body":["/k",1]}}]}"#,
            &["/rules/0/resolve/body/1: ", "text"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"refresh_on_status":[401,200]}]}"#,
            &["/rules/0/refresh_on_status/1: ", "400 to 599"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"refresh_on_status":["401"]}]}"#,
            &["/rules/0/refresh_on_status/0: ", "a number is expected"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[],"refresh_on_status":[401]}"#,
            &["one rule for everything"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{},"response":{"redact":true}}"#,
            &["/response/redact: ", "unknown field"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{},"on_error":{"status":399}}"#,
            &["/on_error/status: ", "400 to 599"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{},"on_error":{"status":600}}"#,
            &["/on_error/status: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"on_error":{"status":500,"default":"x"}}]}"#,
            &["/rules/0/on_error: ", "only one"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{},"on_error":{"default":"{vault://env/a}"}}"#,
            &["/on_error/default: ", "literal"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{},"on_error":{"default":"a\u007f"}}"#,
            &["/on_error/default: ", "control"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"path_prefix":"v1"}}]}"#,
            &["/rules/0/match/path_prefix: ", "begin with '/'"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"path_prefix":"/a?b"}}]}"#,
            &["/rules/0/match/path_prefix: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"path_prefix":"/a/../b"}}]}"#,
            &["/rules/0/match/path_prefix: ", "ambiguous"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"host":["a:80"]}}]}"#,
            &["/rules/0/match/host/0: ", "port"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"host":[""]}}]}"#,
            &["/rules/0/match/host/0: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"host":["*"]}}]}"#,
            &["/rules/0/match/host/0: ", "'*.'"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"host":["a","*."]}}]}"#,
            &["/rules/0/match/host/1: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"host":["*.*.com"]}}]}"#,
            &["/rules/0/match/host/0: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"host":["*a.com"]}}]}"#,
            &["/rules/0/match/host/0: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"host":["*..com"]}}]}"#,
            &["/rules/0/match/host/0: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"path":"/a/./b"}}]}"#,
            &["/rules/0/match/path: ", "ambiguous"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"path_regex":"/a("}}]}"#,
            &["/rules/0/match/path_regex: ", "cannot be used", "group"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"path_regex":"/a)|(/b"}}]}"#,
            &["/rules/0/match/path_regex: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"path_regex":"(?x) /a # all"}}]}"#,
            &["/rules/0/match/path_regex: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"path_regex":"/a{1000}{1000}"}}]}"#,
            &["/rules/0/match/path_regex: ", "size"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"path_regex":""}}]}"#,
            &["/rules/0/match/path_regex: ", "512"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"querystring":{"":"x"}}}]}"#,
            &["/rules/0/match/querystring/: ", "no name"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"properties":{"xds..x":"x"}}}]}"#,
            &["/rules/0/match/properties/xds..x: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"properties":{"xds.route_name":""}}}]}"#,
            &["/rules/0/match/properties/xds.route_name: ", "absent"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"properties":{"request.headers.x":"x"}}}]}"#,
            &["/rules/0/match/properties/request.headers.x: ", "client"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"properties":{"kong.route_name":"x"}}}]}"#,
            &["/rules/0/match/properties/kong.route_name: ", "Envoy"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{},"on_error":{"body":"{vault://env/a}"}}"#,
            &["/on_error/body: ", "literal"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{},"on_error":{"body":"a\u0000"}}"#,
            &["/on_error/body: ", "control"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"request":{},"on_error":{"body":"a","default":"b"}}"#,
            &["/on_error: ", "only one"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"methods":["post"]}}]}"#,
            &["/rules/0/match/methods/0: ", "capitals"],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"headers":{"x y":"1"}}}]}"#,
            &["/rules/0/match/headers/x y: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"headers":{"Host":"1"}}}]}"#,
            &["/rules/0/match/headers/Host: "],
        ),
        (
            r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"headers":{"X":"1","x":"2"}}}]}"#,
            &["/rules/0/match/headers/", "twice"],
        ),
    ];
    for (text, expected) in table {
        let error = error_of(Gateway::envoy(), text);
        for part in *expected {
            assert!(
                error.contains(part),
                "{text}\n gives: {error}\n wants: {part}"
            );
        }
    }
}

#[test]
fn fields_of_bodies_that_make_no_sense_are_refused_with_their_place() {
    let table = [
        (
            r#"{"set":{"body":{"/a":"x"}},"add":{"body":{"b":"x"}}}"#,
            "",
            "/request/set/body/~1a: ",
            "one kind of body",
        ),
        (
            r#"{"set":{"body":{"/a~2":"x"}}}"#,
            "",
            "/request/set/body/~1a~02: ",
            "no JSON pointer",
        ),
        (
            r#"{"rename":{"body":{"/a":"b"}}}"#,
            "",
            "/request/rename/body/~1a: ",
            "one kind of body",
        ),
        (
            r#"{"rename":{"body":{"/a/b":"/c/b"}}}"#,
            "",
            "/request/rename/body/~1a~1b: ",
            "another place",
        ),
        (
            r#"{"rename":{"body":{"/a":"/a"}}}"#,
            "",
            "/request/rename/body/~1a: ",
            "as well",
        ),
        (
            r#"{"set":{"body":{"/a/b":"x","/a/b/c":"y"}}}"#,
            "",
            "/request/set/body/~1a~1b~1c: ",
            "as well",
        ),
        (
            r#"{"set":{"body":{"/a/b":"x"}},"remove":{"body":["/a"]}}"#,
            "",
            "/request/set/body/~1a~1b: ",
            "/request/remove/body/0 as well",
        ),
        (
            r#"{"set":{"body":{"a":"x"}},"add":{"body":{"a":"x"}}}"#,
            "",
            "/request/set/body/a: ",
            "as well",
        ),
        (
            r#"{"set":{"body":{"":"x"}}}"#,
            "",
            "/request/set/body/: ",
            "no name",
        ),
        (
            r#"{"set":{"body":{"/a":"{vault://"}}}"#,
            "",
            "/request/set/body/~1a: ",
            "",
        ),
        (
            r#"{"set":{"headers":{"a":"x"}}}"#,
            r#"{"max_bytes":5}"#,
            "/body: ",
            "no field",
        ),
        (
            r#"{"set":{"body":{"/a":"x"}}}"#,
            r#"{"max_bytes":0}"#,
            "/body/max_bytes: ",
            "16777216",
        ),
        (
            r#"{"set":{"body":{"/a":"x"}}}"#,
            r#"{"max_bytes":16777217}"#,
            "/body/max_bytes: ",
            "16777216",
        ),
        (
            r#"{"set":{"body":{"/a":"x"}}}"#,
            r#"{"on_excess":"drop"}"#,
            "/body/on_excess: ",
            "'refuse' or 'pass'",
        ),
        (
            r#"{"set":{"body":{"/a":"x"}}}"#,
            r#"{"on_excess":"pass"}"#,
            "/body/on_excess: ",
            "only where",
        ),
        (
            r#"{"add":{"body":{"a":"{vault://a/b}"}}}"#,
            r#"{"on_excess":"pass"}"#,
            "/body/on_excess: ",
            "only where",
        ),
        (
            r#"{"remove":{"body":["a"]}}"#,
            r#"{"on_excess":"pass"}"#,
            "/body/on_excess: ",
            "only where",
        ),
        (
            r#"{"set":{"body":{"/a":"x"}}}"#,
            r#"{"size":1}"#,
            "/body/size: ",
            "unknown",
        ),
    ];
    for (request, body, place, why) in table {
        let body = if body.is_empty() { "null" } else { body };
        let text =
            format!(r#"{{"resolver":{{"upstream":"u:1"}},"request":{request},"body":{body}}}"#);
        for gateway in [Gateway::envoy(), Gateway::nginx()] {
            let error = error_of(gateway, &text);
            assert!(
                error.contains(place) && error.contains(why),
                "{text}\n gives: {error}"
            );
        }
    }
    let passes = r#"{"resolver":{"upstream":"u:1"},"body":{"on_excess":"pass","max_bytes":5},
        "request":{"add":{"body":{"/a":"x"}},"append":{"body":{"/b":"x"}},"rename":{"body":{"/c":"/d"}}}}"#;
    let config = Config::parse(passes.as_bytes()).expect("JSON");
    let host = Gateway::nginx().host;
    assert!(crate::compile::compile(config, crate::Kind::Nginx, &host).is_ok());
}

#[test]
fn what_nginx_cannot_do_is_refused_there_with_the_reason() {
    let table = [
        (
            r#"{"resolver":{"upstream":"127.0.0.1:1"},"request":{"remove":{"headers":["x"]}}}"#,
            "/request/remove/headers/0: ",
        ),
        (
            r#"{"resolver":{"upstream":"127.0.0.1:1"},"request":{"rename":{"headers":{"x":"y"}}}}"#,
            "/request/rename/headers/x: ",
        ),
        (
            r#"{"resolver":{"upstream":"127.0.0.1:1"},"on_error":{"without_field":true},"request":{"set":{"headers":{"x":"{vault://a/b}"}}}}"#,
            "/request/set/headers/x: ",
        ),
        (
            r#"{"resolver":{"upstream":"127.0.0.1:1"},"on_error":{"without_field":true},"basic_auth":{"username":"{vault://a/b}","password":""}}"#,
            "/basic_auth: ",
        ),
    ];
    for (text, place) in table {
        let error = error_of(Gateway::nginx(), text);
        assert!(
            error.contains(place) && error.contains("does not reach the upstream"),
            "{error}"
        );
        let config = Config::parse(text.as_bytes()).expect("JSON");
        let host = Gateway::envoy().host;
        assert!(
            crate::compile::compile(config, crate::Kind::Envoy, &host).is_ok(),
            "{text}"
        );
    }
    let text = r#"{"resolver":{"upstream":"127.0.0.1:1"},"request":{},"response":{"redact_headers":true}}"#;
    let error = error_of(Gateway::nginx(), text);
    assert!(
        error.contains("/response/redact_headers: not on this gateway"),
        "{error}"
    );
    for (name, part) in [
        ("xds.route_name", "Envoy"),
        ("ngx.arg_tier", "client"),
        ("ngx.http_x_tier", "client"),
        ("ngx.uri", "client"),
        ("ngx.request_method", "client"),
    ] {
        let rules = json!([{ "match": {"properties": {name: "x"}} }]);
        let text = json!({"resolver": {"upstream": "127.0.0.1:1"}, "rules": rules}).to_string();
        let error = error_of(Gateway::nginx(), &text);
        let place = format!("/rules/0/match/properties/{name}: ");
        assert!(error.contains(&place) && error.contains(part), "{error}");
    }
    for upstream in [
        "http://127.0.0.1:80",
        "127.0.0.1:65536",
        "unix:relative",
        "a:b",
    ] {
        let text = json!({"resolver": {"upstream": upstream}, "request": {}}).to_string();
        let error = error_of(Gateway::nginx(), &text);
        assert!(
            error.contains("/resolver/upstream: "),
            "{upstream}: {error}"
        );
    }
    for upstream in [
        "127.0.0.1:80",
        "[::1]:80",
        "[::1]",
        "127.0.0.1",
        "name:80",
        "unix:/run/x.sock",
    ] {
        let text = json!({"resolver": {"upstream": upstream}, "request": {}});
        let mut gateway = Gateway::nginx();
        gateway.configure(&text);
        assert!(
            gateway.logs()[0].starts_with("Info"),
            "{upstream}: {:?}",
            gateway.logs()
        );
    }
    let query = r#"{"resolver":{"upstream":"127.0.0.1:1"},"on_error":{"without_field":true},
        "request":{"remove":{"querystring":["a"]},"rename":{"querystring":{"b":"c"}},"set":{"querystring":{"x":"{vault://a/b}"}}}}"#;
    let config = Config::parse(query.as_bytes()).expect("JSON");
    let host = Gateway::nginx().host;
    assert!(crate::compile::compile(config, crate::Kind::Nginx, &host).is_ok());
}

#[test]
fn what_kong_s_encoder_writes_is_taken() {
    let text = r#"{"resolver":{"upstream":"u"},"rules":[{"match":{"headers":[]},
        "request":{"remove":{"headers":{},"querystring":[]},"set":{"headers":{"x":"{vault:\/\/a\/b}"},"querystring":[]}}}]}"#;
    let mut gateway = Gateway::envoy();
    *gateway.host.configuration.borrow_mut() = text.as_bytes().to_vec();
    assert!(
        gateway.vm.on_configure(1, text.len()),
        "{:?}",
        gateway.logs()
    );
    gateway.tick(0);
    assert_eq!(
        gateway.take_dispatched()[0].body["references"],
        json!(["{vault://a/b}"])
    );
}

#[test]
fn a_struct_of_every_length_is_read_also_when_its_length_is_a_brace() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Outer {
        #[prost(message, repeated, tag = "1")]
        fields: Vec<Field>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Field {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, optional, tag = "2")]
        value: Option<Inner>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Inner {
        #[prost(message, optional, tag = "5")]
        inner: Option<Outer>,
        #[prost(string, optional, tag = "3")]
        text: Option<String>,
    }
    let text = |name: &str, text: String| Field {
        name: name.into(),
        value: Some(Inner {
            inner: None,
            text: Some(text),
        }),
    };
    let object = |name: &str, fields: Vec<Field>| Field {
        name: name.into(),
        value: Some(Inner {
            inner: Some(Outer { fields }),
            text: None,
        }),
    };
    let mut braces = 0;
    for length in 1..200 {
        let bytes = Outer {
            fields: vec![
                object("resolver", vec![text("upstream", "u".repeat(length))]),
                object("request", vec![]),
            ],
        }
        .encode_to_vec();
        braces += usize::from(bytes[1] == b'{');
        let config = Config::parse(&bytes).expect("a struct");
        assert_eq!(
            config.resolver.upstream.map(|name| name.len()),
            Some(length)
        );
    }
    assert_eq!(braces, 1);
}

mod properties {
    use proptest::prelude::*;

    use super::Config;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Config::parse(&bytes);
        }

        #[test]
        fn no_almost_right_text_makes_it_panic(at in 0usize..200, byte in any::<u8>()) {
            let mut text = br#"{"resolver":{"upstream":"u","timeout_ms":1000},"rules":[{"match":{"host":["a"],"path_prefix":"/v1"},"request":{"set":{"headers":{"x":"a{vault://e/f?ttl=1#2}b"}}},"on_error":{"status":500}}]}"#.to_vec();
            let at = at % text.len();
            text[at] = byte;
            if let Ok(config) = Config::parse(&text) {
                let host = crate::testing::Gateway::envoy().host;
                for kind in [crate::Kind::Envoy, crate::Kind::Nginx] {
                    let again = Config::parse(&text).expect("as before");
                    let _ = crate::compile::compile(again, kind, &host);
                }
                drop(config);
            }
        }
    }
}

#[test]
fn no_name_and_no_text_begins_another_line_of_the_log() {
    for text in [
        "{\"resolver\":{\"upstream\":\"u\"},\"a\\nb\\u007f\":1}",
        "{\"resolver\":{\"upstream\":\"u\"},\"request\":{\"set\":{\"headers\":{\":\\r\\nx\":\"\"}}}}",
        "{\"resolver\":{\"upstream\":\"u\",\"token_env\":\"A\\nB\"},\"request\":{}}",
    ] {
        let error = crate::check(
            text.as_bytes(),
            crate::Kind::Envoy,
            crate::Callbacks::Every,
            |_| None,
        );
        let shown = error.expect_err("refused").to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}
