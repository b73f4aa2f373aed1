//! Faults that tests put in.

use vaultref_harness::{
    Callback, CalloutAnswer, CalloutState, Fault, Gateway, Outcome, Profile, Request, Status,
    Upstream, WorkerState,
};

use crate::support::{ENTER, Guest, REMEMBER, RESUME, SOON, assert_logged, buffer, nginx, serve};

fn start(profile: Profile) -> Gateway {
    let guest = Guest::new()
        .returns("request_headers", 1, |g| {
            let set = g.replace("authorization", "");
            let call = g.http_call("resolver");
            g.note("guard", set) + &g.note("call", call) + REMEMBER
        })
        .on("http_call_response", |g| {
            let set = g.replace("authorization", "secret");
            g.show("body", buffer(4))
                + &g.note("context", "(local.get $a)")
                + &g.note("token", "(local.get $b)")
                + &g.note("enter", ENTER)
                + &g.note("set", set)
                + &g.note("resume", RESUME)
        });
    Gateway::builder(&guest.compile())
        .profile(profile)
        .upstream("resolver", Upstream::ByHand)
        .start()
        .expect("it starts")
}

fn ok() -> CalloutAnswer {
    CalloutAnswer::response(200, [], "answer")
}

fn request() -> Request {
    Request::get("/").header("authorization", "{vault://a/b}")
}

#[test]
fn host_status_is_what_the_test_says() {
    let mut gateway = start(Profile::Envoy);
    let function = "proxy_get_buffer_bytes".to_owned();
    gateway.inject(Fault::HostStatus {
        function,
        status: Status::InternalFailure,
        times: 1,
    });
    for status in ["body:=10", "body:=0"] {
        gateway.request(0, request());
        gateway.forget_history();
        gateway.answer(gateway.open_callouts()[0].id, ok());
        assert_logged(&gateway, status);
    }
}

#[test]
fn host_function_can_trap() {
    let mut gateway = start(nginx());
    gateway.inject(Fault::HostTrap {
        function: "proxy_http_call".into(),
    });
    let stream = gateway.request(0, request());
    let upstream = gateway.upstream_request(stream);
    assert_eq!(
        upstream.header("authorization").as_deref(),
        Some(""),
        "the guard holds"
    );
}

#[test]
fn truncated_answer_is_what_each_gateway_makes_of_it() {
    for (profile, status) in [(Profile::Envoy, "body:=1"), (nginx(), "body:=2")] {
        let mut gateway = start(profile);
        gateway.inject(Fault::TruncateAnswer { keep: 2 });
        gateway.request(0, request());
        gateway.answer(gateway.open_callouts()[0].id, ok());
        assert_logged(&gateway, status);
    }
}

#[test]
fn truncation_also_hits_answers_of_real_sockets() {
    let address = serve(vec![b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]);
    let mut gateway = start(Profile::Envoy);
    gateway.set_upstream("resolver", Upstream::Tcp(address));
    gateway.inject(Fault::TruncateAnswer { keep: 0 });
    let stream = gateway.request(0, request());
    gateway.settle(stream, SOON).unwrap();
    assert_logged(&gateway, "body:=1");
}

#[test]
fn dropped_callback_is_not_made() {
    let mut gateway = start(Profile::Envoy);
    gateway.inject(Fault::DropCallback(Callback::HttpCallResponse));
    let stream = gateway.request(0, request());
    let callout = gateway.open_callouts()[0].id;
    gateway.answer(callout, ok());
    assert!(gateway.outcome(stream).is_waiting());
    assert_eq!(gateway.callout(callout).state, CalloutState::Delivered);
    assert!(gateway.calls_of(Callback::HttpCallResponse).is_empty());
}

#[test]
fn answer_for_a_request_that_is_gone_can_be_delivered() {
    // nginx has given the callout up; in Envoy it is still the root's, and
    // entering the context of the request fails.
    for (profile, state, enter) in [
        (Profile::Envoy, CalloutState::InFlight, "enter=2"),
        (nginx(), CalloutState::Cancelled, "enter=0"),
    ] {
        let envoy = !profile.is_nginx();
        let mut gateway = start(profile);
        let stream = gateway.request(0, request());
        let own = gateway.context_of(stream, 0);
        let callout = gateway.open_callouts()[0].clone();
        gateway.disconnect(stream);
        assert_eq!(gateway.callout(callout.id).state, state);
        gateway.deliver_late(callout.id, ok());
        assert!(gateway.open_callouts().is_empty(), "no second answer");
        let context = if envoy {
            gateway.root_context(0, 0)
        } else {
            own
        };
        assert_logged(&gateway, &format!("context={}", context.unwrap()));
        assert_logged(&gateway, &format!("token={}", callout.token));
        assert_logged(&gateway, enter);
        assert_logged(&gateway, "set=2");
        assert_eq!(gateway.outcome(stream), Outcome::Reset);
    }
}

#[test]
fn instance_replaced_while_requests_wait() {
    let mut gateway = start(Profile::Envoy);
    let stream = gateway.request(0, request());
    gateway.replace_instances(0).unwrap();
    assert!(gateway.outcome(stream).is_waiting());
    assert!(gateway.open_callouts().is_empty());
    assert!(!gateway.vm_failed(0));
    let fresh = gateway.request(0, request());
    gateway.answer(gateway.open_callouts()[0].id, ok());
    assert_eq!(
        gateway
            .upstream_request(fresh)
            .header("authorization")
            .as_deref(),
        Some("secret")
    );

    let mut gateway = start(nginx());
    let stream = gateway.request(0, request());
    gateway.replace_instances(0).unwrap();
    assert_eq!(
        gateway
            .upstream_request(stream)
            .header("authorization")
            .as_deref(),
        Some("")
    );
}

#[test]
fn vms_trapped_at_once() {
    let mut gateway = start(Profile::Envoy);
    gateway.trap_vms(0);
    let stream = gateway.request(0, request());
    assert_eq!(gateway.local_response(stream).status, 503);
    let mut gateway = start(nginx());
    let stream = gateway.request(0, request());
    gateway.trap_vms(0);
    assert_eq!(
        gateway
            .upstream_request(stream)
            .header("authorization")
            .as_deref(),
        Some("")
    );
    assert_eq!(*gateway.worker_state(0), WorkerState::Running);
}

#[test]
fn worker_killed_resets_its_clients() {
    let mut gateway = start(nginx());
    let stream = gateway.request(0, request());
    gateway.kill_worker(0);
    assert_eq!(gateway.outcome(stream), Outcome::Reset);
}
