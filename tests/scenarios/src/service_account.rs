//! A service account of Google that nobody else knows: its key as Google hands it out,
//! and a look into the tokens that are signed with it.

use anyhow::{Context, Result, ensure};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Its name.
pub const EMAIL: &str = "vaultref@test-project.iam.gserviceaccount.com";

/// The name of its key.
pub const KEY_ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// A service account and its key.
#[derive(Debug)]
pub struct ServiceAccount(RsaKeyPair);

impl ServiceAccount {
    /// One with a new key.
    ///
    /// # Errors
    ///
    /// When no key can be made.
    pub fn new() -> Result<Self> {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).context("an RSA key")?;
        Ok(Self(key))
    }

    /// The key file, as `gcloud iam service-accounts keys create` writes it.
    ///
    /// # Errors
    ///
    /// When the key cannot be written down.
    pub fn json(&self) -> Result<Value> {
        let der: Pkcs8V1Der<'_> = self.0.as_der().context("the key as PKCS #8")?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).collect();
        let lines = String::from_utf8(lines.join(&b'\n')).context("base64 is text")?;
        Ok(json!({
            "type": "service_account",
            "project_id": "test-project",
            "private_key_id": KEY_ID,
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n"),
            "client_email": EMAIL,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": "https://oauth2.googleapis.com/token",
            "universe_domain": "googleapis.com",
        }))
    }

    /// Header and claims of a token, if this account has signed it.
    ///
    /// # Errors
    ///
    /// When it is no JWT, or somebody else's.
    pub fn verified(&self, token: &str) -> Result<(Value, Value)> {
        let parts: Vec<_> = token.split('.').collect();
        ensure!(parts.len() == 3, "a token has three parts");
        let part = |index: usize| URL_SAFE_NO_PAD.decode(parts[index]).context("base64");
        let signed = parts[..2].join(".");
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.0.public_key())
            .verify(signed.as_bytes(), &part(2)?)
            .context("the signature")?;
        Ok((
            serde_json::from_slice(&part(0)?)?,
            serde_json::from_slice(&part(1)?)?,
        ))
    }
}
