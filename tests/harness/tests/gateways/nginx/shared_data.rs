//! Shared data (line 15).

use vaultref_harness::Request;

use super::start;
use crate::support::{Guest, assert_logged, lines, nginx};

#[test]
fn nginx_shared_data_keys_are_compared_by_crc32() {
    let guest = Guest::new().on("request_headers", |g| {
        let set = g.set_shared("plumless", "one", 0);
        let show = g.shared("buckeroo");
        g.note("set", set) + &g.show("other", show)
    });
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "other=one");
}

#[test]
fn nginx_set_shared_data_without_cas_on_an_existing_key_is_a_mismatch() {
    let guest = Guest::new().on("request_headers", |g| {
        let first = g.set_shared("k", "1", 0);
        let second = g.set_shared("k", "2", 0);
        let third = g.set_shared("k", "3", 1);
        g.note("first", first) + &g.note("second", second) + &g.note("third", third)
    });
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "first=0");
    assert_logged(&gateway, "second=8");
    assert_logged(&gateway, "third=0");
}

#[test]
fn nginx_shared_data_is_lost_on_reload() {
    let guest = Guest::new().on("request_headers", |g| {
        let show = g.shared("k");
        let set = g.set_shared("k", "v", 0);
        g.note("get", show) + &g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    gateway.clear_shared_data();
    gateway.request(0, Request::get("/"));
    assert_eq!(
        lines(&gateway)
            .iter()
            .filter(|line| *line == "get=1")
            .count(),
        2
    );
}
