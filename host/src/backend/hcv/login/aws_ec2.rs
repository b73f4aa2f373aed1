//! `aws_ec2`: the signed identity document of an EC2 instance.
//!
//! The server pins an instance to the nonce of its first login. Without one in the configuration the
//! server makes one up and says it once; it is kept for later logins of this process, but a new
//! process cannot log in: whoever restarts gives `aws_auth_nonce`.

use std::sync::{Mutex, PoisonError};

use futures::future::BoxFuture;
use reqwest::Client;
use serde_json::{Value, json};
use vaultref_contract::Secret;

use super::outside::{Outside, ask};
use super::{Method, Proof, Surroundings, Way, login_path, member, required, secret, text};
use crate::backend::ReadError;
use crate::backend::hcv::server::Server;
use crate::backend::network::{self, Network};
use crate::config::{ConfigError, Fields};
use crate::value::Wiped;

pub(super) const FIELDS: &[&str] = &["aws_auth_role", "aws_login_path", "aws_auth_nonce"];

const WHO: &str = "the EC2 metadata service";

struct Ec2 {
    path: String,
    role: String,
    nonce: Mutex<Option<Secret>>,
    outside: Outside,
    nearby: Client,
}

pub(super) fn take(fields: &mut Fields, around: &Surroundings<'_>) -> Result<Way, ConfigError> {
    let nonce = fields.take("aws_auth_nonce");
    let nonce = nonce.map(|node| secret(&node)).transpose()?;
    Ok(Way::Method(Box::new(Ec2 {
        role: text(&required(fields, "aws_ec2", "aws_auth_role")?)?,
        path: login_path(fields.take("aws_login_path"), "auth/aws/login")?,
        nonce: Mutex::new(nonce),
        outside: around.outside.clone(),
        nearby: Network::client_nearby()?,
    })))
}

impl Method for Ec2 {
    fn name(&self) -> &'static str {
        "aws_ec2"
    }

    fn proof<'a>(&'a self, _: &'a Server) -> BoxFuture<'a, Result<Proof, ReadError>> {
        Box::pin(async {
            let document = self.document().await?;
            let text = document.expose_text();
            let text = text.ok_or_else(|| network::unreadable(WHO))?;
            let pkcs7: String = text.split_ascii_whitespace().collect();
            let mut body = json!({"role": self.role, "pkcs7": pkcs7});
            if let Some(nonce) = &*self.nonce.lock().unwrap_or_else(PoisonError::into_inner) {
                body["nonce"] = member(nonce)?;
            }
            Ok(Proof {
                path: self.path.clone(),
                body: Wiped(body),
                http: None,
            })
        })
    }

    fn accepted(&self, auth: &Value) {
        if let Some(nonce) = auth["metadata"]["nonce"].as_str() {
            let mut known = self.nonce.lock().unwrap_or_else(PoisonError::into_inner);
            known.get_or_insert_with(|| Secret::from(nonce.to_owned()));
        }
    }
}

impl Ec2 {
    async fn document(&self) -> Result<Secret, ReadError> {
        let latest = format!("{}/latest", self.outside.link_local);
        let session = self
            .nearby
            .put(format!("{latest}/api/token"))
            .header("x-aws-ec2-metadata-token-ttl-seconds", "60");
        let session = ask(WHO, session).await?;
        let document = self
            .nearby
            .get(format!("{latest}/dynamic/instance-identity/pkcs7"))
            .header("x-aws-ec2-metadata-token", session.expose());
        ask(WHO, document).await
    }
}
