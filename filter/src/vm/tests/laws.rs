//! What holds in whatever order things happen.

use proptest::prelude::*;

use serde_json::json;

use super::bearer;
use crate::testing::{Gateway, ROOT, failure, known, unchanged, usable};
use crate::{Action, Status};

#[derive(Clone, Debug)]
enum Step {
    Answer {
        at: usize,
        kind: u8,
    },
    Clock(i64),
    Configure {
        root: u32,
        good: bool,
    },
    Delete(u32),
    Foreign,
    Garbage {
        context: u32,
        token: u32,
        body: Vec<u8>,
    },
    Refuse(bool),
    Request(u32),
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..4, 0u8..6).prop_map(|(at, kind)| Step::Answer { at, kind }),
        1 => (-5000i64..400_000).prop_map(Step::Clock),
        1 => (ROOT..ROOT + 3, any::<bool>()).prop_map(|(root, good)| Step::Configure { root, good }),
        1 => (0u32..120).prop_map(Step::Delete),
        1 => Just(Step::Foreign),
        1 => (0u32..120, 0u32..20, prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(context, token, body)| Step::Garbage { context, token, body }),
        1 => any::<bool>().prop_map(Step::Refuse),
        4 => (ROOT..ROOT + 3).prop_map(Step::Request),
        4 => Just(Step::Tick),
    ]
}

/// Whatever a request that goes on carries, it is neither the client's own nor a reference.
fn check(gateway: &Gateway) -> Result<(), TestCaseError> {
    let value = gateway.header("authorization");
    let value = value.unwrap_or_default();
    prop_assert!(value.is_empty() || value.starts_with("Bearer <"), "{value}");
    // The fake gateway has the headers of the last request alone, so what counts is what was written.
    let calls = gateway.host.calls.borrow();
    prop_assert!(
        !calls.iter().any(|call| call.contains("vault://")),
        "{calls:?}"
    );
    Ok(())
}

/// As [`bearer`], but of the tenant that a header names, and with a header that may hold references.
fn by_request() -> serde_json::Value {
    json!({"resolver": {"upstream": "u"},
        "request": {"set": {"headers": {"authorization": "Bearer {vault://v/$(header:x-tenant)}"}}},
        "resolve": {"headers": ["x-key"], "allow": ["v/*"], "max": 3}})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_order_of_events_lets_a_request_go_on_with_another_s_value(
        steps in prop::collection::vec(step(), 0..60),
        nginx in any::<bool>(),
        // For each request, a tenant and a key; without, of a rule that asks for nothing by request.
        requests in prop::option::of(prop::collection::vec((0u8..4, 0u8..4), 1..5)),
    ) {
        let mut gateway = if nginx { Gateway::nginx() } else { Gateway::envoy() };
        let configuration = if requests.is_some() { by_request() } else { bearer() };
        prop_assert!(gateway.configure(&configuration));
        let mut requests = requests.map(|requests| requests.into_iter().cycle());
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
                Step::Configure { root, good } => {
                    let configuration = if good { configuration.clone() } else { json!({}) };
                    gateway.configure_root(root, &configuration);
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
                Step::Request(root) => {
                    let (tenant, key) = requests.as_mut().and_then(Iterator::next).unwrap_or_default();
                    let tenant = format!("t{tenant}");
                    let key = match key {
                        0 => "plain".to_owned(),
                        1 => "{vault://v/a?ttl=1}".to_owned(),
                        other => format!("{{vault://v/k{other}}}{{vault://v/{tenant}}}"),
                    };
                    let own = [("authorization", "own"), ("x-tenant", &tenant), ("x-key", &key)];
                    // Without a rule for it, it is text.
                    let own = &own[..if requests.is_some() { 3 } else { 1 }];
                    let (context, action) = gateway.request_of(root, own);
                    last = Some(context);
                    if action == Action::Continue || gateway.status().is_none() {
                        check(&gateway)?;
                        let key = gateway.header("x-key").unwrap_or_default();
                        prop_assert!(!key.contains("vault://"), "{key}");
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
