//! JSON web tokens signed with RS256, as Google's service accounts sign them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::SigningKey;
use serde_json::{Value, json};
use vaultref_contract::Secret;

/// A private RSA key.
pub(crate) struct Key(Arc<dyn SigningKey>);

impl Key {
    /// Reads PEM; none if that is no key that can be used.
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = PrivateKeyDer::from_pem_slice(pem).ok()?;
        let key = any_supported_type(&der).ok()?;
        key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?;
        Some(Self(key))
    }

    /// The signed token.
    pub(crate) fn sign(&self, key_id: &str, claims: &Value) -> Option<Secret> {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": key_id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", part(&header), part(claims));
        let signer = self.0.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?;
        let signature = signer.sign(token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(Secret::from(token))
    }
}
