//! Kubernetes: OpenBao's own method, which asks a TokenReview API that is a fake here
//! (<https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/>).

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::{Value, json};
use vaultref_host::backend::ReadErrorKind;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao, Signer};
use vaultref_scenarios::upstream::{Reply, Upstream};

use crate::vault::Vault;

const ACCOUNT: &str = "system:serviceaccount:gateways:edge";
const AUDIENCE: &str = "https://kubernetes.default.svc";

/// An API server that takes the tokens in the list.
fn api(valid: Arc<Mutex<Vec<String>>>) -> Result<Upstream> {
    Upstream::answering(move |request| {
        if request.path != "/apis/authentication.k8s.io/v1/tokenreviews" {
            return Reply::status(404);
        }
        let review: Value = serde_json::from_slice(&request.body).expect("JSON");
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        let known = valid
            .lock()
            .expect("no panic")
            .iter()
            .any(|known| known == token);
        let status = if known {
            let user = json!({"username": ACCOUNT, "uid": "account-uid", "groups": []});
            json!({"authenticated": true, "user": user, "audiences": [AUDIENCE]})
        } else {
            json!({"authenticated": false, "error": "no such token"})
        };
        let answer = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "status": status,
        });
        Reply::status(201)
            .header("content-type", "application/json")
            .body(answer.to_string())
    })
}

/// The token of a service account, as the kubelet has it made for a pod.
fn token(signer: &Signer, pod: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    signer.sign(&json!({
        "aud": [AUDIENCE],
        "iss": AUDIENCE,
        "iat": now,
        "exp": now + 3600,
        "sub": ACCOUNT,
        "kubernetes.io": {
            "namespace": "gateways",
            "pod": {"name": pod, "uid": "pod-uid"},
            "serviceaccount": {"name": "edge", "uid": "account-uid"},
        },
    }))
}

#[test]
fn the_token_of_the_pod_as_the_file_has_it_now() -> Result<()> {
    let bao = OpenBao::start_tls()?;
    bao.put(KV2_MOUNT, "app", &json!({"k": "v"}))?;
    let policy = format!("path \"{KV2_MOUNT}/data/*\" {{ capabilities = [\"read\"] }}");
    bao.put_policy("app", &policy)?;
    let signer = bao.signer()?;
    let valid = Arc::new(Mutex::new(Vec::new()));
    let api = api(Arc::clone(&valid))?;
    bao.enable_auth("kubernetes", "clusters/a")?;
    let config = json!({
        "kubernetes_host": format!("http://{}", api.address()),
        // It wants one, and has no use for it here.
        "kubernetes_ca_cert": fs::read_to_string(bao.ca_file())?,
        "disable_local_ca_jwt": true,
        "token_reviewer_jwt": "reviewer",
    });
    bao.configure("auth/clusters/a/config", &config)?;
    let role = json!({
        "bound_service_account_names": ["edge"],
        "bound_service_account_namespaces": ["gateways"],
        "token_policies": ["app"],
        "token_num_uses": 1,
    });
    bao.configure("auth/clusters/a/role/gateway", &role)?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    let first = token(&signer, "edge-1")?;
    fs::write(&file, &first)?;
    valid.lock().expect("no panic").push(first);
    let mut fields = json!({
        "auth_method": "kubernetes",
        "kube_role": "gateway",
        "kube_auth_path": "clusters/a",
        "kube_api_token_file": file,
    });
    let vault = Vault::at(bao.address(), &fields)?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));

    // The kubelet writes another, and the old one is no longer taken.
    let second = token(&signer, "edge-2")?;
    *valid.lock().expect("no panic") = vec![second.clone()];
    fs::write(&file, format!("{second}\n"))?;
    assert_eq!(vault.value("app"), Ok("v".to_owned()));
    let reviews = api.requests();
    assert!(reviews.iter().any(|review| review.dump().contains(&second)));

    valid.lock().expect("no panic").clear();
    assert_eq!(vault.value("app"), Err(ReadErrorKind::Denied));
    *valid.lock().expect("no panic") = vec![second];
    fields["kube_role"] = json!("nobody");
    let other = Vault::at(bao.address(), &fields)?;
    assert_eq!(other.value("app"), Err(ReadErrorKind::Denied));
    Ok(())
}
