use vaultref_contract::wire::FailureKind;

use crate::backend::kit::{get, vaults};
use crate::environment::Environment;

#[test]
fn a_name_is_prefix_and_resource_in_upper_case_with_underscores() {
    let yaml = r#"
vaults:
  - {name: env, prefix: ssl, config: {prefix: ssl-, allow_options: [prefix]}}
  - {name: env, prefix: plain-env, config: {prefix: SSL_}}"#;
    let variables = || {
        Environment::from([
            ("SSL_MY_CERT", "cert"),
            ("MY_CERT", "own"),
            ("MY_CERT_PREVIOUS", "old"),
            ("A/B", "slash"),
            ("EMPTY", ""),
        ])
    };
    let invalid = Err(FailureKind::InvalidReference);
    for (reference, expected) in [
        ("{vault://ssl/my-cert}", Ok("cert")),
        ("{vault://ssl/My_CERT}", Ok("cert")),
        ("{vault://env/my-cert}", Ok("own")),
        ("{vault://env/my-cert#1}", Ok("own")),
        ("{vault://env/my-cert#2}", Ok("old")),
        ("{vault://env/my-cert#0}", Err(FailureKind::NotFound)),
        ("{vault://env/my-cert#3}", Err(FailureKind::NotFound)),
        ("{vault://env/a/b/}", Ok("slash")),
        ("{vault://env/empty}", Ok("")),
        ("{vault://ssl/cert?prefix=my-}", Ok("own")),
        ("{vault://ssl/cert?prefix=4}", invalid),
        ("{vault://ssl/cert?prefix=}", invalid),
        ("{vault://ssl/cert?prefix}", invalid),
        ("{vault://plain-env/cert?prefix=my-}", invalid),
        ("{vault://env/my=cert}", invalid),
        ("{vault://env/my%00cert}", invalid),
    ] {
        let expected = expected.map(str::to_owned);
        assert_eq!(
            get(vaults(yaml, variables()), reference),
            expected,
            "{reference}"
        );
    }
}
