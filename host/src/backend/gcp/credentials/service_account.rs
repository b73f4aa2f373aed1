//! A service account's key: the token is a JWT that we sign ourselves
//! (<https://google.aip.dev/auth/4111>), so nobody is asked for it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::SigningKey;
use serde_json::{Value, json};
use vaultref_contract::Secret;

use super::document::Document;
use super::{Purpose, SCOPE, Token};
use crate::backend::ReadError;
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
    key: Arc<dyn SigningKey>,
}

impl ServiceAccount {
    pub(super) fn read(document: &Document<'_>) -> Result<Self, ConfigError> {
        let wrong = || document.error("private_key", "must be an RSA key in PEM (PKCS #8)");
        let pem = document.text("private_key")?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong())?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(key);
        let account = Self {
            email: document.text("client_email")?.to_owned(),
            key_id: document.text("private_key_id")?.to_owned(),
            key: key.map_err(|_| wrong())?,
        };
        account.signature(b"").ok_or_else(wrong)?;
        Ok(account)
    }

    pub(super) fn token(&self, purpose: Purpose) -> Result<Token, ReadError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let issued = now.unwrap_or_default().saturating_sub(SKEW);
        let (claim, value) = match purpose {
            Purpose::Impersonation => ("scope", SCOPE),
            Purpose::SecretManager => ("aud", AUDIENCE),
        };
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let claims = json!({
            "iss": self.email,
            "sub": self.email,
            claim: value,
            "iat": issued.as_secs(),
            "exp": (issued + LIFE).as_secs(),
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", part(&header), part(&claims));
        let signature = self
            .signature(token.as_bytes())
            .ok_or_else(|| ReadError::transient("the key of the service account does not sign"))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Token {
            value: Secret::from(token),
            lease: LIFE - SKEW,
        })
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signer = self
            .key
            .choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?;
        signer.sign(message).ok()
    }
}
