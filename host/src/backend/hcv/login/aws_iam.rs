//! `aws_iam`: a call of `sts:GetCallerIdentity`, signed here and made by the server, which learns
//! from AWS who signed it.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::outside::Outside;
use super::{Method, Proof, Surroundings, Way, aws_credentials, login_path, required, text};
use crate::backend::amazon::credentials::Chain;
use crate::backend::hcv::server::Server;
use crate::backend::{ReadError, ReadErrorKind, network};
use crate::config::{ConfigError, Fields, Node};
use crate::environment::Environment;
use crate::value::Wiped;

pub(super) const FIELDS: &[&str] = &[
    "aws_auth_role",
    "aws_login_path",
    "aws_auth_region",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_sts_endpoint_url",
    "aws_assume_role_arn",
    "aws_role_session_name",
];

const ACTION: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

struct Iam {
    path: String,
    role: String,
    region: String,
    /// What is signed for.
    endpoint: Url,
    credentials: Chain,
    outside: Outside,
}

pub(super) fn take(fields: &mut Fields, around: &Surroundings<'_>) -> Result<Way, ConfigError> {
    let role = text(&required(fields, "aws_iam", "aws_auth_role")?)?;
    let path = login_path(fields.take("aws_login_path"), "auth/aws/login")?;
    let region = region(fields, around.environment)?;
    let endpoint = match fields.take("aws_sts_endpoint_url") {
        Some(node) => endpoint(&node)?,
        None => usual_endpoint(&region)
            .ok_or_else(|| fields.error("there is no STS endpoint for the region"))?,
    };
    let credentials = aws_credentials::take(fields, around, &region, &endpoint)?;
    Ok(Way::Method(Box::new(Iam {
        path,
        role,
        region,
        endpoint,
        credentials,
        outside: around.outside.clone(),
    })))
}

impl Method for Iam {
    fn name(&self) -> &'static str {
        "aws_iam"
    }

    fn proof<'a>(&'a self, _: &'a Server) -> BoxFuture<'a, Result<Proof, ReadError>> {
        Box::pin(async {
            let credentials = self.credentials.credentials().await?;
            let headers = self.signed(credentials).ok_or_else(|| {
                let cause = "the AWS credentials cannot sign";
                ReadError::new(ReadErrorKind::Denied, cause)
            })?;
            let mut body = json!({
                "role": self.role,
                "iam_http_request_method": "POST",
                "iam_request_url": STANDARD.encode(self.endpoint.as_str()),
                "iam_request_body": STANDARD.encode(ACTION),
            });
            let headers = Wiped(Value::Object(headers));
            let text = headers.text().ok_or_else(|| network::unreadable("AWS"))?;
            body["iam_request_headers"] = Value::String(STANDARD.encode(text.expose()));
            Ok(Proof {
                path: self.path.clone(),
                body: Wiped(body),
                http: None,
            })
        })
    }
}

impl Iam {
    /// The headers of the signed call.
    fn signed(&self, credentials: Credentials) -> Option<Map<String, Value>> {
        let identity = credentials.into();
        let settings = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("sts")
            .time((self.outside.now)())
            .settings(SigningSettings::default())
            .build();
        let request = SignableRequest::new(
            "POST",
            self.endpoint.as_str(),
            [("content-type", FORM)].into_iter(),
            SignableBody::Bytes(ACTION.as_bytes()),
        );
        let signed = sign(request.ok()?, &settings.ok()?.into()).ok()?;
        let (instructions, _) = signed.into_parts();
        let mut headers = Map::new();
        headers.insert("content-type".to_owned(), json!([FORM]));
        for (name, value) in instructions.headers() {
            headers.insert(name.to_owned(), json!([value]));
        }
        Some(headers)
    }
}

const NO_REGION: &str = "must be the name of a region";

fn region(fields: &mut Fields, environment: &Environment) -> Result<String, ConfigError> {
    if let Some(node) = fields.take("aws_auth_region") {
        let region = text(&node)?;
        return if is_region(&region) {
            Ok(region)
        } else {
            Err(node.error(NO_REGION))
        };
    }
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if let Some(value) = environment.value(name).filter(|value| !value.is_empty()) {
            let region = value.expose_text().filter(|region| is_region(region));
            let region = region.ok_or_else(|| ConfigError::new(name, NO_REGION))?;
            return Ok(region.to_owned());
        }
    }
    Ok("us-east-1".to_owned())
}

/// It becomes part of a host's name.
fn is_region(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.bytes().all(fits)
}

fn endpoint(node: &Node) -> Result<Url, ConfigError> {
    let url = Url::parse(&text(node)?).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| node.error("must be an address that starts with https:// or http://"))
}

/// The global endpoint for the region in which it is, since that is what servers call if they are
/// not told otherwise; else the region's own.
fn usual_endpoint(region: &str) -> Option<Url> {
    let host = match region {
        "us-east-1" => "sts.amazonaws.com".to_owned(),
        _ if region.starts_with("cn-") => format!("sts.{region}.amazonaws.com.cn"),
        _ => format!("sts.{region}.amazonaws.com"),
    };
    Url::parse(&format!("https://{host}/")).ok()
}
