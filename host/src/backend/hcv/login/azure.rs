//! `azure`: the token of a machine's managed identity, and which machine it is.

use futures::future::BoxFuture;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::outside::{Outside, ask_json, text_of};
use super::{Method, Proof, Surroundings, Way, login_path, member, required, text};
use crate::backend::ReadError;
use crate::backend::hcv::server::Server;
use crate::backend::network::Network;
use crate::config::{ConfigError, Fields};
use crate::value::Wiped;

pub(super) const FIELDS: &[&str] = &["azure_auth_role", "azure_login_path"];

const WHO: &str = "Azure's metadata service";

/// For whom the token is; the server's own `resource` must be the same.
const RESOURCE: &str = "https%3A%2F%2Fmanagement.azure.com%2F";

struct Azure {
    path: String,
    role: String,
    outside: Outside,
    nearby: Client,
}

pub(super) fn take(fields: &mut Fields, around: &Surroundings<'_>) -> Result<Way, ConfigError> {
    Ok(Way::Method(Box::new(Azure {
        role: text(&required(fields, "azure", "azure_auth_role")?)?,
        path: login_path(fields.take("azure_login_path"), "auth/azure/login")?,
        outside: around.outside.clone(),
        nearby: Network::client_nearby()?,
    })))
}

impl Method for Azure {
    fn name(&self) -> &'static str {
        "azure"
    }

    fn proof<'a>(&'a self, _: &'a Server) -> BoxFuture<'a, Result<Proof, ReadError>> {
        Box::pin(async {
            let token = format!("identity/oauth2/token?api-version=2018-02-01&resource={RESOURCE}");
            let mut token = ask_json(WHO, self.metadata(&token)).await?;
            let jwt = member(&text_of(WHO, &mut token, "access_token")?)?;
            let machine = self.metadata("instance?api-version=2021-02-01");
            let machine = ask_json(WHO, machine).await?;
            let told = |name: &str| match &machine.0["compute"][name] {
                Value::String(text) => text.clone(),
                _ => String::new(),
            };
            Ok(Proof {
                path: self.path.clone(),
                body: Wiped(json!({
                    "role": self.role,
                    "jwt": jwt,
                    "subscription_id": told("subscriptionId"),
                    "resource_group_name": told("resourceGroupName"),
                    "vm_name": told("name"),
                    "vmss_name": told("vmScaleSetName"),
                })),
                http: None,
            })
        })
    }
}

impl Azure {
    fn metadata(&self, what: &str) -> RequestBuilder {
        let url = format!("{}/metadata/{what}", self.outside.link_local);
        self.nearby.get(url).header("metadata", "true")
    }
}
