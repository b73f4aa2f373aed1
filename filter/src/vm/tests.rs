//! The life of a VM: start-up, polls, waiting requests, and what goes wrong.

use serde_json::{Value, json};

use crate::testing::{Gateway, ROOT, failure, known, rule, secret, unchanged, usable};
use crate::{Action, Status};

fn bearer() -> Value {
    rule(&json!({"set": {"headers": {"authorization": "Bearer {vault://v/token}"}}}))
}

#[test]
fn a_rendered_header_costs_one_call_of_the_host_and_no_clock() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    let (calls, clocks) = (gateway.host.count.get(), gateway.host.clocks.get());
    let (_, action) = gateway.request(&[("authorization", "mine"), ("authorization", "twice")]);
    assert_eq!(action, Action::Continue);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer <token>")
    );
    assert_eq!(gateway.host.count.get() - calls, 1);
    assert_eq!(gateway.host.clocks.get(), clocks);
}

#[test]
fn nothing_is_asked_while_configuring_and_everything_at_the_first_tick() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    assert_eq!(gateway.calls(), ["tick 200"]);
    gateway.tick(0);
    let calls = gateway.take_dispatched();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].upstream, "vaultref");
    assert_eq!(calls[0].timeout, 1000);
    assert_eq!(
        calls[0].body,
        json!({"references": ["{vault://v/token}"], "known": [null], "wait_ms": 800})
    );
    let headers: Vec<_> = calls[0]
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(headers, [":method", ":path", ":authority", "content-type"]);
}

#[test]
fn the_token_goes_with_the_call() {
    let mut gateway = Gateway::envoy();
    gateway
        .host
        .environment
        .borrow_mut()
        .insert("TOKEN".into(), " s3cret\n".into());
    let mut configuration = bearer();
    configuration["resolver"]["token_env"] = json!("TOKEN");
    assert!(gateway.configure(&configuration));
    gateway.tick(0);
    let call = &gateway.take_dispatched()[0];
    assert!(
        call.headers
            .contains(&("authorization".into(), b"Bearer s3cret".to_vec()))
    );
}

#[test]
fn a_request_before_the_first_answer_is_guarded_waits_and_goes_out_right() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    let (context, action) = gateway.request(&[("authorization", "the client's own")]);
    assert_eq!(action, Action::Pause);
    assert_eq!(gateway.calls(), ["set authorization=", "dispatch"]);
    let call = gateway.take_dispatched().remove(0);
    // In Envoy too the answer comes with the root's context.
    gateway.answer(ROOT, &call, known);
    let entered = format!("context {context}");
    let expected = [
        entered.as_str(),
        "set authorization=Bearer <token>",
        "resume",
    ];
    assert_eq!(gateway.calls(), expected);
    // What came that way serves all requests after it.
    let (_, action) = gateway.request(&[]);
    assert_eq!(action, Action::Continue);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer <token>")
    );
}

#[test]
fn on_nginx_the_answer_comes_with_the_root_s_context() {
    let mut gateway = Gateway::nginx();
    assert!(gateway.configure(&bearer()));
    let (_, action) = gateway.request(&[]);
    assert_eq!(action, Action::Pause);
    gateway.answer_all(known);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer <token>")
    );
}

#[test]
fn answers_that_are_not_the_daemon_s_refuse_the_request() {
    let good = json!({"results": [secret("hunter2", "r")]}).to_string();
    let two = json!({"results": [secret("hunter2", "r"), secret("x", "r")]}).to_string();
    let marker = [("x-vaultref-contract", "1")];
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let half = good.split_at(20).0;
    let table: [(&str, Headers<'_>, &str, &str); 8] = [
        ("no marker", &[], "200", &good),
        (
            "another version",
            &[("x-vaultref-contract", "2")],
            "200",
            &good,
        ),
        ("not 200", &marker, "503", &good),
        ("made by Envoy", &[], "503", "upstream connect error"),
        ("too many", &marker, "200", &two),
        ("garbage", &marker, "200", "hunter2"),
        ("cut off", &marker, "200", half),
        ("empty", &marker, "200", ""),
    ];
    for (name, headers, status, body) in table {
        let mut gateway = Gateway::envoy();
        assert!(gateway.configure(&bearer()));
        gateway.request(&[("authorization", "own")]);
        let token = gateway.take_dispatched()[0].token;
        gateway.answer_raw(ROOT, token, headers, status, body.as_bytes());
        assert_eq!(gateway.status(), Some(503), "{name}");
        assert_eq!(
            gateway.header("authorization").as_deref(),
            Some(""),
            "{name}"
        );
        assert!(!gateway.calls().contains(&"resume".to_owned()), "{name}");
        let logs = gateway.logs().join("\n");
        assert!(!logs.contains("hunter2"), "{name}: {logs}");
    }
}

#[test]
fn a_call_without_headers_is_asked_for_nothing() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    gateway.request(&[]);
    let token = gateway.take_dispatched()[0].token;
    gateway.vm.on_http_call_response(ROOT, token, 0, 0);
    assert_eq!(gateway.status(), Some(503));
}

#[test]
fn a_body_that_is_shorter_than_announced_is_not_believed() {
    for shorter in [true, false] {
        let mut gateway = Gateway::nginx();
        assert!(gateway.configure(&bearer()));
        gateway.request(&[]);
        let token = gateway.take_dispatched()[0].token;
        let body = json!({"results": [secret("x", "r")]})
            .to_string()
            .into_bytes();
        let pairs = vec![
            (b":status".to_vec(), b"200".to_vec()),
            (b"x-vaultref-contract".to_vec(), b"1".to_vec()),
        ];
        let length = body.len() + 1;
        *gateway.host.answer.borrow_mut() = (pairs, body);
        if !shorter {
            gateway
                .host
                .failures
                .borrow_mut()
                .insert("callout_body", Status::BadArgument);
        }
        gateway.vm.on_http_call_response(ROOT, token, 2, length);
        assert_eq!(gateway.status(), Some(503));
    }
}

#[test]
fn late_and_unknown_answers_change_nothing_or_refuse() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    gateway.answer_raw(ROOT, 4711, &[("x-vaultref-contract", "1")], "200", b"{}");
    assert_eq!(gateway.calls(), [""; 0]);
    // A request that nobody knows must not go on.
    gateway.answer_raw(77, 4711, &[("x-vaultref-contract", "1")], "200", b"{}");
    assert_eq!(gateway.calls(), ["respond 503"]);
}

#[test]
fn a_stream_whose_root_is_unknown_is_refused() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    gateway.host.current.set(999);
    assert_eq!(gateway.vm.on_request_headers(999), Action::Pause);
    assert_eq!(gateway.status(), Some(503));
    let (_, action) = gateway.request_of(55, &[]);
    assert_eq!((action, gateway.status()), (Action::Pause, Some(503)));
}

#[test]
fn a_poll_sends_known_revisions_and_what_changed_is_rendered_anew_together() {
    let configuration = json!({"resolver": {"upstream": "u"},
        "basic_auth": {"username": "{vault://v/user}", "password": "{vault://v/pass}"}});
    let mut gateway = Gateway::envoy().warm(&configuration);
    gateway.tick(999);
    assert_eq!(
        gateway.take_dispatched().len(),
        0,
        "a second has not passed"
    );
    gateway.tick(1);
    let call = gateway.take_dispatched().remove(0);
    assert_eq!(call.body["known"], json!(["r1", "r1"]));
    gateway.answer(ROOT, &call, |reference, _| match reference {
        "{vault://v/user}" => secret("a", "r2"),
        _ => secret("b", "r2"),
    });
    gateway.request(&[]);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Basic YTpi")
    );
    gateway.tick(1000);
    gateway.answer_all(|_, _| unchanged());
    gateway.request(&[]);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Basic YTpi")
    );
}

#[test]
fn while_one_half_cannot_be_read_the_other_is_held_back_for_a_while() {
    let configuration = json!({"resolver": {"upstream": "u"},
        "basic_auth": {"username": "{vault://v/user}", "password": "{vault://v/pass}"}});
    let mut gateway = Gateway::envoy().warm(&configuration);
    let old = "Basic PHVzZXI+OjxwYXNzPg==";
    for second in 0..14 {
        gateway.tick(1000);
        gateway.answer_all(|reference, known| match reference {
            "{vault://v/user}" if *known == json!("r2") => unchanged(),
            "{vault://v/user}" => secret("new", "r2"),
            _ => failure("unavailable"),
        });
        gateway.request(&[]);
        let header = gateway.header("authorization").expect("a header");
        assert_eq!(header == old, second < 10, "second {second}: {header}");
    }
}

#[test]
fn what_is_gone_or_forbidden_is_dropped_at_once_and_comes_back() {
    for kind in [
        "not-found",
        "denied",
        "unknown-vault",
        "invalid-reference",
        "key-not-found",
        "wrong-type",
    ] {
        let mut gateway = Gateway::envoy().warm(&bearer());
        gateway.tick(1000);
        gateway.answer_all(|_, _| failure(kind));
        let (_, action) = gateway.request(&[("authorization", "own")]);
        assert_eq!(
            (action, gateway.status()),
            (Action::Pause, Some(503)),
            "{kind}"
        );
        assert_eq!(
            gateway.calls(),
            ["respond 503"],
            "{kind}: no call for each request"
        );
        let body = gateway.host.response.borrow().clone().map(|(_, body)| body);
        assert!(body.is_some_and(|body| !body.contains("vault") && !body.contains(kind)));
        gateway.tick(1000);
        let call = gateway.take_dispatched().remove(0);
        assert_eq!(call.body["known"], json!([null]), "{kind}");
        gateway.answer(ROOT, &call, known);
        gateway.request(&[]);
        assert_eq!(
            gateway.header("authorization").as_deref(),
            Some("Bearer <token>"),
            "{kind}"
        );
        let logs = gateway.logs();
        let about = logs.iter().filter(|line| line.contains(kind)).count();
        assert_eq!(about, 1, "{logs:?}");
        assert!(
            logs.iter()
                .any(|line| line.contains("has all its secrets again")),
            "{logs:?}"
        );
    }
}

#[test]
fn an_outage_is_bridged_for_as_long_as_values_are_usable_whatever_the_clock_does() {
    let configuration = bearer();
    for failing in [true, false] {
        let mut gateway = Gateway::envoy();
        assert!(gateway.configure(&configuration));
        gateway.tick(0);
        gateway.answer_all(|_, _| usable("t", "r1", 60));
        let answer_all = |gateway: &mut Gateway| match failing {
            true => gateway.answer_all(|_, _| failure("unavailable")),
            false => {
                for call in gateway.take_dispatched() {
                    gateway.vm.on_http_call_response(ROOT, call.token, 0, 0);
                }
            }
        };
        for second in 0..59 {
            gateway.tick(1000);
            answer_all(&mut gateway);
            // The clock jumps back a day, which neither prolongs nor ends a value's life.
            let now = gateway.host.now.get();
            gateway.host.now.set(now - 86_400_000_000_000);
            gateway.tick(0);
            answer_all(&mut gateway);
            let (_, action) = gateway.request(&[]);
            assert_eq!(action, Action::Continue, "second {second}");
        }
        gateway.tick(2000);
        answer_all(&mut gateway);
        let (_, action) = gateway.request(&[("authorization", "own")]);
        assert_eq!(action, Action::Pause);
        if failing {
            assert_eq!(gateway.status(), Some(503));
        } else {
            assert_eq!(gateway.calls(), ["set authorization=", "dispatch"]);
        }
    }
}

#[test]
fn a_resolver_that_cannot_be_reached_is_asked_quickly_at_first_then_each_second() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    gateway
        .host
        .failures
        .borrow_mut()
        .insert("dispatch", Status::BadArgument);
    gateway.calls();
    let mut asked = Vec::new();
    for tick in 0..20 {
        gateway.tick(if tick == 0 { 0 } else { 200 });
        if gateway.calls().contains(&"dispatch".to_owned()) {
            asked.push(tick * 200);
        }
    }
    assert_eq!(asked, [0, 200, 400, 600, 800, 1000, 2000, 3000]);
    let about = gateway
        .logs()
        .iter()
        .filter(|line| line.contains("cannot be asked"))
        .count();
    assert_eq!(about, 1, "{:?}", gateway.logs());
    let (_, action) = gateway.request(&[("authorization", "own")]);
    assert_eq!((action, gateway.status()), (Action::Pause, Some(503)));
    gateway.host.failures.borrow_mut().clear();
    gateway.tick(1000);
    gateway.answer_all(known);
    let (_, action) = gateway.request(&[]);
    assert_eq!(action, Action::Continue);
}

#[test]
fn a_callback_that_never_comes_stops_neither_polls_nor_requests() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    gateway.tick(0);
    let (context, _) = gateway.request(&[("authorization", "own")]);
    gateway.take_dispatched();
    gateway.calls();
    gateway.tick(1900);
    assert_eq!(gateway.calls(), [""; 0]);
    gateway.tick(200);
    assert_eq!(
        gateway.calls(),
        [
            format!("context {context}"),
            "respond 503".into(),
            format!("context {ROOT}")
        ]
    );
    gateway.tick(200);
    assert_eq!(gateway.take_dispatched().len(), 1, "the poll goes on");
}

#[test]
fn waiting_is_bounded() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    for _ in 0..1024 {
        assert_eq!(gateway.request(&[]).1, Action::Pause);
        assert_eq!(gateway.status(), None);
    }
    gateway.request(&[]);
    assert_eq!(gateway.status(), Some(503));
    assert_eq!(gateway.calls(), ["respond 503"]);
}

#[test]
fn more_references_than_one_question_may_hold_go_in_batches() {
    let headers: serde_json::Map<_, _> = (0..3000)
        .map(|index| {
            (
                format!("x-{index}"),
                json!(format!("{{vault://v/n{index}}}")),
            )
        })
        .collect();
    let configuration = rule(&json!({"set": {"headers": headers}}));
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&configuration));
    let (_, action) = gateway.request(&[]);
    assert_eq!(action, Action::Pause);
    let calls = gateway.take_dispatched();
    let sizes: Vec<_> = calls
        .iter()
        .map(|call| call.body["references"].as_array().map(Vec::len))
        .collect();
    assert_eq!(sizes, [Some(1024), Some(1024), Some(952)]);
    for (index, call) in calls.iter().enumerate() {
        assert!(
            !gateway.calls().contains(&"resume".to_owned()),
            "before answer {index}"
        );
        gateway.answer(ROOT, call, known);
    }
    assert!(gateway.calls().contains(&"resume".to_owned()));
    assert_eq!(gateway.header("x-2999").as_deref(), Some("<n2999>"));
    gateway.tick(0);
    assert_eq!(gateway.take_dispatched().len(), 3);
}

#[test]
fn when_one_of_several_calls_cannot_be_made_the_others_are_waited_for() {
    let headers: serde_json::Map<_, _> = (0..1100)
        .map(|index| {
            (
                format!("x-{index}"),
                json!(format!("{{vault://v/n{index}}}")),
            )
        })
        .collect();
    let mut gateway = Gateway::nginx();
    assert!(gateway.configure(&rule(&json!({"set": {"headers": headers}}))));
    gateway.host.dispatches_left.set(Some(1));
    // Going on with a call outstanding crashes nginx, so the answer of the first is awaited.
    assert_eq!(gateway.request(&[]).1, Action::Pause);
    assert_eq!(gateway.status(), None);
    let calls = gateway.take_dispatched();
    assert_eq!(calls.len(), 1);
    gateway.answer(ROOT, &calls[0], known);
    assert_eq!(gateway.status(), Some(503));
}

#[test]
fn a_token_that_is_given_out_twice_is_believed_for_neither() {
    let configuration = json!({"resolver": {"upstream": "u"}, "rules": [
        {"match": {"path_prefix": "/a"}, "request": {"set": {"headers": {"x": "{vault://v/a}"}}}},
        {"match": {"path_prefix": "/b"}, "request": {"set": {"headers": {"x": "{vault://v/b}"}}}}]});
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&configuration));
    gateway.request(&[(":path", "/a")]);
    let first = gateway.take_dispatched().remove(0);
    gateway.host.next_token.set(first.token);
    gateway.request(&[(":path", "/b")]);
    gateway.answer(ROOT, &first, known);
    assert_eq!(gateway.status(), Some(503));
    // The same for a poll that is given the token of a request.
    gateway.request(&[(":path", "/a")]);
    let request = gateway.take_dispatched().remove(0);
    gateway.host.next_token.set(request.token);
    gateway.tick(0);
    let poll = gateway.take_dispatched().pop().expect("a poll");
    assert_eq!(poll.token, request.token);
    gateway.answer(ROOT, &poll, |_, _| secret("wrong", "r"));
    gateway.answer(ROOT, &request, |_, _| secret("wrong", "r"));
    assert_eq!(gateway.status(), Some(503));
    assert_eq!(gateway.header("x").as_deref(), Some(""));
    gateway.request(&[(":path", "/a")]);
    assert_eq!(
        gateway.header("x").as_deref(),
        Some(""),
        "nothing of it was kept"
    );
}

#[test]
fn an_answer_that_was_overtaken_prolongs_nothing() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    gateway.tick(1000);
    let poll = gateway.take_dispatched().remove(0);
    let both = json!({"set": {"headers": {"x": "{vault://v/token}{vault://v/other}"}}});
    assert!(gateway.configure_root(2, &rule(&both)));
    gateway.request_of(2, &[]);
    let call = gateway.take_dispatched().remove(0);
    gateway.answer(ROOT, &call, |_, _| usable("new", "r2", 1));
    assert_eq!(gateway.header("x").as_deref(), Some("newnew"));
    // This speaks of the value before.
    gateway.answer(ROOT, &poll, |_, _| unchanged());
    gateway.request(&[]);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer new")
    );
    gateway.tick(1000);
    assert_eq!(gateway.request(&[]).1, Action::Pause);
}

#[test]
fn a_bad_configuration_is_refused_in_envoy_and_answered_503_on_nginx() {
    let bad =
        json!({"resolver": {"upstream": "u"}, "request": {"set": {"headers": {"x": "{vault://"}}}});
    let mut gateway = Gateway::envoy().warm(&bearer());
    assert!(!gateway.configure(&bad));
    assert!(
        gateway
            .logs()
            .iter()
            .any(|line| line.starts_with("Error") && line.contains("/request/set/headers/x"))
    );
    assert_eq!(
        gateway.request(&[]).1,
        Action::Continue,
        "the last good one stays"
    );
    let mut gateway = Gateway::nginx();
    assert!(gateway.configure(&bad));
    gateway.request(&[]);
    assert_eq!(gateway.status(), Some(503));
    assert!(gateway.configure(&bearer()));
    assert!(gateway.configure_root(2, &bearer()));
    let ticks = gateway
        .host
        .calls
        .borrow()
        .iter()
        .filter(|call| call.starts_with("tick"))
        .count();
    assert_eq!(ticks, 1, "a second setting would trap");
}

#[test]
fn roots_share_one_poller_and_values_survive_a_change_of_configuration() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    let other = rule(&json!({"set": {"headers": {"x-key": "{vault://v/token}"}}}));
    assert!(gateway.configure_root(2, &other));
    let (_, action) = gateway.request_of(2, &[]);
    assert_eq!(action, Action::Continue);
    assert_eq!(gateway.header("x-key").as_deref(), Some("<token>"));
    gateway.request(&[]);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer <token>")
    );
    gateway.tick(1000);
    assert_eq!(gateway.take_dispatched().len(), 1);
}

#[test]
fn in_envoy_a_root_whose_ticks_have_ended_is_forgotten_and_refused() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    assert!(gateway.configure_root(
        2,
        &rule(&json!({"set": {"headers": {"x": "{vault://v/x}"}}}))
    ));
    for _ in 0..700 {
        gateway.host.now.set(gateway.host.now.get() + 200_000_000);
        gateway.vm.on_tick(2);
        gateway.answer_all(known);
    }
    gateway.request_of(ROOT, &[]);
    assert_eq!(gateway.status(), Some(503));
    assert_eq!(gateway.request_of(2, &[]).1, Action::Continue);
    gateway.vm.on_tick(2);
    gateway.host.now.set(gateway.host.now.get() + 1_000_000_000);
    gateway.vm.on_tick(2);
    let polls = gateway.take_dispatched();
    assert_eq!(polls[0].body["references"], json!(["{vault://v/x}"]));
}

#[test]
fn without_references_nothing_is_asked() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&rule(&json!({"set": {"headers": {"x": "literal"}}}))));
    gateway.tick(0);
    gateway.tick(5000);
    assert_eq!(gateway.take_dispatched().len(), 0);
    assert_eq!(gateway.request(&[]).1, Action::Continue);
    assert_eq!(gateway.header("x").as_deref(), Some("literal"));
}

#[test]
fn a_request_of_a_client_that_has_gone_is_dropped() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    let (context, _) = gateway.request(&[]);
    assert!(gateway.vm.is_waiting(context));
    gateway.vm.on_delete(context);
    assert!(!gateway.vm.is_waiting(context));
    gateway.calls();
    gateway.answer_all(known);
    assert_eq!(gateway.calls(), [""; 0]);
}

#[test]
fn a_host_that_refuses_to_write_has_the_request_refused() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    gateway
        .host
        .failures
        .borrow_mut()
        .insert("set_request_header", Status::Other(99));
    for _ in 0..3 {
        gateway.request(&[]);
        assert_eq!(gateway.status(), Some(503));
    }
    let logs = gateway.logs();
    let about = logs
        .iter()
        .filter(|line| line.contains("status 99"))
        .count();
    assert_eq!(about, 1, "{logs:?}");
}

mod host_function {
    use super::*;

    fn configuration() -> Value {
        json!({"resolver": {"host_function": true, "timeout_ms": 500},
            "request": {"set": {"headers": {"authorization": "Bearer {vault://v/token}"}}}})
    }

    fn answer_with(gateway: &Gateway, outcome: fn(&str, &Value) -> Value) {
        let function = move |question: &Value| crate::testing::reply(question, outcome);
        *gateway.host.function.borrow_mut() = Some(Box::new(function));
    }

    #[test]
    fn what_is_in_memory_is_served_without_a_pause() {
        let mut gateway = Gateway::nginx();
        answer_with(&gateway, known);
        assert!(gateway.configure(&configuration()));
        assert!(
            !gateway
                .calls()
                .contains(&"foreign vaultref.resolve".to_owned()),
            "never probed"
        );
        let (_, action) = gateway.request(&[]);
        assert_eq!(action, Action::Continue);
        assert_eq!(
            gateway.header("authorization").as_deref(),
            Some("Bearer <token>")
        );
        gateway.request(&[]);
        assert_eq!(
            gateway.calls(),
            ["set authorization=Bearer <token>"],
            "asked once"
        );
    }

    #[test]
    fn what_is_pending_is_waited_for() {
        for by_tick in [true, false] {
            let mut gateway = Gateway::envoy();
            answer_with(&gateway, |_, _| failure("pending"));
            assert!(gateway.configure(&configuration()));
            let (context, action) = gateway.request(&[("authorization", "own")]);
            assert_eq!(action, Action::Pause);
            assert_eq!(gateway.header("authorization").as_deref(), Some(""));
            gateway.tick(200);
            assert!(!gateway.calls().contains(&"resume".to_owned()));
            answer_with(&gateway, known);
            if by_tick {
                gateway.tick(200);
            } else {
                gateway.vm.on_foreign_function(ROOT);
            }
            let calls = gateway.calls();
            let end = calls.len() - 4;
            assert_eq!(calls[end], format!("context {context}"));
            assert_eq!(
                calls[end + 1..],
                ["set authorization=Bearer <token>", "resume", "context 1"]
            );
        }
    }

    #[test]
    fn what_stays_pending_meets_the_deadline_or_on_nginx_on_error_at_once() {
        let mut gateway = Gateway::envoy();
        answer_with(&gateway, |_, _| failure("pending"));
        assert!(gateway.configure(&configuration()));
        gateway.request(&[]);
        gateway.tick(499);
        assert_eq!(gateway.status(), None);
        gateway.tick(1);
        assert_eq!(gateway.status(), Some(503));
        let mut gateway = Gateway::nginx();
        answer_with(&gateway, |_, _| failure("pending"));
        assert!(gateway.configure(&configuration()));
        gateway.request(&[]);
        assert_eq!(gateway.status(), Some(503));
    }

    #[test]
    fn a_function_that_fails_has_the_request_refused() {
        let mut gateway = Gateway::envoy();
        assert!(gateway.configure(&configuration()));
        gateway.request(&[]);
        assert_eq!(gateway.status(), Some(503));
    }
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Answer {
            at: usize,
            kind: u8,
        },
        Clock(i64),
        Configure(bool),
        Delete(u32),
        Foreign,
        Garbage {
            context: u32,
            token: u32,
            body: Vec<u8>,
        },
        Refuse(bool),
        Request,
        Tick,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..4, 0u8..6).prop_map(|(at, kind)| Step::Answer { at, kind }),
            1 => (-5000i64..90_000).prop_map(Step::Clock),
            1 => any::<bool>().prop_map(Step::Configure),
            1 => (0u32..120).prop_map(Step::Delete),
            1 => Just(Step::Foreign),
            1 => (0u32..120, 0u32..20, prop::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(context, token, body)| Step::Garbage { context, token, body }),
            1 => any::<bool>().prop_map(Step::Refuse),
            4 => Just(Step::Request),
            4 => Just(Step::Tick),
        ]
    }

    /// Whatever a request that goes on carries, it is neither the client's own nor a reference.
    fn check(gateway: &Gateway) -> Result<(), TestCaseError> {
        let value = gateway.header("authorization");
        let value = value.unwrap_or_default();
        prop_assert!(value.is_empty() || value.starts_with("Bearer <"), "{value}");
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn no_order_of_events_lets_a_request_go_on_with_another_s_value(
            steps in prop::collection::vec(step(), 0..60),
            nginx in any::<bool>(),
        ) {
            let mut gateway = if nginx { Gateway::nginx() } else { Gateway::envoy() };
            prop_assert!(gateway.configure(&bearer()));
            let mut open = Vec::new();
            let mut last = None;
            for step in steps {
                gateway.host.calls.borrow_mut().clear();
                match step {
                    Step::Answer { at, kind } => {
                        open.extend(gateway.take_dispatched());
                        if at < open.len() {
                            let call = open.swap_remove(at);
                            match kind {
                                0 => gateway.vm.on_http_call_response(ROOT, call.token, 0, 0),
                                1 => gateway.answer_raw(ROOT, call.token, &[], "503", b"no"),
                                2 => gateway.answer(ROOT, &call, |_, _| failure("denied")),
                                3 => gateway.answer(ROOT, &call, |_, _| unchanged()),
                                4 => gateway.answer(ROOT, &call, |_, _| usable("<1>", "r2", 1)),
                                _ => gateway.answer(ROOT, &call, known),
                            }
                        }
                    }
                    Step::Clock(milliseconds) => {
                        let now = gateway.host.now.get();
                        gateway.host.now.set(now.saturating_add_signed(milliseconds * 1_000_000));
                    }
                    Step::Configure(good) => {
                        let configuration = if good { bearer() } else { json!({}) };
                        gateway.configure(&configuration);
                    }
                    Step::Delete(context) if context != ROOT => gateway.vm.on_delete(context),
                    Step::Delete(_) => {}
                    Step::Foreign => gateway.vm.on_foreign_function(ROOT),
                    Step::Garbage { context, token, body } => {
                        let marker = [("x-vaultref-contract", "1")];
                        gateway.answer_raw(context, token, &marker, "200", &body);
                    }
                    Step::Refuse(refuses) => {
                        let mut failures = gateway.host.failures.borrow_mut();
                        failures.clear();
                        if refuses {
                            failures.insert("dispatch", Status::InternalFailure);
                        }
                    }
                    Step::Request => {
                        let (context, action) = gateway.request(&[("authorization", "own")]);
                        last = Some(context);
                        if action == Action::Continue || gateway.status().is_none() {
                            check(&gateway)?;
                        }
                    }
                    Step::Tick => gateway.tick(200),
                }
                let resumed = gateway.host.calls.borrow().iter().any(|call| call == "resume");
                if resumed && last.is_some() {
                    check(&gateway)?;
                }
            }
        }
    }
}
