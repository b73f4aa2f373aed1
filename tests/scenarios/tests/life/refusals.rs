//! A vault that says no: what is forbidden or gone ends, and a login that has only run out does not.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use vaultref_scenarios::client::Request;
use vaultref_scenarios::front::Front;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::upstream::Reply;
use vaultref_scenarios::wait;

use crate::bed::{Bed, Lost, put};
use crate::outages::Fronted;

const LOGIN: &str = "/v1/auth/approle/login";

/// All tokens that were given for such a login are worthless then.
const TOKENS: &str = "sys/leases/revoke-prefix/auth/approle/login";

/// As the backend has it.
const YOUNG: Duration = Duration::from_secs(5);

/// Somebody else takes the daemon's token away: it logs in anew, and nobody notices.
/// Then its way to log in is taken away as well.
#[test]
fn a_token_that_is_revoked_is_replaced_and_a_login_that_is_denied_ends_it() -> Result<()> {
    let bao = OpenBao::start()?;
    put(&bao, 0)?;
    bao.put_policy(
        "edge",
        "path \"secret/data/*\" { capabilities = [\"read\"] }",
    )?;
    bao.enable_auth("approle", "approle")?;
    let role = json!({ "token_policies": ["edge"], "token_no_default_policy": true });
    let role_id = bao.app_role("approle", "edge", &role)?;
    let secret_id = bao.secret_id("approle", "edge")?;
    let front = Front::of(bao.address())?;
    let address = front.address();
    let mut bed = Bed::start(
        json!({
            "protocol": "http", "host": address.ip().to_string(), "port": address.port(),
            "mount": KV2_MOUNT, "kv": "v2", "auth_method": "approle",
            "approle_role_id": role_id, "approle_secret_id": secret_id,
        }),
        |plan| plan,
    )?;
    let mut lost = Lost::default();
    let logged_in = Instant::now();
    let load = bed.load()?;
    bed.until_sent(0)?;
    until_old_enough(logged_in)?;
    bao.configure(TOKENS, &json!({ "sync": true }))?;
    bed.over();
    bed.put(&bao)?;
    let fresh = bed.until_fresh()?;
    let logged_in = Instant::now();
    ensure!(front.count(LOGIN) == 2, "one login for one refusal");
    lost.none_of(load, "revoked", &bed)?;
    lost.show(
        "403, the token was revoked",
        "the new value, after a new login",
        "nothing",
        Some(fresh),
    );

    // Now the login is denied, too: what was read is not to be used any more.
    until_old_enough(logged_in)?;
    bao.call("DELETE", "auth/approle/role/edge", None)?;
    bao.configure(TOKENS, &json!({ "sync": true }))?;
    bed.over();
    let request = Request::get("/");
    bed.world
        .eventually("a refusal", &request, |seen| seen.has_status(503))?;
    let took = bed.since();
    ensure!(took < Duration::from_secs(5), "{took:?}");
    let says = bed.says();
    ensure!(
        says.contains("dropped") && says.contains("denied"),
        "{says}"
    );
    Lost::default().show(
        "403, and the login is denied",
        &format!("503, after {:.1} s", took.as_secs_f64()),
        &says,
        None,
    );
    bed.only_values()
}

/// A refusal says nothing about a login that was made just now.
fn until_old_enough(logged_in: Instant) -> Result<()> {
    wait::until_true("a login that is no young one", wait::SOON, || {
        logged_in.elapsed() > YOUNG
    })
}

#[test]
fn what_is_forbidden_or_gone_ends_at_once_or_after_its_grace() -> Result<()> {
    let mut fronted = Fronted::new()?;
    let request = Request::get("/");
    for (code, errors, what) in [
        (403, json!(["permission denied"]), "403"),
        (404, json!([]), "404"),
    ] {
        let body = json!({ "errors": errors }).to_string();
        fronted.set(Some(Arc::new(move |_| Reply::status(code).body(&body))));
        fronted.bed.over();
        let world = &mut fronted.bed.world;
        world.eventually("a refusal", &request, |seen| seen.has_status(503))?;
        let took = fronted.bed.since();
        let says = fronted.bed.says();
        ensure!(says.contains("dropped"), "{says}");
        fronted.set(None);
        fronted.bed.over();
        let world = &mut fronted.bed.world;
        // By every worker: which of them a request comes to is chance.
        let served = Cell::new(0);
        world.eventually("service", &request, |seen| {
            let before = if seen.has_status(503) {
                0
            } else {
                served.get() + 1
            };
            served.set(before);
            before == 20
        })?;
        let fresh = fronted.bed.since();
        let clients = format!("503, after {:.1} s", took.as_secs_f64());
        Lost::default().show(what, &clients, &says, Some(fresh));
    }
    fronted.bed.only_values()
}
