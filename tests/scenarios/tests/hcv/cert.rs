//! A client certificate, over TLS.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use vaultref_host::backend::ReadErrorKind;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::wait;

use crate::vault::Vault;

#[test]
fn a_certificate_logs_in_and_is_shown_again_to_renew() -> Result<()> {
    let bao = OpenBao::start_tls()?;
    bao.put(KV2_MOUNT, "app", &json!({"k": "v"}))?;
    let policy = format!("path \"{KV2_MOUNT}/data/*\" {{ capabilities = [\"read\"] }}");
    bao.put_policy("app", &policy)?;
    let client = bao.client_certificate("edge.example")?;
    bao.enable_auth("cert", "cert")?;
    let role = json!({
        "certificate": client.authority,
        "allowed_common_names": ["edge.example"],
        "token_policies": ["app"],
        "token_ttl": "2s",
        "token_max_ttl": "1h",
    });
    bao.configure("auth/cert/certs/gateway", &role)?;

    let fields = |certificate: &str, key: &str, role: &str| {
        json!({
            "protocol": "https",
            "ca_cert": bao.ca_file(),
            "auth_method": "cert",
            "cert_auth_cert": certificate,
            "cert_auth_cert_key": key,
            "cert_auth_role_name": role,
        })
    };
    let address = bao.tls_address()?;
    let by_text = fields(&client.certificate, &client.key, "gateway");
    let vault = Vault::at(address, &by_text)?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));

    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("tls.crt"), &client.certificate)?;
    fs::write(path("tls.key"), &client.key)?;
    let by_file = fields(&path("tls.crt"), &path("tls.key"), "gateway");
    assert_eq!(
        Vault::at(address, &by_file)?.value("app"),
        Ok("v".to_owned())
    );
    let mut any_role = by_file;
    any_role
        .as_object_mut()
        .expect("fields")
        .remove("cert_auth_role_name");
    assert_eq!(
        Vault::at(address, &any_role)?.value("app"),
        Ok("v".to_owned())
    );
    let wrong = fields(&path("tls.crt"), &path("tls.key"), "nobody");
    let error = Vault::at(address, &wrong)?
        .read("app")
        .expect_err("no such role");
    assert_eq!(error.kind, ReadErrorKind::Denied);
    let missing = fields(&path("none"), &path("tls.key"), "gateway");
    let error = Vault::at(address, &missing)?
        .read("app")
        .expect_err("no file");
    assert_eq!(error.kind, ReadErrorKind::Unavailable);

    // The server takes a renewal from none but who shows the certificate; so a token that was renewed
    // was renewed with it.
    wait::until_true("a renewal", wait::SOON, || {
        let accessors = bao.call("LIST", "auth/token/accessors", None);
        let accessors = accessors.and_then(|answer| answer.json());
        let accessors = accessors.unwrap_or_default()["data"]["keys"].take();
        let mut accessors = accessors.as_array().into_iter().flatten();
        accessors.any(|accessor| was_renewed(&bao, accessor))
    })?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    Ok(())
}

fn was_renewed(bao: &OpenBao, accessor: &Value) -> bool {
    let wanted = json!({ "accessor": accessor });
    let answer = bao.call("POST", "auth/token/lookup-accessor", Some(&wanted));
    let known = answer.and_then(|answer| answer.json()).unwrap_or_default();
    known["data"]["path"] == "auth/cert/login" && known["data"]["last_renewal"].is_string()
}
