use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Listen, parse};
use crate::environment::Environment;

fn error(yaml: &str) -> String {
    let environment = Arc::new(Environment::default());
    parse(yaml, &environment).expect_err(yaml).to_string()
}

#[test]
fn a_full_file() {
    let yaml = r#"
vaults:
  - name: env
    prefix: app
    description: d
    tags: [a, b]
    config: {prefix: APP_, ttl: 0, neg_ttl: 1, resurrect_ttl: 2, min_ttl: 3, max_ttl: 4,
             timeout: 6, base64_decode: true, allow_options: [prefix]}
listen: [{unix: /run/v.sock, mode: "0660", group: envoy}, "tcp://127.0.0.1:8205", "tcp://[::1]:1", {unix: s}]
clients: [{name: edge, peer: {uid: 101, gid: 5}, tokens: [x, "{vault://app/t}"], allow: ["app/*"], deny: ["env/AWS_*"]}]
"#;
    let config = parse(yaml, &Arc::new(Environment::default())).expect("a configuration");
    let settings = config.vaults.find("app").expect("the vault").settings();
    assert_eq!(settings.ttl, None);
    assert_eq!(settings.neg_ttl, Duration::from_secs(1));
    assert_eq!(settings.resurrect_ttl, Duration::from_secs(2));
    assert_eq!(settings.min_ttl, Duration::from_secs(3));
    assert_eq!(settings.max_ttl, Some(Duration::from_secs(4)));
    assert_eq!(settings.timeout, Duration::from_secs(6));
    assert!(settings.base64_decode);
    assert!(config.vaults.find("env").is_some(), "env is always there");
    assert!(config.vaults.find("fs").is_none() && config.vaults.find("hcv").is_none());
    let unix = |path: &str, mode, group: Option<&str>| Listen::Unix {
        path: PathBuf::from(path),
        mode,
        group: group.map(str::to_owned),
    };
    assert_eq!(
        config.listen,
        [
            unix("/run/v.sock", 0o660, Some("envoy")),
            Listen::Tcp("127.0.0.1:8205".parse().expect("an address")),
            Listen::Tcp("[::1]:1".parse().expect("an address")),
            unix("s", 0o600, None),
        ]
    );
    assert_eq!(config.clients.iter().count(), 1);
}

#[test]
fn what_a_file_leaves_out() {
    let config = parse("{}", &Arc::new(Environment::default())).expect("a configuration");
    let settings = config.vaults.find("env").expect("env").settings();
    assert_eq!(settings.ttl, Some(Duration::from_secs(300)));
    assert_eq!(settings.neg_ttl, Duration::from_secs(5));
    assert_eq!(settings.resurrect_ttl, Duration::from_secs(86_400));
    assert_eq!(settings.timeout, Duration::from_secs(5));
    assert!(config.clients.is_empty() && config.listen.is_empty());
}

#[test]
fn a_token_is_one_reference_or_none() {
    use crate::policy::Token;
    let literal = |text: &str| Some(text.to_owned());
    for (written, expected) in [
        ("one", literal("one")),
        ("{vault://env/t}", None),
        ("{vault://env/t?ttl=1#2}", None),
        ("{{vault://env/t}", literal("{vault://env/t}")),
        ("vault://env/t", literal("vault://env/t")),
        ("{{x}}", literal("{{x}}")),
    ] {
        let yaml = format!("clients: [{{name: a, tokens: [\"{written}\"]}}]");
        let config = parse(&yaml, &Arc::new(Environment::default())).expect(&yaml);
        let client = config.clients.iter().next().expect("one");
        let (given, reference) = match &client.tokens[..] {
            [Token::Given(secret)] => (secret.expose_text().map(str::to_owned), None),
            [Token::Reference(reference)] => (None, Some(reference.as_str())),
            _ => panic!("{written}: not one token"),
        };
        assert_eq!(given, expected, "{written}");
        assert_eq!(reference, expected.is_none().then_some(written));
    }
}

#[test]
fn errors_name_the_place_and_no_value() {
    for (yaml, start) in [
        ("vaults: [", "line "),
        ("a: 1\na: 2", "is not YAML"),
        ("- 1", "must be a mapping"),
        ("hunter2", "must be a mapping"),
        ("valts: []", "valts: unknown field"),
        ("vaults: {}", "vaults: must be a list"),
        ("vaults: [1]", "vaults[0]: must be a mapping"),
        ("vaults: [{}]", "vaults[0]: the field 'name' is missing"),
        (
            "vaults: [{name: hunter2}]",
            "vaults[0].name: unknown backend",
        ),
        ("vaults: [{name: env, x: 1}]", "vaults[0].x: unknown field"),
        (
            "vaults: [{name: env, id: 1}]",
            "vaults[0].id: unknown field",
        ),
        (
            "vaults: [{name: env, config: {x: 1}}]",
            "vaults[0].config.x: unknown field",
        ),
        (
            "vaults: [{name: env, config: {ttl: hunter2}}]",
            "vaults[0].config.ttl: must be a whole",
        ),
        (
            "vaults: [{name: env, config: {ttl: -1}}]",
            "vaults[0].config.ttl: must be a whole",
        ),
        (
            "vaults: [{name: env, config: {ttl: 1.5}}]",
            "vaults[0].config.ttl: must be a whole",
        ),
        (
            "vaults: [{name: env, config: {timeout: 0}}]",
            "vaults[0].config.timeout: must be",
        ),
        (
            "vaults: [{name: env, config: {min_ttl: 9, max_ttl: 8}}]",
            "vaults[0].config: 'max_ttl'",
        ),
        (
            "vaults: [{name: env, config: {ttl: 8, min_ttl: 9}}]",
            "vaults[0].config: 'ttl'",
        ),
        (
            "vaults: [{name: env, config: {base64_decode: 1}}]",
            "vaults[0].config.base64_decode: ",
        ),
        (
            "vaults: [{name: env, config: {allow_options: [ttl]}}]",
            "vaults[0].config.allow_options[0]: ",
        ),
        (
            "vaults: [{name: env, config: {prefix: 1hunter2}}]",
            "vaults[0].config.prefix: must be",
        ),
        (
            "vaults: [{name: env, config: {prefix: [hunter2]}}]",
            "vaults[0].config.prefix: must be text",
        ),
        (
            "vaults: [{name: env, prefix: env}]",
            "vaults[0].prefix: may not be",
        ),
        (
            "vaults: [{name: env, prefix: aws}]",
            "vaults[0].prefix: may not be",
        ),
        (
            "vaults: [{name: env, prefix: a}]",
            "vaults[0].prefix: must be",
        ),
        (
            "vaults: [{name: env, prefix: Ab}]",
            "vaults[0].prefix: must be",
        ),
        (
            "vaults: [{name: env, prefix: a-}]",
            "vaults[0].prefix: must be",
        ),
        (
            "vaults: [{name: env, prefix: 1a}]",
            "vaults[0].prefix: must be",
        ),
        (
            "vaults: [{name: env, prefix: aa}, {name: env, prefix: aa}]",
            "vaults[1]: another vault",
        ),
        (
            "vaults: [{name: env}, {name: env}]",
            "vaults[1]: another vault",
        ),
        (
            "vaults: [{name: fs}]",
            "vaults[0].config: the field 'prefix' is missing",
        ),
        (
            "vaults: [{name: fs, config: {prefix: tmp}}]",
            "vaults[0].config.prefix: cannot be used: no such file or directory",
        ),
        (
            "vaults: [{name: fs, config: {prefix: /nonexistent}}]",
            "vaults[0].config.prefix: cannot",
        ),
        (
            "vaults: [{name: fs, config: {prefix: /etc/passwd}}]",
            "vaults[0].config.prefix: is not a",
        ),
        (
            "vaults: [{name: fs, config: {prefix: /tmp, allow_options: [prefix]}}]",
            "vaults[0].config.allow_options[0]: ",
        ),
        (
            "vaults: [{name: hcv, config: {host: x}}]",
            "vaults[0].config: the field 'token' is missing",
        ),
        ("listen: [tcp://0.0.0.0:1]", "listen[0]: is no loopback"),
        ("listen: [tcp://10.0.0.1:1]", "listen[0]: is no loopback"),
        ("listen: [\"tcp://[::]:1\"]", "listen[0]: is no loopback"),
        ("listen: [tcp://example.com:1]", "listen[0]: must be tcp://"),
        (
            "listen: [http://127.0.0.1:1]",
            "listen[0]: must be a mapping",
        ),
        (
            "listen: [{unix: /a, mode: 660}]",
            "listen[0].mode: must be octal",
        ),
        (
            "listen: [{unix: /a, mode: \"0888\"}]",
            "listen[0].mode: must be octal",
        ),
        (
            "listen: [{unix: /a, mod: \"0\"}]",
            "listen[0].mod: unknown field",
        ),
        (
            "listen: [{mode: \"0\"}]",
            "listen[0]: the field 'unix' is missing",
        ),
        ("clients: [{name: a}]", "clients[0]: needs a 'peer'"),
        (
            "clients: [{name: a, peer: {}}]",
            "clients[0].peer: needs 'uid'",
        ),
        (
            "clients: [{name: a, peer: {uid: hunter2}}]",
            "clients[0].peer.uid: must be a whole",
        ),
        (
            "clients: [{name: a, tokens: [\"\"]}]",
            "clients[0].tokens[0]: must be one or more",
        ),
        (
            "clients: [{name: a, tokens: [\"hunter2 \"]}]",
            "clients[0].tokens[0]: must be one or more",
        ),
        (
            "clients: [{name: a, tokens: [\"{vault://nope/hunter2}\"]}]",
            "clients[0].tokens[0]: names an unknown vault",
        ),
        (
            "clients: [{name: a, tokens: [\"{vault://env}\"]}]",
            "clients[0].tokens[0]: the path is missing",
        ),
        (
            "clients: [{name: a, tokens: [\"hunter2{vault://env/t}\"]}]",
            "clients[0].tokens[0]: must be one reference",
        ),
        (
            "clients: [{name: a, tokens: [\"{vault://env/t}{vault://env/u}\"]}]",
            "clients[0].tokens[0]: must be one reference",
        ),
        (
            "clients: [{name: a, tokens: [t, \"hunter2{vault://env/t\"]}]",
            "clients[0].tokens[1]: the reference that starts here has no",
        ),
        (
            "clients: [{name: a, tokens: [t], allow: [env]}]",
            "clients[0].allow[0]: must be a vault",
        ),
        (
            "clients: [{name: a, tokens: [t], allow: [env/]}]",
            "clients[0].allow[0]: must be a vault",
        ),
        (
            "clients: [{name: a, tokens: [t], deny: [nope/*]}]",
            "clients[0].deny[0]: names an unknown vault",
        ),
        (
            "clients: [{name: a, tokens: [t]}, {name: a, tokens: [u]}]",
            "clients[1]: another client",
        ),
    ] {
        let error = error(yaml);
        assert!(
            error.starts_with(start) || error.contains(&format!(": {start}")),
            "{yaml}: {error}"
        );
        assert!(!error.contains("hunter2"), "{yaml}: {error}");
    }
}

#[test]
fn kongs_file_as_it_is() {
    let yaml = r#"
_format_version: "3.0"
services: [{name: s, url: "http://x"}]
vaults:
  - {name: env, prefix: my-env, id: 1, created_at: 2, updated_at: 3, tags: null, config: {prefix: SSL_, base64_decode: false}}
  - {name: hcv, prefix: hc, config: {protocol: https, host: v, port: 8200, mount: m, kv: v2, auth_method: token, token: t, namespace: null, ttl: 300}}
"#;
    let config = parse(yaml, &Arc::new(Environment::default())).expect("a configuration");
    assert!(config.vaults.find("my-env").is_some() && config.vaults.find("hc").is_some());
    assert!(error("services: []").starts_with("services: unknown field"));
}

#[test]
fn variables_fill_a_backend_that_is_used_by_its_own_name() {
    let environment = Arc::new(Environment::from([
        ("KONG_VAULT_FS_PREFIX", "/nonexistent"),
        ("VAULTREF_FS_PREFIX", "/tmp"),
        ("KONG_VAULT_FS_TTL", "7"),
        ("VAULTREF_FS_BASE64_DECODE", "true"),
        ("KONG_VAULT_NOBODYS_REGION", "not ours"),
        ("KONG_VAULT_ENV_PREFIX", "APP_"),
    ]));
    let config = parse("{}", &environment).expect("a configuration");
    let settings = config.vaults.find("fs").expect("fs").settings();
    assert_eq!(settings.ttl, Some(Duration::from_secs(7)));
    assert!(settings.base64_decode);
    // What the file says comes first; a vault with a prefix is not filled.
    let yaml =
        "vaults: [{name: fs, config: {ttl: 9}}, {name: fs, prefix: mine, config: {prefix: /}}]";
    let config = parse(yaml, &environment).expect("a configuration");
    let ttl = |name: &str| config.vaults.find(name).expect("a vault").settings().ttl;
    assert_eq!(ttl("fs"), Some(Duration::from_secs(9)));
    assert_eq!(ttl("mine"), Some(Duration::from_secs(300)));
    for (name, value, start) in [
        (
            "VAULTREF_FS_TTL",
            "hunter2",
            "VAULTREF_FS_TTL: must be a whole number",
        ),
        ("VAULTREF_HCV_HOTS", "hunter2", "VAULTREF_HCV_"),
        ("VAULTREF_ENV_X", "hunter2", "VAULTREF_ENV_X: unknown field"),
    ] {
        let environment = Arc::new(Environment::from([(name, value)]));
        let error = parse("{}", &environment).expect_err(name).to_string();
        assert!(
            error.starts_with(start) && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn a_vaults_field_may_be_a_reference_and_all_else_is_still_checked() {
    let parsed = |yaml: &str| parse(yaml, &Arc::new(Environment::default()));
    let good = "vaults: [{name: hcv, prefix: pay, config: {token: \"{vault://env/token}\", \
        host: \"{vault://env/host}\", port: \"{vault://env/port}\", auth_method: token}}]";
    let config = parsed(good).expect("a configuration");
    let vault = config.vaults.find("pay").expect("the vault");
    let unread = vault.backend().err().expect("not read yet");
    assert!(unread.cause.contains("have not been read yet"));
    for (yaml, expected) in [
        (
            "{name: hcv, prefix: pay, config: {token: \"{vault://env/t}\", port: 0}}",
            "vaults[0].config.port: must be a whole number",
        ),
        (
            "{name: hcv, prefix: pay, config: {token: \"{vault://env/t}\", hots: x}}",
            "vaults[0].config.hots: unknown field",
        ),
        (
            "{name: hcv, prefix: pay, config: {token: \"{vault://env}\"}}",
            "vaults[0].config.token: ",
        ),
        (
            "{name: hcv, prefix: pay, config: {token: \"{vault://nowhere/t}\"}}",
            "vault 'pay': a field refers to the vault 'nowhere', which is unknown",
        ),
        (
            "{name: fs, prefix: me, config: {prefix: \"/x/{vault://me/y}\"}}",
            "vault 'me': needs itself to be read: me -> me",
        ),
        (
            "{name: fs, prefix: aa, config: {prefix: \"{vault://bb/y}\"}}, \
             {name: fs, prefix: bb, config: {prefix: \"{vault://aa/y}\"}}",
            "vault 'aa': needs itself to be read: aa -> bb -> aa",
        ),
    ] {
        let error = parsed(&format!("vaults: [{yaml}]"))
            .expect_err(yaml)
            .to_string();
        assert!(error.starts_with(expected), "{yaml}: {error}");
    }
}
