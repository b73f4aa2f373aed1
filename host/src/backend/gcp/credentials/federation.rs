//! Workload identity federation: a token of another identity provider is given for one of Google's
//! (<https://google.aip.dev/auth/4117>, RFC 8693).
//!
//! A token that lies in a file or is had at an address is fetched and exchanged here. What is signed
//! with keys of AWS, or comes from a program, is left to `google-cloud-auth`: it reads `AWS_…` and
//! `GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES` from the process environment and goes by its proxies,
//! and the vault's CA does not hold there.

use std::time::Duration;

use google_cloud_auth::credentials::external_account;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use serde_json::json;
use vaultref_contract::Secret;

use super::document::Document;
use super::exchange::{self, Answer};
use super::impersonation::Target;
use super::{SCOPE, Token};
use crate::backend::endpoint::Endpoint;
use crate::backend::{ReadError, ReadErrorKind};
use crate::config::ConfigError;
use crate::value::Wiped;

const EXCHANGE: &str = "Google's token exchange";
const PROVIDER: &str = "the identity provider";

/// Enough to ask for a service account's token.
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";

/// How long a token of the library is used: it does not say how long it holds, which is an hour.
const LIBRARY_LIFE: Duration = Duration::from_secs(30 * 60);

pub(super) enum Federation {
    Exchanged(Box<Exchange>),
    /// The whole document.
    ByLibrary(Wiped),
}

pub(super) struct Exchange {
    subject: Subject,
    subject_type: String,
    audience: String,
    url: Endpoint,
    /// For those providers that want to know the client too.
    client: Option<(String, Secret)>,
    user_project: Option<String>,
    target: Option<Target>,
}

/// Where the provider's token is.
struct Subject {
    place: Place,
    /// The member of a JSON object that is the token; none: all of it is.
    field: Option<String>,
}

enum Place {
    File(String),
    Url(Url, HeaderMap),
}

impl Federation {
    pub(super) fn read(document: &Document<'_>) -> Result<Self, ConfigError> {
        let source = document.object("credential_source")?;
        let exchange = Exchange::read(document, &source)?;
        Ok(match exchange {
            Some(exchange) => Self::Exchanged(Box::new(exchange)),
            None => Self::ByLibrary(Wiped(document.value.clone())),
        })
    }

    pub(super) async fn token(&self, http: &Client) -> Result<Token, ReadError> {
        match self {
            Self::ByLibrary(document) => by_library(document).await,
            Self::Exchanged(exchange) => exchange.token(http).await,
        }
    }
}

impl Exchange {
    /// None if the provider's token is neither in a file nor at an address.
    fn read(document: &Document<'_>, source: &Document<'_>) -> Result<Option<Self>, ConfigError> {
        let audience = document.text("audience")?.to_owned();
        let subject_type = document.text("subject_token_type")?.to_owned();
        let url = document.endpoint("token_url")?;
        let Some(subject) = Subject::read(source)? else {
            return Ok(None);
        };
        let client = match (
            document.maybe_text("client_id")?,
            document.has("client_secret"),
        ) {
            (Some(id), true) => Some((id.to_owned(), document.secret("client_secret")?)),
            _ => None,
        };
        let life = document.maybe_object("service_account_impersonation")?;
        let life = life.map(|life| life.maybe_number("token_lifetime_seconds"));
        let target = "service_account_impersonation_url";
        let target = if document.has(target) {
            let life = life.transpose()?.flatten();
            Some(Target::new(document.endpoint(target)?, Vec::new(), life))
        } else {
            None
        };
        let user_project = document.maybe_text("workforce_pool_user_project")?;
        Ok(Some(Self {
            subject,
            subject_type,
            audience,
            url,
            client,
            user_project: user_project.map(str::to_owned),
            target,
        }))
    }

    async fn token(&self, http: &Client) -> Result<Token, ReadError> {
        let subject = self.subject.token(http).await?;
        let subject = subject.expose_text().unwrap_or_default();
        let scope = if self.target.is_some() {
            IAM_SCOPE
        } else {
            SCOPE
        };
        let mut form = vec![
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            (
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:access_token",
            ),
            ("subject_token", subject),
            ("subject_token_type", &self.subject_type),
            ("audience", &self.audience),
            ("scope", scope),
        ];
        // A client that is known says by itself whom to charge.
        let project = self.user_project.as_ref().filter(|_| self.client.is_none());
        let options = project.map(|project| json!({ "userProject": project }).to_string());
        form.extend(options.iter().map(|options| ("options", options.as_str())));
        let mut request = exchange::form(http.post(self.url.to_string()), &form);
        if let Some((id, secret)) = &self.client {
            request = request.basic_auth(id, secret.expose_text());
        }
        let token = exchange::send(EXCHANGE, request).await?.token(EXCHANGE)?;
        match &self.target {
            None => Ok(token),
            Some(target) => target.token(http, &token.value).await,
        }
    }
}

impl Subject {
    fn read(source: &Document<'_>) -> Result<Option<Self>, ConfigError> {
        let place = if source.has("environment_id") || source.has("executable") {
            return Ok(None);
        } else if source.has("url") {
            Place::Url(source.url("url")?, headers(source)?)
        } else {
            Place::File(source.text("file")?.to_owned())
        };
        let format = source.maybe_object("format")?;
        let field = match format {
            None => None,
            Some(format) => match format.text("type")? {
                "json" => Some(format.text("subject_token_field_name")?.to_owned()),
                "text" => None,
                _ => return Err(format.error("type", "must be 'json' or 'text'")),
            },
        };
        Ok(Some(Self { place, field }))
    }

    /// Read anew each time: whoever puts it there changes it.
    async fn token(&self, http: &Client) -> Result<Secret, ReadError> {
        let answer = match &self.place {
            Place::File(file) => {
                let content = tokio::fs::read(file).await.map_err(|error| {
                    let cause = format!("{file} cannot be read: {}", error.kind());
                    ReadError::new(ReadErrorKind::Unavailable, cause)
                })?;
                Answer {
                    headers: HeaderMap::new(),
                    body: Secret::new(content),
                }
            }
            Place::Url(url, headers) => {
                let request = http.get(url.clone()).headers(headers.clone());
                exchange::send(PROVIDER, request).await?
            }
        };
        match &self.field {
            Some(field) => answer.text(PROVIDER, field),
            None => Ok(Secret::new(answer.body.expose().trim_ascii().to_vec())),
        }
    }
}

fn headers(source: &Document<'_>) -> Result<HeaderMap, ConfigError> {
    let Some(given) = source.maybe_object("headers")? else {
        return Ok(HeaderMap::new());
    };
    let members = given.value.as_object().into_iter().flatten();
    members
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value.as_str()?).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        })
        .collect::<Option<HeaderMap>>()
        .ok_or_else(|| source.error("headers", "must be names and values of headers"))
}

/// Made anew each time, since a refusal ends its credentials for good; what it leaves running ends
/// when the token does. Its errors may quote answers, so none gets out.
async fn by_library(document: &Wiped) -> Result<Token, ReadError> {
    let refused = || {
        ReadError::new(
            ReadErrorKind::Denied,
            "the exchange of the identity provider's token was refused",
        )
    };
    let credentials = external_account::Builder::new(document.0.clone())
        .with_scopes([SCOPE])
        .build_access_token_credentials()
        .map_err(|_| refused())?;
    let token = credentials.access_token().await.map_err(|error| {
        if error.is_transient() {
            ReadError::transient("the identity provider's token cannot be had or exchanged")
        } else {
            refused()
        }
    })?;
    Ok(Token {
        value: Secret::from(token.token),
        lease: LIBRARY_LIFE,
    })
}
