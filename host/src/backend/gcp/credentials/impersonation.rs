//! The token of a service account, had by somebody who may speak for it
//! (<https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>).

use std::time::Duration;

use reqwest::Client;
use reqwest::header::AUTHORIZATION;
use serde_json::json;
use vaultref_contract::Secret;

use super::document::Document;
use super::{Purpose, SCOPE, Source, Token, bearer, exchange};
use crate::backend::ReadError;
use crate::backend::endpoint::Endpoint;
use crate::config::ConfigError;

const WHO: &str = "Google's service account credentials";

/// What one gets without asking for more.
const LIFE: Duration = Duration::from_secs(3600);

/// Whose token, and how long it is to hold.
pub(super) struct Target {
    url: Endpoint,
    delegates: Vec<String>,
    life: Duration,
}

impl Target {
    pub(super) fn new(url: Endpoint, delegates: Vec<String>, life: Option<u64>) -> Self {
        Self {
            url,
            delegates,
            life: life.map_or(LIFE, Duration::from_secs),
        }
    }

    /// Its token, asked for with one of ours.
    pub(super) async fn token(&self, http: &Client, own: &Secret) -> Result<Token, ReadError> {
        let mut wanted = json!({
            "scope": [SCOPE],
            "lifetime": format!("{}s", self.life.as_secs()),
        });
        if !self.delegates.is_empty() {
            wanted["delegates"] = json!(self.delegates);
        }
        let request = http
            .post(self.url.to_string())
            .header(AUTHORIZATION, bearer(own)?)
            .json(&wanted);
        let answer = exchange::send(WHO, request).await?;
        Ok(Token {
            value: answer.text(WHO, "accessToken")?,
            lease: self.life,
        })
    }
}

/// `impersonated_service_account`: credentials that name those with which they are had.
pub(super) struct Impersonation {
    source: Box<Source>,
    target: Target,
}

impl Impersonation {
    pub(super) fn read(document: &Document<'_>) -> Result<Self, ConfigError> {
        let source = document.object("source_credentials")?;
        if source.text("type")? == "impersonated_service_account" {
            return Err(source.error("type", "must be another than that around it"));
        }
        let url = document.endpoint("service_account_impersonation_url")?;
        Ok(Self {
            source: Box::new(Source::read(&source)?),
            target: Target::new(url, document.texts("delegates")?, None),
        })
    }

    pub(super) async fn token(&self, http: &Client) -> Result<Token, ReadError> {
        // (In a box, since a source may be one of these.)
        let own = Box::pin(self.source.token(http, Purpose::Impersonation)).await?;
        self.target.token(http, &own.value).await
    }
}
