//! Every scenario ends with a look for its values in all that was logged or shown. Here: that the look
//! finds what it should.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Result;
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::daemon::Daemon;
use vaultref_scenarios::envoy::{Envoy, WasmFilter};
use vaultref_scenarios::upstream::Upstream;
use vaultref_scenarios::world::{Kind, Plan, World};
use vaultref_scenarios::{paths, wait};

use crate::in_every_gateway;

in_every_gateway!(
    what_a_daemon_logged_before_it_was_killed_is_looked_at,
    what_the_gateway_logs_is_looked_at,
);

/// A world in which this word, which stands somewhere, is a value.
fn world(kind: Kind, value: &str) -> Result<World> {
    let set = json!({ "x-marked": "a-marked-literal", "authorization": "{vault://files/token}" });
    Plan::new(kind, json!({ "request": { "set": { "headers": set } } }))
        .file("token", value)
        .quiet()
        .start()
}

/// The end of a scenario that nothing else is wrong with.
fn fails_at_its_end(world: World) -> bool {
    catch_unwind(AssertUnwindSafe(|| drop(world))).is_err()
}

fn what_a_daemon_logged_before_it_was_killed_is_looked_at(kind: Kind) -> Result<()> {
    let mut world = world(kind, "vaultref is ready")?;
    let process = world.daemon().process()?;
    process.wait_for_line("vaultref is ready", wait::SOON)?;
    world.daemon().kill();
    assert!(fails_at_its_end(world));
    Ok(())
}

fn what_the_gateway_logs_is_looked_at(kind: Kind) -> Result<()> {
    let mut world = world(kind, "the resolver has answered for all")?;
    world.until_every_vm_has_answers()?;
    assert!(fails_at_its_end(world));
    Ok(())
}

/// Which has the filter's configuration in it, but no token.
#[test]
fn what_envoys_admin_interface_shows_is_looked_at() -> Result<()> {
    assert!(fails_at_its_end(world(Kind::Envoy, "a-marked-literal")?));
    let mut world = world(Kind::Envoy, "ours")?;
    world.send(&Request::get("/"))?.upstream()?;
    assert!(!fails_at_its_end(world));
    Ok(())
}

/// What filter/README.md tells people to log where a secret goes into the query string, whose path is
/// the client's no longer. (Envoy's own format has it in the log.)
#[test]
fn the_access_log_of_the_documentation_has_no_query_string() -> Result<()> {
    fn manager(listener: &mut Value) -> &mut Value {
        &mut listener["filter_chains"][0]["filters"][0]["typed_config"]
    }
    fn logged(listener: &mut Value) {
        manager(listener)["access_log"] = json!([{
            "name": "stdout",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                "log_format": { "text_format_source": {
                    "inline_string": "logged: %REQ(:METHOD)% %PATH(NQ:ORIG_OR_PATH)% %RESPONSE_CODE%\n",
                }},
            },
        }]);
    }
    fn rewritten(listener: &mut Value) {
        logged(listener);
        let route = "/route_config/virtual_hosts/0/routes/0/route";
        if let Some(route) = manager(listener).pointer_mut(route) {
            route["prefix_rewrite"] = json!("/new/");
        }
    }
    let documentation = std::fs::read_to_string(paths::root().join("filter/README.md"))?;
    assert!(documentation.contains("`%PATH(NQ:ORIG_OR_PATH)%`"));
    let daemon = Daemon::with_vaults(&json!([]))?
        .env("MAPS_KEY", "key-of-maps")
        .started()?;
    let filter = json!({
        "resolver": { "upstream": "vaultref" },
        "request": { "set": { "querystring": { "key": "{vault://env/maps-key}" } } },
    });
    for (adjust, path) in [
        (logged as fn(&mut Value), "/x?y=1&key=key-of-maps"),
        (rewritten, "/new/x?y=1&key=key-of-maps"),
    ] {
        let upstream = Upstream::start()?;
        let envoy = Envoy::setup()
            .filter(WasmFilter::new(paths::module("vaultref-envoy.wasm")?).json(&filter))
            .resolver(daemon.socket().as_path())
            .upstream(upstream.address())
            .adjust_listener(adjust)
            .start()?;
        assert_eq!(envoy.send(&Request::get("/x?y=1"))?.status, 200);
        assert_eq!(upstream.last()?.path, path);
        let log = envoy.process();
        let line = log.wait_for_line("logged: ", wait::SOON)?;
        assert_eq!(line, "logged: GET /x 200");
        assert!(!envoy.log().contains("key-of-maps"), "{}", envoy.log());
    }
    Ok(())
}
