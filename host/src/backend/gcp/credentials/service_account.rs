//! A service account's key: the token is a JWT that we sign ourselves
//! (<https://google.aip.dev/auth/4111>), so nobody is asked for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::document::Document;
use super::{Purpose, SCOPE, Token};
use crate::backend::jws::Key;
use crate::backend::{ReadError, ReadErrorKind};
use crate::config::ConfigError;

/// The audience of the service, whatever endpoint is asked, as in Google's own clients: such a token
/// opens nothing else.
const AUDIENCE: &str = "https://secretmanager.googleapis.com/";

/// The longest that Google allows.
const LIFE: Duration = Duration::from_secs(3600);

/// A token from the future is refused, and clocks differ.
const SKEW: Duration = Duration::from_secs(10);

pub(super) struct ServiceAccount {
    email: String,
    key_id: String,
    key: Key,
}

impl ServiceAccount {
    pub(super) fn read(document: &Document<'_>) -> Result<Self, ConfigError> {
        let key = Key::from_pem(document.text("private_key")?.as_bytes());
        Ok(Self {
            email: document.text("client_email")?.to_owned(),
            key_id: document.text("private_key_id")?.to_owned(),
            key: key.ok_or_else(|| {
                document.error("private_key", "must be an RSA key in PEM (PKCS #8)")
            })?,
        })
    }

    pub(super) fn token(&self, purpose: Purpose) -> Result<Token, ReadError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let issued = now.unwrap_or_default().saturating_sub(SKEW);
        let (claim, value) = match purpose {
            Purpose::Impersonation => ("scope", SCOPE),
            Purpose::SecretManager => ("aud", AUDIENCE),
        };
        let claims = json!({
            "iss": self.email,
            "sub": self.email,
            claim: value,
            "iat": issued.as_secs(),
            "exp": (issued + LIFE).as_secs(),
        });
        let signed = self.key.sign(&self.key_id, &claims).ok_or_else(|| {
            ReadError::new(
                ReadErrorKind::Denied,
                "the key of the service account does not sign",
            )
        })?;
        Ok(Token {
            value: signed,
            lease: LIFE - SKEW,
        })
    }
}
