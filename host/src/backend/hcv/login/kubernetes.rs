//! `kubernetes`: the token of a pod's service account, which the kubelet changes about every hour.

use futures::future::BoxFuture;
use serde_json::json;

use super::{Method, Proof, Surroundings, Way, file, member, mounted, required, text};
use crate::backend::ReadError;
use crate::backend::hcv::server::Server;
use crate::config::{ConfigError, Fields};
use crate::value::Wiped;

pub(super) const FIELDS: &[&str] = &["kube_role", "kube_api_token_file", "kube_auth_path"];

const TOKEN_FILE: &str = "/run/secrets/kubernetes.io/serviceaccount/token";

struct Kubernetes {
    path: String,
    role: String,
    token_file: String,
}

pub(super) fn take(fields: &mut Fields, _: &Surroundings<'_>) -> Result<Way, ConfigError> {
    let role = text(&required(fields, "kubernetes", "kube_role")?)?;
    let token_file = match fields.take("kube_api_token_file") {
        None => TOKEN_FILE.to_owned(),
        Some(node) => text(&node)?,
    };
    Ok(Way::Method(Box::new(Kubernetes {
        path: mounted(fields.take("kube_auth_path"), "kubernetes")?,
        role,
        token_file,
    })))
}

impl Method for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn proof<'a>(&'a self, _: &'a Server) -> BoxFuture<'a, Result<Proof, ReadError>> {
        Box::pin(async {
            let jwt = member(&file(&self.token_file).await?)?;
            Ok(Proof {
                path: self.path.clone(),
                body: Wiped(json!({"role": self.role, "jwt": jwt})),
                http: None,
            })
        })
    }
}
