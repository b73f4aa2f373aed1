//! What a filter writes, and what of it arrives (lines 10, 11, 12).

use vaultref_harness::{NginxOptions, Profile, Request};

use super::{answer_first, ok, start, waits};
use crate::support::{Guest, assert_logged, buffer, kong, nginx};

// 10

#[test]
fn nginx_body_only_inside_on_request_body() {
    let inside = Guest::new().on("request_body", |g| {
        let set = g.set_body(100, "new body");
        g.note("set", set)
    });
    let mut gateway = start(nginx(), inside);
    let stream = gateway.request(0, Request::post("/", "old"));
    let upstream = gateway.upstream_request(stream);
    assert_eq!(upstream.body, b"new body");
    assert_eq!(
        upstream.header("content-length").as_deref(),
        Some("8"),
        "it follows by itself"
    );

    let elsewhere = waits(Guest::new(), |_| String::new()).on("http_call_response", |g| {
        let set = g.set_body(100, "new body");
        g.note("set", set)
    });
    let mut gateway = start(nginx(), elsewhere);
    let stream = gateway.request(0, Request::post("/", "old"));
    answer_first(&mut gateway, ok());
    assert!(gateway.has_logged("cannot set request body"));
    assert_eq!(gateway.upstream_request(stream).body, b"old");
}

#[test]
fn nginx_set_buffer_takes_as_many_bytes_as_it_is_told() {
    for (length, expected) in [(3, "new"), (8, "new body"), (100, "new body")] {
        let guest = Guest::new().on("request_body", |g| {
            let set = g.set_body(length, "new body");
            g.note("set", set)
        });
        let mut gateway = start(nginx(), guest);
        let stream = gateway.request(0, Request::post("/", "old"));
        assert_eq!(gateway.upstream_request(stream).body, expected.as_bytes());
    }
}

#[test]
fn nginx_spooled_body_is_appended_to() {
    let guest = Guest::new().on("request_body", |g| {
        let set = g.set_body(100, "new");
        g.note("get", buffer(0)) + &g.note("set", set)
    });
    let options = NginxOptions {
        client_body_buffer_size: 4,
        ..NginxOptions::plain()
    };
    let mut gateway = start(Profile::Nginx(options), guest);
    let stream = gateway.request(0, Request::post("/", "older"));
    assert_eq!(gateway.upstream_request(stream).body, b"oldernew");
    assert_logged(&gateway, "get=1");
}

// 11

#[test]
fn nginx_path_change_does_not_arrive_but_upstream_uri_does() {
    let guest = || {
        Guest::new().on("request_headers", |g| {
            let set = g.replace(":path", "/changed");
            let show = g.header(0, ":path");
            g.note("set", set) + &g.show("path", show)
        })
    };
    for profile in [nginx(), kong()] {
        let mut gateway = start(profile, guest());
        let stream = gateway.request(0, Request::get("/path?q=1"));
        assert_eq!(gateway.upstream_request(stream).path, b"/path?q=1");
        assert_logged(&gateway, "path=/changed");
    }
    let guest = Guest::new().on("request_headers", |g| {
        let show = g.property(&["ngx", "upstream_uri"]);
        let set = g.set_property(&["ngx", "upstream_uri"], "/path?key=secret");
        g.show("uri", show) + &g.note("set", set)
    });
    let mut gateway = start(kong(), guest);
    let stream = gateway.request(0, Request::get("/path?q=1"));
    assert_logged(&gateway, "uri=/path?q=1");
    assert_logged(&gateway, "set=0");
    assert_eq!(gateway.upstream_request(stream).path, b"/path?key=secret");
}

#[test]
fn nginx_set_of_absent_upstream_uri_traps() {
    let guest = Guest::new().on("request_headers", |g| {
        let show = g.property(&["ngx", "upstream_uri"]);
        let set = g.set_property(&["ngx", "upstream_uri"], "/x");
        g.show("uri", show) + &g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "uri:=1");
    assert!(!gateway.has_logged("set="));
    assert_eq!(gateway.local_response(stream).status, 500);
}

// 12

#[test]
fn nginx_removed_header_still_reaches_upstream() {
    let guest = Guest::new().on("request_headers", |g| {
        let remove = g.remove("x-gone");
        let show = g.header(0, "x-gone");
        let set = g.replace("x-empty", "");
        g.note("remove", remove) + &g.show("gone", show) + &g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    let request = Request::get("/")
        .header("x-gone", "there")
        .header("x-empty", "full");
    let stream = gateway.request(0, request);
    assert_logged(&gateway, "remove=0");
    assert_logged(&gateway, "gone:=1");
    let upstream = gateway.upstream_request(stream);
    assert_eq!(upstream.header("x-gone").as_deref(), Some("there"));
    assert_eq!(
        upstream.header("x-empty").as_deref(),
        Some(""),
        "overwriting does arrive"
    );
}

#[test]
fn nginx_set_changes_first_of_duplicates_only() {
    let guest = Guest::new().on("request_headers", |g| {
        let show = g.header(0, "x");
        let set = g.replace("x", "new");
        g.show("x", show) + &g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/").header("x", "1").header("X", "2"));
    assert_logged(&gateway, "x=1");
    let values = gateway.upstream_request(stream).headers.all("x");
    assert_eq!(values, [b"new".to_vec(), b"2".to_vec()]);
}

#[test]
fn nginx_header_value_with_newline_is_not_set_and_said_to_be() {
    let guest = Guest::new().on("request_headers", |g| {
        let set = g.replace("x", "a\r\nb");
        g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/").header("x", "old"));
    assert_logged(&gateway, "set=0");
    assert_eq!(
        gateway.upstream_request(stream).header("x").as_deref(),
        Some("old")
    );
}

// Also

#[test]
fn nginx_authority_is_the_server_and_host_the_clients() {
    let guest = Guest::new().on("request_headers", |g| {
        let (authority, host) = (g.header(0, ":authority"), g.header(0, "host"));
        let set = g.replace(":authority", "changed");
        g.show("authority", authority) + &g.show("host", host) + &g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/").authority("Api.Example.com:81"));
    assert_logged(&gateway, "authority=localhost:8000");
    assert_logged(&gateway, "host=Api.Example.com:81");
    assert_logged(&gateway, "set=0");
    assert_eq!(
        gateway.upstream_request(stream).authority,
        b"Api.Example.com:81"
    );
}

#[test]
fn nginx_setting_an_unknown_property_is_a_500() {
    let guest = Guest::new().on("request_headers", |g| {
        let set = g.set_property(&["nobody", "knows"], "x");
        g.note("set", set)
    });
    let mut gateway = start(kong(), guest);
    let stream = gateway.request(0, Request::get("/"));
    assert_eq!(gateway.local_response(stream).status, 500);
}

#[test]
fn nginx_setting_a_read_only_property_is_a_500() {
    // A variable that can be read, and what the gateway knows of the request.
    for path in [["ngx", "hostname"], ["request", "path"]] {
        let guest = Guest::new().on("request_headers", |g| {
            let show = g.property(&path);
            let set = g.set_property(&path, "x");
            g.note("get", show) + &g.note("set", set)
        });
        let options = NginxOptions {
            variables: vec![("hostname".to_owned(), "box".to_owned())],
            ..NginxOptions::kong()
        };
        let mut gateway = start(Profile::Nginx(options), guest);
        let stream = gateway.request(0, Request::get("/"));
        assert_logged(&gateway, "get=0");
        assert!(!gateway.has_logged("set="), "{path:?}");
        assert_eq!(gateway.local_response(stream).status, 500, "{path:?}");
    }
}

#[test]
fn nginx_kong_shared_context_can_be_set() {
    let guest = Guest::new().on("request_headers", |g| {
        let set = g.set_property(&["kong", "ctx", "shared", "a"], "v");
        let show = g.property(&["kong", "ctx", "shared", "a"]);
        g.note("set", set) + &g.show("get", show)
    });
    let mut gateway = start(kong(), guest);
    gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "get=v");
}
