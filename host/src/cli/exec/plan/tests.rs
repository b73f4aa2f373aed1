use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use super::*;
use crate::config;
use crate::resolver::Resolver;

/// What the command gets: `name=value`, files as `name<value`.
async fn filled(
    variables: Vec<(OsString, OsString)>,
    files: &[&str],
    for_kong: bool,
) -> Result<Vec<String>, Report> {
    let environment = Arc::new(Environment::new(variables));
    let files: Vec<_> = files.iter().map(|&name| name.to_owned()).collect();
    let plan = Plan::new(&environment, &files, for_kong)?;
    let config = config::without_file(&environment).expect("a configuration");
    let resolver = Resolver::new(config.vaults, 1, tokio::runtime::Handle::current());
    let values = Values::read(&resolver, plan.references()).await;
    let filled = plan.filled(&values)?;
    let show = |mark: &str, (name, value): &(OsString, Secret)| {
        let value = String::from_utf8_lossy(value.expose()).into_owned();
        format!("{}{mark}{value}", name.to_string_lossy())
    };
    let variables = filled.variables.iter().map(|pair| show("=", pair));
    let files = filled.files.iter().map(|pair| show("<", pair));
    Ok(variables.chain(files).collect())
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[tokio::test]
async fn only_what_has_references_changes() {
    let set = variables(&[
        ("A", "{vault://env/value}"),
        ("B", "x{vault://env/value}y{vault://env/value}"),
        ("C", "{{vault://env/value}"),
        ("PLAIN", "{x} vault://env/value"),
        ("VALUE", "secret"),
        ("VAULTREF_CONFIG", "{vault://env/value}"),
        ("VAULTREF_TOKEN", "{vault://env/value}"),
    ]);
    assert_eq!(
        filled(set, &[], false).await.expect("all is there"),
        [
            "A=secret",
            "B=xsecretysecret",
            "C={vault://env/value}",
            "VAULTREF_TOKEN=secret",
        ]
    );
}

#[test]
fn what_configures_us_is_no_business_of_the_command() {
    for (name, expected) in [
        ("KONG_VAULT_ENV_PREFIX", true),
        ("VAULTREF_CONFIG", true),
        ("VAULTREF_ENV_PREFIX", true),
        ("KONG_PG_PASSWORD", false),
        ("VAULTREF_ENVOY", false),
        ("VAULTREF_KONG_PG_PASSWORD", false),
        ("VAULTREF_TOKEN", false),
    ] {
        assert_eq!(configures_us(OsStr::new(name)), expected, "{name}");
    }
}

#[tokio::test]
async fn names_and_values_that_are_no_text_are_taken_as_they_are() {
    let odd = OsString::from_vec(b"\xff\xfe".to_vec());
    let mut value = OsString::from("{vault://env/value}");
    value.push(&odd);
    let set = vec![
        (odd, value),
        ("VALUE".into(), OsString::from_vec(b"\x80".to_vec())),
    ];
    let environment = Arc::new(Environment::new(set));
    let plan = Plan::new(&environment, &[], false).expect("a plan");
    let config = config::without_file(&environment).expect("a configuration");
    let resolver = Resolver::new(config.vaults, 1, tokio::runtime::Handle::current());
    let values = Values::read(&resolver, plan.references()).await;
    let filled = plan.filled(&values).expect("all is there");
    let [(name, value)] = &*filled.variables else {
        panic!("{filled:?}")
    };
    assert_eq!(name.as_bytes(), b"\xff\xfe");
    assert_eq!(value.expose(), b"\x80\xff\xfe");
}

#[tokio::test]
async fn for_kong_a_setting_becomes_a_reference_to_its_own_vault() {
    let mut set = variables(&[
        ("KONG_PG_DSN", "host=a password={vault://env/pg-password}"),
        ("KONG_SSL_CERT", "{vault://env/ssl-cert}"),
        ("KONG_LITERAL", "{{vault://hcv/a}"),
        ("REDIS_PASSWORD", "{vault://env/pg-password}"),
        ("KONG_KEY", "{vault://env/pg-password}"),
        ("PG_PASSWORD", "secret"),
        ("SSL_CERT", "pem"),
    ]);
    let found = filled(set.clone(), &["KONG_KEY"], true)
        .await
        .expect("all is there");
    assert_eq!(
        found,
        [
            "KONG_LITERAL={vault://hcv/a}",
            "KONG_PG_DSN={vault://env/vaultref-kong-pg-dsn}",
            "VAULTREF_KONG_PG_DSN=host=a password=secret",
            "REDIS_PASSWORD=secret",
            "KONG_KEY<secret",
        ]
    );
    set.extend(variables(&[("VAULTREF_KONG_PG_DSN", "taken")]));
    let report = filled(set, &[], true).await.expect_err("a name is taken");
    assert!(
        format!("{report:?}")
            .contains("KONG_PG_DSN: its value would be put into VAULTREF_KONG_PG_DSN")
    );
}

#[test]
fn kongs_own_prefix_is_heeded() {
    let environment = Environment::from([("KONG_VAULT_ENV_PREFIX", "my-")]);
    let text = Text::parse(b"{vault://hcv/a/b}").expect("a text");
    assert_eq!(
        for_kong_itself(OsStr::new("KONG_PG_PASSWORD"), &text, &environment),
        Some(Into::Other {
            name: "MY_VAULTREF_KONG_PG_PASSWORD".to_owned(),
            reference: "{vault://env/vaultref-kong-pg-password}".to_owned(),
        })
    );
}

#[tokio::test]
async fn one_report_names_all_that_fails_and_no_value() {
    let set = variables(&[
        ("A", "secret-around{vault://env/none}{vault://nope/x}"),
        ("B", "secret-around{vault://}"),
    ]);
    let report = filled(set.clone(), &["NONE"], false)
        .await
        .expect_err("unreadable");
    let shown = format!("{report:?}");
    assert!(shown.contains("B: invalid-reference: ") && shown.contains("NONE: there is no such"));
    assert!(!shown.contains("secret-around"));
    let set = set.into_iter().filter(|(name, _)| name == "A").collect();
    let shown = format!(
        "{:?}",
        filled(set, &[], false).await.expect_err("unresolved")
    );
    for part in [
        "A: {vault://env/none}: not-found: the variable is not set",
        "A: {vault://nope/x}: unknown-vault: ",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(!shown.contains("secret-around"));
}

#[tokio::test]
async fn a_value_with_nul_goes_into_a_file_only() {
    // No variable can hold one, but the environment of a test can.
    let nul = OsString::from_vec(b"secret\0".to_vec());
    let set = vec![("A".into(), "{vault://env/b}".into()), ("B".into(), nul)];
    let report = filled(set.clone(), &[], false).await.expect_err("refused");
    let shown = format!("{report:?}");
    assert!(shown.contains("A: {vault://env/b}: wrong-type: ") && !shown.contains("secret"));
    assert_eq!(
        filled(set, &["A"], false).await.expect("a file"),
        ["A<secret\0"]
    );
}
