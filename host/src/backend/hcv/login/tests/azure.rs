//! <https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>,
//! <https://learn.microsoft.com/en-us/azure/virtual-machines/instance-metadata-service> and
//! <https://developer.hashicorp.com/vault/api-docs/auth/azure#login>.

use serde_json::json;

use super::fake::Fake;
use crate::backend::ReadErrorKind;

const TOKEN: &str = "/metadata/identity/oauth2/token";
const INSTANCE: &str = "/metadata/instance";
const LOGIN: &str = "/v1/auth/azure/login";

const TOKEN_ANSWER: &str = r#"{"access_token":"the.jwt","client_id":"c","expires_in":"3599",
    "resource":"https://management.azure.com/","token_type":"Bearer"}"#;
const INSTANCE_ANSWER: &str = r#"{"compute":{"name":"vm-7","resourceGroupName":"gateways",
    "subscriptionId":"sub-1","vmScaleSetName":"","location":"westeurope"},"network":{}}"#;

#[tokio::test]
async fn the_identity_of_the_machine_and_which_one_it_is() {
    let fake = Fake::start(&[(TOKEN, 200, TOKEN_ANSWER), (INSTANCE, 200, INSTANCE_ANSWER)]).await;
    let config = "auth_method: azure, azure_auth_role: gateway";
    fake.read(config).await.expect("a secret");
    let query = "?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F";
    let asked = fake.seen(TOKEN).pop().expect("asked");
    assert_eq!(asked.path, format!("{TOKEN}{query}"));
    for asked in [asked, fake.seen(INSTANCE).pop().expect("asked")] {
        assert_eq!(asked.header("metadata"), "true");
        assert!(asked.path.contains("?api-version="), "{}", asked.path);
    }
    let expected = json!({
        "role": "gateway",
        "jwt": "the.jwt",
        "subscription_id": "sub-1",
        "resource_group_name": "gateways",
        "vm_name": "vm-7",
        "vmss_name": "",
    });
    assert_eq!(fake.shown(LOGIN), expected);

    let elsewhere = format!("{config}, azure_login_path: /v1/auth/clouds/a/login/");
    fake.read(&elsewhere).await.expect("a secret");
    assert_eq!(fake.shown("/v1/auth/clouds/a/login"), expected);
}

#[tokio::test]
async fn a_machine_without_an_identity_has_nothing_to_show() {
    let config = "auth_method: azure, azure_auth_role: gateway";
    for (status, kind, transient) in [
        (400, ReadErrorKind::Denied, false),
        (429, ReadErrorKind::Unavailable, true),
        (500, ReadErrorKind::Unavailable, true),
    ] {
        let fake = Fake::start(&[(TOKEN, status, r#"{"error":"hunter2"}"#)]).await;
        let error = fake.read(config).await.expect_err("no token");
        assert_eq!((error.kind, error.transient), (kind, transient), "{status}");
        assert!(
            error.cause.contains("Azure's metadata service"),
            "{}",
            error.cause
        );
        assert!(!error.cause.contains("hunter2"), "{}", error.cause);
        assert!(fake.seen("/v1/").is_empty());
    }
    let fake = Fake::start(&[(TOKEN, 200, "<html>")]).await;
    let error = fake.read(config).await.expect_err("no answer of it");
    assert_eq!(error.kind, ReadErrorKind::Unavailable);
}
