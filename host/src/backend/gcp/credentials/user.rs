//! A person's credentials, as `gcloud auth application-default login` leaves them: a token that gets
//! tokens (RFC 6749, section 6).

use reqwest::Client;
use vaultref_contract::Secret;

use super::document::Document;
use super::{Token, exchange};
use crate::backend::ReadError;
use crate::backend::endpoint::Endpoint;
use crate::config::ConfigError;

const WHO: &str = "Google's login";
const LOGIN: &str = "https://oauth2.googleapis.com/token";

pub(super) struct User {
    url: Endpoint,
    client_id: String,
    client_secret: Secret,
    refresh_token: Secret,
}

impl User {
    pub(super) fn read(document: &Document<'_>) -> Result<Self, ConfigError> {
        let url = if document.has("token_uri") {
            document.endpoint("token_uri")?
        } else {
            Endpoint::parse(LOGIN).ok_or_else(|| document.error("token_uri", "is missing"))?
        };
        Ok(Self {
            url,
            client_id: document.text("client_id")?.to_owned(),
            client_secret: document.secret("client_secret")?,
            refresh_token: document.secret("refresh_token")?,
        })
    }

    pub(super) async fn token(&self, http: &Client) -> Result<Token, ReadError> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.client_id),
            ("client_secret", text(&self.client_secret)),
            ("refresh_token", text(&self.refresh_token)),
        ];
        let request = exchange::form(http.post(self.url.to_string()), &form);
        exchange::send(WHO, request).await?.token(WHO)
    }
}

/// It was made of text.
fn text(secret: &Secret) -> &str {
    secret.expose_text().unwrap_or_default()
}
