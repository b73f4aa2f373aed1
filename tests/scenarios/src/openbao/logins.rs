//! Ways to log in to OpenBao, as its operator sets them up, and what those show who
//! log in. Keys and certificates are made by OpenBao itself: none lies in the checkout.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{OpenBao, ROOT_TOKEN};
use crate::client::Request;

const SIGNERS: &str = "signers";
const AUTHORITY: &str = "client-ca";

/// A certificate of a client, its key, and the CA that signed it, as PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The CA's certificate.
    pub authority: String,
}

/// Signs JSON web tokens with an RSA key that only OpenBao has.
#[derive(Clone, Debug)]
pub struct Signer {
    bao: SocketAddr,
    /// The key's public part, as PEM.
    pub public_key: String,
    /// Its private part, as PEM.
    pub private_key: String,
}

impl OpenBao {
    /// Enables a method at a path below `auth/`.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn enable_auth(&self, method: &str, path: &str) -> Result<()> {
        self.write(&format!("sys/auth/{path}"), &json!({ "type": method }))
            .map(drop)
    }

    /// Writes anything below a path, as its operator.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn configure(&self, path: &str, fields: &Value) -> Result<Value> {
        self.write(path, fields)
    }

    /// Makes a role of the AppRole method at this path, and gives its role id.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn app_role(&self, path: &str, role: &str, fields: &Value) -> Result<String> {
        self.write(&format!("auth/{path}/role/{role}"), fields)?;
        let answer = self.read(&format!("auth/{path}/role/{role}/role-id"))?;
        text(&answer, "/data/role_id")
    }

    /// A new secret id of a role.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn secret_id(&self, path: &str, role: &str) -> Result<String> {
        let path = format!("auth/{path}/role/{role}/secret-id");
        text(&self.write(&path, &json!({}))?, "/data/secret_id")
    }

    /// A new secret id of a role, wrapped: the wrapping token.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn wrapped_secret_id(&self, path: &str, role: &str) -> Result<String> {
        let mut request = Request::post(format!("/v1/auth/{path}/role/{role}/secret-id"), "{}")
            .header("x-vault-token", ROOT_TOKEN)
            .header("x-vault-wrap-ttl", "300s");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        let answer = request.send(self.plain)?.json()?;
        text(&answer, "/wrap_info/token")
    }

    /// A new key for JSON web tokens.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn signer(&self) -> Result<Signer> {
        self.write(
            &format!("sys/mounts/{SIGNERS}"),
            &json!({"type": "transit"}),
        )?;
        let key = json!({"type": "rsa-2048", "exportable": true});
        self.write(&format!("{SIGNERS}/keys/key"), &key)?;
        let public = self.read(&format!("{SIGNERS}/keys/key"))?;
        let private = self.read(&format!("{SIGNERS}/export/signing-key/key"))?;
        Ok(Signer {
            bao: self.plain,
            public_key: text(&public, "/data/keys/1/public_key")?,
            private_key: text(&private, "/data/keys/1")?,
        })
    }

    /// A client's certificate of a CA of its own.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn client_certificate(&self, name: &str) -> Result<ClientCertificate> {
        self.write(&format!("sys/mounts/{AUTHORITY}"), &json!({"type": "pki"}))?;
        let root = json!({"common_name": "clients", "key_type": "ec", "key_bits": 256});
        self.write(&format!("{AUTHORITY}/root/generate/internal"), &root)?;
        let role = json!({"allow_any_name": true, "key_type": "ec", "key_bits": 256});
        self.write(&format!("{AUTHORITY}/roles/client"), &role)?;
        let wanted = json!({"common_name": name, "ttl": "1h"});
        let issued = self.write(&format!("{AUTHORITY}/issue/client"), &wanted)?;
        Ok(ClientCertificate {
            certificate: text(&issued, "/data/certificate")?,
            key: text(&issued, "/data/private_key")?,
            authority: text(&issued, "/data/issuing_ca")?,
        })
    }
}

impl Signer {
    /// A signed token with these claims.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = json!({"alg": "RS256", "typ": "JWT", "kid": "1"});
        let text_to_sign = format!("{}.{}", part(&head), part(claims));
        let wanted = json!({
            "input": STANDARD.encode(&text_to_sign),
            "signature_algorithm": "pkcs1v15",
            "marshaling_algorithm": "jws",
        });
        let path = format!("/v1/{SIGNERS}/sign/key/sha2-256");
        let answer = Request::post(path, wanted.to_string())
            .header("x-vault-token", ROOT_TOKEN)
            .send(self.bao)?
            .json()?;
        let signature = text(&answer, "/data/signature")?;
        let signature = signature.rsplit(':').next().unwrap_or_default();
        Ok(format!("{text_to_sign}.{signature}"))
    }
}

fn text(answer: &Value, pointer: &str) -> Result<String> {
    let text = answer.pointer(pointer).and_then(Value::as_str);
    let text = text.with_context(|| format!("no {pointer} in {answer}"))?;
    Ok(text.to_owned())
}
