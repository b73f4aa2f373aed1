//! Which value goes where: whole and embedded references, keys, versions, query strings, basic auth,
//! and the client's own credential that it takes the place of.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use vaultref_scenarios::client::Request;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::world::{Kind, Plan};

use crate::in_every_gateway;

in_every_gateway!(
    a_bad_file_for_headers_is_never_sent,
    a_clients_own_authorization_is_overwritten,
    a_clients_own_authorization_that_comes_twice_is_gone,
    a_second_value_behind_many_headers_is_no_way_around,
    an_empty_value_counts_as_present,
    a_query_string_is_written,
    all_six_verbs_do_what_request_transformer_does,
    basic_auth_is_made_of_two_references,
    keys_and_trailing_slashes_choose_within_an_object,
    one_string_holds_several_references,
    one_that_is_written_never_stands_behind_a_semicolon_too,
    openbao_gives_keys_and_versions,
    whole_and_embedded_references_are_replaced,
);

/// The other file is for nginx, but it must not be wrong where somebody has one file for all.
#[test]
fn the_file_for_every_gateway_runs_in_envoy_too() -> Result<()> {
    let kind = Kind::EnvoyWithEveryGatewaysFile;
    whole_and_embedded_references_are_replaced(kind)?;
    all_six_verbs_do_what_request_transformer_does(kind)
}

fn whole_and_embedded_references_are_replaced(kind: Kind) -> Result<()> {
    let set = json!({
        "authorization": "Bearer {vault://files/token}",
        "x-plain": "no reference",
        "x-whole": "{vault://files/token}",
        "x-literal": "{{vault://files/token}",
        "x-env": "{vault://env/my-secret}",
    });
    let mut world = Plan::new(kind, json!({ "request": { "set": { "headers": set } } }))
        .file("token", "s3cr3t\n")
        .env("MY_SECRET", "from-env")
        .start()?;
    for _ in 0..3 {
        let got = world
            .send(&Request::get("/x?y=1").header("x-own", "kept"))?
            .upstream()?;
        assert_eq!(
            got.header("authorization").as_deref(),
            Some("Bearer s3cr3t")
        );
        assert_eq!(got.header("x-whole").as_deref(), Some("s3cr3t"));
        assert_eq!(got.header("x-plain").as_deref(), Some("no reference"));
        assert_eq!(
            got.header("x-literal").as_deref(),
            Some("{vault://files/token}")
        );
        assert_eq!(got.header("x-env").as_deref(), Some("from-env"));
        assert_eq!(got.header("x-own").as_deref(), Some("kept"));
        assert_eq!(got.path, "/x?y=1");
    }
    Ok(())
}

fn one_string_holds_several_references(kind: Kind) -> Result<()> {
    let set = json!({ "x-both": "<{vault://files/a}>{{{vault://files/b}}{vault://files/a}" });
    let mut world = Plan::new(kind, json!({ "request": { "set": { "headers": set } } }))
        .file("a", "1")
        .file("b", "2")
        .start()?;
    let got = world.send(&Request::get("/"))?.upstream()?;
    assert_eq!(got.header("x-both").as_deref(), Some("<1>{2}1"));
    Ok(())
}

fn keys_and_trailing_slashes_choose_within_an_object(kind: Kind) -> Result<()> {
    let set = json!({
        "x-key": "{vault://files/app/db/user}",
        "x-object": "{vault://files/app/db/}",
        "x-pointer": "{vault://files/app/db/%2Fpool%2Fpassword}",
        "x-flat-wins": "{vault://files/app/db/%2Fflat}",
        "x-folder": "{vault://files/app/plain/}",
        "x-decoded": "{vault://files/app%2Fplain}",
    });
    let db =
        r#"{"user":"alice","pool":{"password":"deep-one"},"/flat":"flat-one","flat":"wrong-one"}"#;
    let mut world = Plan::new(kind, json!({ "request": { "set": { "headers": set } } }))
        .file("app/db", db)
        .file("app/plain", "plain-text")
        .start()?;
    let got = world.send(&Request::get("/"))?.upstream()?;
    assert_eq!(got.header("x-key").as_deref(), Some("alice"));
    assert_eq!(got.header("x-object").as_deref(), Some(db));
    assert_eq!(got.header("x-pointer").as_deref(), Some("deep-one"));
    assert_eq!(got.header("x-flat-wins").as_deref(), Some("flat-one"));
    assert_eq!(got.header("x-folder").as_deref(), Some("plain-text"));
    assert_eq!(got.header("x-decoded").as_deref(), Some("plain-text"));
    Ok(())
}

fn openbao_gives_keys_and_versions(kind: Kind) -> Result<()> {
    let bao = OpenBao::start()?;
    bao.put(KV2_MOUNT, "stripe", &json!({ "token": "old-token" }))?;
    bao.put(
        KV2_MOUNT,
        "stripe",
        &json!({ "token": "new-token", "id": "7" }),
    )?;
    bao.mount_kv("first", 1)?;
    bao.put_v1("first", "app/key", &json!({ "value": "kv-one" }))?;
    let token = bao.create_reader("edge", &["secret/data", "first"])?;
    let set = json!({
        "authorization": "Bearer {vault://payments/stripe/token}",
        "x-old": "{vault://payments/stripe/token#1}",
        "x-first": "{vault://first/app/key/value}",
    });
    let mut world = Plan::new(kind, json!({ "request": { "set": { "headers": set } } }))
        .vault(json!({
            "name": "hcv", "prefix": "payments", "config": bao.vault_config(KV2_MOUNT, "v2", &token),
        }))
        .vault(json!({
            "name": "hcv", "prefix": "first", "config": bao.vault_config("first", "v1", &token),
        }))
        .start()?;
    for value in ["old-token", "new-token", "kv-one"] {
        world.keep(value);
    }
    let got = world.send(&Request::get("/"))?.upstream()?;
    assert_eq!(
        got.header("authorization").as_deref(),
        Some("Bearer new-token")
    );
    assert_eq!(got.header("x-old").as_deref(), Some("old-token"));
    assert_eq!(got.header("x-first").as_deref(), Some("kv-one"));
    Ok(())
}

fn a_query_string_is_written(kind: Kind) -> Result<()> {
    let filter = json!({ "request": {
        "add": { "querystring": { "key": "{vault://files/key}", "there": "{vault://files/key}" } },
        "set": { "querystring": { "api key": "{vault://files/key}" } },
        "remove": { "querystring": ["gone"] },
        "rename": { "querystring": { "old": "new" } },
    }});
    let mut world = Plan::new(kind, filter).file("key", "a b&c=d/é%").start()?;
    let sent = "/p%20q?there=1&gone=x&api%20key=mine&api+key=mine2&gone&keep=%41&new=mine3&old=o";
    let got = world.send(&Request::get(sent))?.upstream()?;
    let written = "a%20b%26c%3Dd%2F%C3%A9%25";
    let (path, query) = got.path.split_once('?').unwrap_or((&got.path, ""));
    assert_eq!(path, "/p%20q");
    let mut pairs: Vec<_> = query.split('&').collect();
    pairs.sort_unstable();
    let (api_key, key) = (format!("api%20key={written}"), format!("key={written}"));
    assert_eq!(
        pairs,
        [
            api_key.as_str(),
            "keep=%41",
            key.as_str(),
            "new=o",
            "there=1"
        ]
    );

    let got = world.send(&Request::get("/none"))?.upstream()?;
    assert!(got.path.starts_with("/none?"), "{}", got.path);
    assert!(
        got.path.contains(&format!("there={written}")),
        "{}",
        got.path
    );
    Ok(())
}

fn one_that_is_written_never_stands_behind_a_semicolon_too(kind: Kind) -> Result<()> {
    let filter = json!({ "request": {
        "set": { "querystring": { "key": "{vault://files/key}" } },
        "remove": { "querystring": ["debug"] },
    }});
    let mut world = Plan::new(kind, filter).file("key", "ours").start()?;
    for path in [
        "/?a=1;key=mine",
        "/?key=1&a;%6Bey=mine",
        "/?a=1;debug=1",
        "/?key;a=1",
    ] {
        let seen = world.send(&Request::get(path))?;
        assert!(seen.has_status(400), "{path}: {seen:?}");
    }
    // To most servers it is a character like any other.
    let got = world.send(&Request::get("/?a=1;b=2&key=1;b"))?.upstream()?;
    assert_eq!(got.path, "/?a=1;b=2&key=ours");
    Ok(())
}

fn basic_auth_is_made_of_two_references(kind: Kind) -> Result<()> {
    let filter = json!({ "rules": [{ "basic_auth": {
        "username": "{vault://files/pg/username}",
        "password": "x{vault://files/pg/password}",
    }}]});
    let pg = json!({ "username": "åke", "password": "p:w" }).to_string();
    let mut world = Plan::new(kind, filter).file("pg", pg).start()?;
    let request = Request::get("/").header("Authorization", "Basic bWluZTptaW5l");
    let got = world.send(&request)?.upstream()?;
    let expected = format!("Basic {}", STANDARD.encode("åke:xp:w"));
    assert_eq!(got.header("authorization"), Some(expected));
    Ok(())
}

fn a_clients_own_authorization_is_overwritten(kind: Kind) -> Result<()> {
    let set = json!({ "authorization": "Bearer {vault://files/token}" });
    let mut world = Plan::new(kind, json!({ "request": { "set": { "headers": set } } }))
        .file("token", "ours")
        .start()?;
    for name in ["authorization", "Authorization", "AUTHORIZATION"] {
        let got = world
            .send(&Request::get("/").header(name, "Bearer mine"))?
            .upstream()?;
        assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
        assert!(!got.dump().contains("mine"), "{}", got.dump());
    }
    Ok(())
}

fn a_clients_own_authorization_that_comes_twice_is_gone(kind: Kind) -> Result<()> {
    let set = json!({ "authorization": "Bearer {vault://files/token}" });
    let mut world = Plan::new(kind, json!({ "request": { "set": { "headers": set } } }))
        .file("token", "ours")
        .start()?;
    let request = Request::get("/")
        .header("authorization", "Bearer mine-1")
        .header("authorization", "Bearer mine-2");
    for _ in 0..2 {
        let seen = world.send(&request)?;
        if kind.is_nginx() {
            // A set changes only the first there, so such a request cannot be let through.
            assert_eq!(seen.local()?.status, 400);
            continue;
        }
        let got = seen.upstream()?;
        assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
        assert!(!got.dump().contains("mine"), "{}", got.dump());
    }
    Ok(())
}

fn a_second_value_behind_many_headers_is_no_way_around(kind: Kind) -> Result<()> {
    let set = json!({ "x-api-key": "{vault://files/token}" });
    let mut world = Plan::new(kind, json!({ "request": { "set": { "headers": set } } }))
        .file("token", "ours")
        .start()?;
    // nginx shows a filter a hundred headers and keeps silent about the rest.
    let fillers = (0..90).fold(
        Request::get("/").header("x-api-key", "mine"),
        |request, n| request.header(format!("x-{n}"), "1"),
    );
    let hidden = (90..120).fold(fillers.clone(), |request, n| {
        request.header(format!("x-{n}"), "1")
    });
    let hidden = hidden.header("x-api-key", "mine-too");
    for _ in 0..2 {
        if kind == Kind::HarnessNginx {
            assert!(world.send(&hidden)?.has_status(400));
        }
        let got = world.send(&fillers)?.upstream()?;
        assert_eq!(got.header_values("x-api-key"), ["ours"]);
    }
    Ok(())
}

fn an_empty_value_counts_as_present(kind: Kind) -> Result<()> {
    let filter = json!({ "request": {
        "replace": { "headers": { "x-replace": "{vault://files/token}" } },
        "add": { "headers": { "x-add": "{vault://files/token}" } },
    }});
    let mut world = Plan::new(kind, filter).file("token", "ours").start()?;
    let request = Request::get("/")
        .header("x-replace", "")
        .header("x-add", "");
    for _ in 0..3 {
        let got = world.send(&request)?.upstream()?;
        assert_eq!(got.header_values("x-replace"), ["ours"]);
        assert_eq!(got.header_values("x-add"), [""]);
    }
    if !kind.is_nginx() {
        let twice = request.header("x-replace", "mine");
        let got = world.send(&twice)?.upstream()?;
        assert_eq!(got.header_values("x-replace"), ["ours"]);
    }
    Ok(())
}

fn all_six_verbs_do_what_request_transformer_does(kind: Kind) -> Result<()> {
    let mut request = json!({
        "add": { "headers": { "x-add": "{vault://files/v}", "x-add-there": "{vault://files/v}" } },
        "append": { "headers": { "x-append": "{vault://files/v}", "x-append-none": "{vault://files/v}" } },
        "replace": { "headers": { "x-replace": "{vault://files/v}", "x-replace-none": "{vault://files/v}" } },
        "set": { "headers": { "x-set": "{vault://files/v}" } },
    });
    if !kind.is_nginx() {
        request["remove"] = json!({ "headers": ["x-remove"] });
        request["rename"] = json!({ "headers": { "x-old": "x-new" } });
    }
    let mut world = Plan::new(kind, json!({ "request": request }))
        .file("v", "v4lue")
        .start()?;
    let sent = Request::get("/")
        .header("x-add-there", "own")
        .header("x-append", "own")
        .header("x-replace", "own")
        .header("x-set", "own")
        .header("x-remove", "own")
        .header("x-old", "moved");
    // The first waits and is guarded, the later ones find the values ready: the same comes out.
    for _ in 0..3 {
        let got = world.send(&sent)?.upstream()?;
        let values = |name: &str| got.header_values(name);
        assert_eq!(values("x-add"), ["v4lue"]);
        assert_eq!(values("x-add-there"), ["own"]);
        assert_eq!(values("x-append"), ["own", "v4lue"]);
        assert_eq!(values("x-append-none"), ["v4lue"]);
        assert_eq!(values("x-replace"), ["v4lue"]);
        assert_eq!(values("x-replace-none"), [""; 0]);
        assert_eq!(values("x-set"), ["v4lue"]);
        if !kind.is_nginx() {
            assert_eq!(values("x-remove"), [""; 0]);
            assert_eq!(values("x-old"), [""; 0]);
            assert_eq!(values("x-new"), ["moved"]);
        }
    }
    Ok(())
}

fn a_bad_file_for_headers_is_never_sent(kind: Kind) -> Result<()> {
    let rules: Vec<_> = ["cr", "lf", "nul", "fine"]
        .iter()
        .map(|name| {
            json!({
                "match": { "path_prefix": format!("/{name}") },
                "request": { "set": { "headers": { "x-secret": format!("{{vault://files/{name}}}") } } },
            })
        })
        .collect();
    let mut world = Plan::new(kind, json!({ "rules": rules }))
        .file("cr", "evil\rx-injected: 1")
        .file("lf", "evil\r\nx-injected: 1")
        .file("nul", "evil\0tail")
        .file("fine", b"\xff\xe9 raw octets\tafter a tab")
        .start()?;
    for name in ["cr", "lf", "nul"] {
        for _ in 0..2 {
            let response = world.send(&Request::get(format!("/{name}")))?.local()?;
            assert_eq!(response.status, 503, "{name}");
            assert!(!response.dump().contains("evil"), "{}", response.dump());
        }
    }
    let got = world.send(&Request::get("/fine"))?.upstream()?;
    let value = got
        .headers
        .iter()
        .find(|(name, _)| name == "x-secret")
        .map(|(_, value)| &value[..]);
    assert_eq!(value, Some(&b"\xff\xe9 raw octets\tafter a tab"[..]));
    Ok(())
}
