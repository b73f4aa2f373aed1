//! `examples/nginx-wasm`, in the harness as nginx without Kong.

use std::fs;

use anyhow::{Context, Result};
use vaultref_filter::{Callbacks, Kind};
use vaultref_harness::{NginxOptions, Profile};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Harness, Kind as Gateway, Seen};

use crate::{Example, TOKEN, VARIABLE};

#[test]
fn the_parameter_is_one_that_nginx_and_the_filter_read() -> Result<()> {
    let example = Example::new("nginx-wasm")?;
    let original = example.original("nginx.conf")?;
    let parameter = parameter(&original)?;
    // (nginx would take a backslash for an escape, and the test reads none.)
    assert!(parameter.len() < 4096 && !parameter.contains('\\'));
    assert!(original.contains(&format!("\nenv {VARIABLE};")));
    let token = |name: &str| (name == VARIABLE).then(|| TOKEN.to_owned());
    vaultref_filter::check(parameter.as_bytes(), Kind::Nginx, Callbacks::Every, token)?;
    example.check(&["nginx.conf", "vaultref.yaml"])
}

#[test]
fn in_the_harness_as_nginx_it_does_what_the_readme_says() -> Result<()> {
    let example = Example::new("nginx-wasm")?;
    let text = example.text("nginx.conf")?;
    let options = NginxOptions {
        // There is no zone in the example.
        shm_kv: false,
        ..NginxOptions::plain()
    };
    let path = |received: &str| received == "/v1/x?a=1";
    plays(&example, parameter(&text)?, options, path)
}

/// Runs an example in the harness as nginx: the client's credential is replaced by the first token,
/// then by the second, and then the request is refused; what no rule is for goes on.
pub(crate) fn plays(
    example: &Example,
    configuration: &str,
    options: NginxOptions,
    has_path: impl Fn(&str) -> bool,
) -> Result<()> {
    example.secret("stripe-token", "first-token")?;
    let _daemon = example.daemon()?;
    let setup = Harness::setup(Gateway::HarnessNginx, 2)?
        .profile(Profile::Nginx(options))
        .env(VARIABLE, TOKEN)
        .plugin(Harness::plugin(configuration));
    let mut gateway = Harness::start(setup, 2)?;
    let own = Request::get("/v1/x?a=1").header("authorization", "Bearer mine");
    let mut until = |what: &str, request: &Request, expected: &dyn Fn(&Seen) -> bool| {
        wait::until(what, wait::SOON, || {
            gateway.tick();
            let seen = gateway.send(request)?;
            Ok(expected(&seen).then_some(seen))
        })
    };
    let first = until("the first token", &own, &|seen| {
        seen.has_authorization("Bearer first-token")
    })?
    .upstream()?;
    assert!(has_path(&first.path), "{}", first.dump());
    example.secret("stripe-token", "second-token")?;
    until("the second token", &own, &|seen| {
        seen.has_authorization("Bearer second-token")
    })?;
    let other = Request::get("/v2/x").header("authorization", "Bearer mine");
    until("a request of no rule", &other, &|seen| {
        seen.has_authorization("Bearer mine")
    })?;
    fs::remove_file(example.dir.path().join("secrets/stripe-token"))?;
    until("a refusal", &own, &|seen| seen.has_status(503))?;
    Ok(())
}

/// What follows `proxy_wasm vaultref`, in single quotes.
fn parameter(text: &str) -> Result<&str> {
    let (_, rest) = text
        .split_once("proxy_wasm vaultref '")
        .context("a filter")?;
    let (parameter, _) = rest.split_once("';").context("its end")?;
    Ok(parameter)
}
