//! What can be told without a server. The rest is in `tests/scenarios/tests/conformance/azure.rs`.

use std::time::Duration;

use vaultref_contract::wire::FailureKind;

use super::*;
use crate::backend::kit;
use crate::config::parse;
use crate::environment::Environment;

const VAULT: &str = "vault_uri: 'https://My-Vault.vault.azure.net/'";
const LOGIN: [(&str, &str); 3] = [
    ("AZURE_CLIENT_SECRET", "c"),
    ("AZURE_CLIENT_ID", "i"),
    ("AZURE_TENANT_ID", "t"),
];
const VERSION_ID: &str = "0123456789abcdef0123456789ABCDEF";

fn built(
    backend: &str,
    fields: &str,
    environment: Environment,
) -> Result<crate::vault::Vaults, String> {
    let yaml = format!("vaults: [ {{ name: {backend}, prefix: kv, config: {{ {fields} }} }} ]");
    parse(&yaml, &Arc::new(environment))
        .map(|config| config.vaults)
        .map_err(|error| error.to_string())
}

fn backend(backend: &str, fields: &str) -> Arc<dyn Backend> {
    let vaults = built(backend, fields, Environment::from(LOGIN)).expect("a vault");
    vaults
        .find("kv")
        .and_then(|vault| vault.backend().ok())
        .expect("a backend")
}

/// Which credentials are chosen, or what is wrong.
fn chosen<const N: usize>(
    fields: &str,
    variables: [(&str, &str); N],
) -> Result<&'static str, String> {
    let environment = Arc::new(Environment::from(variables));
    let yaml =
        format!("vaults: [ {{ name: azure, prefix: kv, config: {{ {VAULT}, {fields} }} }} ]");
    parse(&yaml, &environment).map_err(|error| error.to_string())?;
    // Built once more by hand, since the vault hides what it is made of.
    let mut fields = crate::config::fields(&format!("{{ {VAULT}, {fields} }}"));
    let parts = Parts::take(&mut fields, &environment).map_err(|error| error.to_string())?;
    Ok(parts.credential.kind())
}

#[test]
fn what_is_wrong_with_a_field_is_said_at_its_place() {
    let place = "vaults[0].config";
    for (fields, problem) in [
        ("client_id: i", "config: the field 'vault_uri' is missing"),
        (
            "vault_uri: my-vault",
            "vault_uri: must be an address such as",
        ),
        (
            "vault_uri: 'http://v.vault.azure.net'",
            "vault_uri: must be an address",
        ),
        (
            "vault_uri: 'https://v.vault.azure.net/x'",
            "vault_uri: must be an address",
        ),
        (
            "vault_uri: 'https://u:hunter2@v.vault.azure.net'",
            "vault_uri: must be an address",
        ),
        (
            "vault_uri: 'https://v.vault.azure.net/?a=hunter2'",
            "vault_uri: must be an address",
        ),
        ("vault_uri: 7", "vault_uri: must be text"),
        (
            &format!("{VAULT}, client_id: 'a/b'"),
            "client_id: must be letters",
        ),
        (
            &format!("{VAULT}, tenant_id: '../hunter2'"),
            "tenant_id: must be letters",
        ),
        (
            &format!("{VAULT}, credentials_prefix: 'A-B'"),
            "credentials_prefix: must be letters",
        ),
        (&format!("{VAULT}, location: 7"), "location: must be text"),
        (
            &format!("{VAULT}, type: keys"),
            "type: must be one of secrets",
        ),
        (
            &format!("{VAULT}, client_secret: hunter2"),
            "client_secret: unknown field",
        ),
        (
            &format!("{VAULT}, allow_options: [vault_uri]"),
            "of 'azure' a reference can set only version",
        ),
    ] {
        let error = built("azure", fields, Environment::from(LOGIN)).expect_err(fields);
        assert!(error.contains(problem), "{fields}: {error}");
        assert!(
            error.starts_with(place) && !error.contains("hunter2"),
            "{error}"
        );
    }
    let error = built(
        "azure-certs",
        &format!("{VAULT}, type: secrets"),
        Environment::from(LOGIN),
    );
    let error = error.expect_err("no field of azure-certs");
    assert_eq!(error, "vaults[0].config.type: unknown field");
}

#[test]
fn certificates_hold_for_an_hour_and_secrets_as_long_as_usual() {
    for (name, fields, ttl) in [
        ("azure", "", 300),
        ("azure-certs", "", 3600),
        ("azure-certs", ", ttl: 60", 60),
    ] {
        let vaults = built(name, &format!("{VAULT}{fields}"), Environment::from(LOGIN));
        let vaults = vaults.expect("a vault");
        let vault = vaults.find("kv").expect("it is there");
        assert_eq!(
            vault.settings().ttl,
            Some(Duration::from_secs(ttl)),
            "{name}{fields}"
        );
    }
}

#[test]
fn a_client_secret_comes_before_a_federated_token_before_the_machine() {
    let [secret, client, tenant] = LOGIN;
    let file = ("AZURE_FEDERATED_TOKEN_FILE", "/run/token");
    assert_eq!(chosen("", LOGIN), Ok("client secret"));
    assert_eq!(
        chosen("", [secret, client, tenant, file]),
        Ok("client secret")
    );
    assert_eq!(chosen("", [client, tenant, file]), Ok("workload identity"));
    assert_eq!(
        chosen("", [("AZURE_CLIENT_SECRET", " \n"), client]),
        Ok("managed identity")
    );
    assert_eq!(chosen("", []), Ok("managed identity"));
    assert_eq!(
        chosen("client_id: i, tenant_id: t", [secret]),
        Ok("client secret")
    );

    // With a prefix of its own, only its own variables are a client secret's; the file and what is
    // beside it are Kubernetes' own names.
    let own = ("PAY_CLIENT_SECRET", "c");
    let prefix = "credentials_prefix: PAY";
    assert_eq!(chosen(prefix, LOGIN), Ok("managed identity"));
    assert_eq!(
        chosen(prefix, [client, tenant, file]),
        Ok("workload identity")
    );
    let error = chosen(prefix, [own, client, tenant]).expect_err("no tenant");
    assert_eq!(
        error,
        "vaults[0].config: the field 'tenant_id' or the variable PAY_TENANT_ID must be there, \
         since PAY_CLIENT_SECRET is"
    );
    let both = [own, ("PAY_CLIENT_ID", "i"), ("PAY_TENANT_ID", "t")];
    assert_eq!(chosen(prefix, both), Ok("client secret"));
    let error = chosen("", [tenant, file]).expect_err("no client");
    assert!(
        error.contains("'client_id' or the variable AZURE_CLIENT_ID"),
        "{error}"
    );
}

#[test]
fn variables_that_cannot_be_used_are_named() {
    let [secret, client, tenant] = LOGIN;
    for (variable, value) in [
        ("AZURE_AUTHORITY_HOST", "http://login.example.com"),
        ("AZURE_AUTHORITY_HOST", "https://"),
        ("HTTPS_PROXY", "::"),
    ] {
        let error = chosen("", [secret, client, tenant, (variable, value)]).expect_err(value);
        assert!(error.starts_with(variable), "{error}");
    }
    let header = ("IDENTITY_HEADER", "h");
    let endpoint = ("IDENTITY_ENDPOINT", "http://127.0.0.1:1/token");
    assert_eq!(chosen("", [endpoint, header]), Ok("managed identity"));
    assert!(chosen("", [endpoint]).is_err(), "Azure Arc");
    let pinned = ("IDENTITY_SERVER_THUMBPRINT", "x");
    assert!(
        chosen("", [endpoint, header, pinned]).is_err(),
        "Service Fabric"
    );
    let odd = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "169.254.169.254");
    let error = chosen("", [odd]).expect_err("no address");
    assert!(error.starts_with(odd.0), "{error}");
}

#[test]
fn a_name_has_one_spelling_and_leads_nowhere_else() {
    let vault = backend("azure", VAULT);
    assert_eq!(vault.scope(), "https://my-vault.vault.azure.net/secrets/");
    for (resource, path) in [
        ("db-password", Ok("db-password")),
        ("DB-Password", Ok("db-password")),
        ("7", Ok("7")),
        (&*"a".repeat(127), Ok(&*"a".repeat(127))),
        (&*"a".repeat(128), Err(FailureKind::InvalidReference)),
        ("", Err(FailureKind::InvalidReference)),
        ("../keys/x", Err(FailureKind::InvalidReference)),
        ("a/b", Err(FailureKind::InvalidReference)),
        ("a.b", Err(FailureKind::InvalidReference)),
        ("a%2Fb", Err(FailureKind::InvalidReference)),
        ("a?api-version=1", Err(FailureKind::InvalidReference)),
        ("a\n", Err(FailureKind::InvalidReference)),
        ("a_b", Err(FailureKind::InvalidReference)),
        ("pässword", Err(FailureKind::InvalidReference)),
    ] {
        assert_eq!(
            kit::path(&*vault, resource),
            path.map(str::to_owned),
            "{resource}"
        );
    }
    let certificates = backend("azure-certs", VAULT);
    assert_eq!(
        certificates.scope(),
        "https://my-vault.vault.azure.net/certificates/"
    );
    assert!(kit::path(&*certificates, "../secrets/x").is_err());
}

#[test]
fn two_spellings_of_an_address_are_one_vault() {
    let scope = |uri: &str| {
        backend("azure", &format!("vault_uri: '{uri}'"))
            .scope()
            .into_owned()
    };
    let plain = scope("https://v.vault.azure.net");
    for same in [
        "https://V.Vault.Azure.net/",
        "https://v.vault.azure.net:443",
        "https://v.vault.azure.net./",
    ] {
        assert_eq!(scope(same), plain, "{same}");
    }
    assert_ne!(scope("https://v.vault.azure.net:8443"), plain);
}

#[test]
fn a_version_has_no_number_and_is_part_of_the_object() {
    let vault = backend("azure", VAULT);
    let asked = |version, option: Option<&str>| {
        let option = option.map(|value| (VERSION.to_owned(), value.to_owned()));
        vault.object(&Asked {
            resource: "Name",
            version,
            options: option.as_slice(),
        })
    };
    for number in [0, 1, 2, u64::MAX] {
        let error = asked(Some(number), None).expect_err("no version");
        assert_eq!(error.kind, ReadErrorKind::NotFound, "{number}");
    }
    let object = asked(None, Some(VERSION_ID)).expect("an object");
    assert_eq!(object.path, "name/0123456789abcdef0123456789abcdef");
    // So that a `deny` of the name is one of all its versions.
    assert_eq!(object.alias.as_deref(), Some("name"));
    for odd in [
        "",
        "1",
        "..",
        "../../keys/x",
        &VERSION_ID[1..],
        &format!("{VERSION_ID}0"),
    ] {
        let error = asked(None, Some(odd)).expect_err(odd);
        assert_eq!(error.kind, ReadErrorKind::InvalidName, "{odd}");
    }
}

#[test]
fn patterns_are_spelled_as_names_are() {
    let Spelling { pattern, loosely } = SECRETS.spelling;
    assert_eq!(pattern("DB-*"), "db-*");
    assert_eq!(pattern("DB/User"), "db/User");
    assert_eq!(loosely("DB/User"), "db/user");
}

mod certificates {
    use serde_json::Value;

    use super::*;

    macro_rules! file {
        ($name:literal) => {
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../tests/scenarios/files/keyvault/",
                $name
            ))
        };
    }

    const CERTIFICATE: &[u8] = file!("certificate.pem");
    const KEY: &[u8] = file!("key.pem");
    const CHAIN: &[u8] = file!("chain.pem");
    const PFX: &str = "application/x-pkcs12";
    const PEM: &str = "application/x-pem-file";

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("PEM is text")
    }

    fn leaf() -> Vec<u8> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let leaf = CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate");
        leaf.to_vec()
    }

    fn object(secret: Vec<u8>, content_type: &str) -> Option<Value> {
        let object = certificate::object(&Secret::new(secret), Some(content_type), &leaf())?;
        Some(serde_json::from_slice(object.expose()).expect("JSON"))
    }

    fn from_pfx(file: &[u8]) -> Option<Value> {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(file);
        object(text.into_bytes(), PFX)
    }

    #[test]
    fn every_kind_of_file_gives_the_same_three() {
        let files: [(&str, &[u8]); 3] = [
            ("as Key Vault writes it", file!("as-key-vault.pfx")),
            ("not encrypted", file!("clear.pfx")),
            ("AES, with an empty password", file!("empty-password.pfx")),
        ];
        for (what, file) in files {
            let object = from_pfx(file).expect(what);
            assert_eq!(object["certificate"], text(CERTIFICATE), "{what}");
            assert_eq!(object["key"], text(KEY), "{what}");
            assert_eq!(object["chain"], text(CHAIN), "{what}");
        }
    }

    #[test]
    fn pem_in_any_order_is_put_in_order() {
        let chain = text(CHAIN);
        let second = chain.rfind("-----BEGIN").expect("two certificates");
        let (middle, root) = chain.split_at(second);
        let key = text(KEY);
        let certificate = text(CERTIFICATE);
        for bundle in [
            [key, certificate, middle, root],
            [root, middle, certificate, key],
            [middle, key, root, certificate],
        ] {
            let object = object(bundle.concat().into_bytes(), PEM).expect("a bundle");
            assert_eq!(object["certificate"], certificate);
            assert_eq!(object["key"], key);
            assert_eq!(object["chain"], chain);
        }
    }

    #[test]
    fn what_is_not_let_out_is_left_out() {
        let object = from_pfx(file!("no-key.pfx")).expect("certificates alone");
        assert_eq!(object["certificate"], text(CERTIFICATE));
        assert_eq!(object["chain"], text(CHAIN));
        assert!(object.get("key").is_none());
    }

    #[test]
    fn the_form_of_a_key_is_kept() {
        for label in ["EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            let key = format!("-----BEGIN {label}-----\nAAEC\n-----END {label}-----\n");
            let bundle = format!("{key}{}", text(CERTIFICATE));
            let object = object(bundle.into_bytes(), PEM).expect("a bundle");
            assert_eq!(object["key"], key);
            assert_eq!(object["chain"], "");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_certificate() {
        let good: &[u8] = file!("as-key-vault.pfx");
        assert!(from_pfx(file!("with-password.pfx")).is_none());
        assert!(from_pfx(&good[..good.len() - 1]).is_none());
        assert!(from_pfx(b"").is_none());
        // Everything of it is covered by its MAC, or is the MAC.
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            let _ = from_pfx(&bad);
        }
        assert!(object(b"*".to_vec(), PFX).is_none());
        assert!(object(KEY.to_vec(), "text/plain").is_none());
        assert!(object(b"-----BEGIN CERTIFICATE-----\n*\n".to_vec(), PEM).is_none());
    }
}
