//! Who we are towards Google: application default credentials (<https://google.aip.dev/auth/4110>).
//!
//! Looked for in this order: `GCP_SERVICE_ACCOUNT` (the JSON itself, as in Kong),
//! `GOOGLE_APPLICATION_CREDENTIALS` (a file), the file of `gcloud auth application-default login`, and
//! the metadata server, which is how a workload of GKE or a machine of Compute Engine is known. All
//! names are looked up in the environment that was handed in.
//!
//! `google-cloud-auth` does the same, but makes an HTTP client of its own for each call: proxies come
//! from the process environment, no CA can be given, redirects take the credentials along, an error
//! quotes what the server answered, and one refusal ends the credentials for good. So the exchanges
//! are made here, with the vault's own client. Two kinds of federation are left to it
//! (`federation.rs`), and for those what was just said holds.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder};
use vaultref_contract::Secret;
use zeroize::Zeroizing;

use crate::backend::network::Network;
use crate::backend::session::{Login, Session};
use crate::backend::{ReadError, network};
use crate::config::{ConfigError, Fields};
use crate::environment::Environment;
use crate::value::Wiped;
use document::Document;
use federation::Federation;
use impersonation::Impersonation;
use metadata::Metadata;
use service_account::ServiceAccount;
use user::User;

mod document;
mod exchange;
mod federation;
mod impersonation;
mod metadata;
mod service_account;
mod user;

/// The scope of all of Google Cloud; what may be done is IAM's to say.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Whom a call is charged to, if not the project that the credentials are of.
const QUOTA_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");

/// The credentials of one vault.
pub(super) struct Credentials {
    source: Source,
    quota_project: Option<HeaderValue>,
    /// For the servers that give tokens.
    http: Client,
    session: Session<Secret>,
}

enum Source {
    Federation(Federation),
    Impersonation(Impersonation),
    Metadata(Metadata),
    ServiceAccount(ServiceAccount),
    User(User),
}

/// What a token is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    /// To get a token of somebody else.
    Impersonation,
    SecretManager,
}

/// A token, and how long it holds.
struct Token {
    value: Secret,
    lease: Duration,
}

impl Credentials {
    /// Finds them, and reads what can be read without asking anybody.
    ///
    /// # Errors
    /// They are none, or of a kind that cannot be used.
    pub(super) fn take(
        fields: &mut Fields,
        environment: &Environment,
        network: &Network,
    ) -> Result<Self, ConfigError> {
        let Some((place, text)) = given(fields, environment)? else {
            let source = Source::Metadata(Metadata::of(environment)?);
            return Self::new(source, quota_project(None, environment)?, network);
        };
        let wrong = || ConfigError::new(&place, "is not JSON");
        let value = serde_json::from_slice(text.expose()).map_err(|_| wrong())?;
        let value = Wiped(value);
        let document = Document::new(&place, &value.0)?;
        let quota_project = quota_project(Some(&document), environment)?;
        Self::new(Source::read(&document)?, quota_project, network)
    }

    fn new(
        source: Source,
        quota_project: Option<HeaderValue>,
        network: &Network,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            http: match &source {
                Source::Metadata(_) | Source::ServiceAccount(_) => Network::client_nearby()?,
                _ => network.client_beside()?,
            },
            source,
            quota_project,
            session: Session::new(),
        })
    }

    /// The current token.
    pub(super) async fn current(&self) -> Result<Arc<Login<Secret>>, ReadError> {
        let login = async |_: Option<&Login<Secret>>| {
            let token = self
                .source
                .token(&self.http, Purpose::SecretManager)
                .await?;
            Ok(Login::leased(token.value, token.lease))
        };
        self.session.current(login).await
    }

    /// A token was not taken. Says whether to try again with another.
    pub(super) async fn forget(&self, login: &Arc<Login<Secret>>) -> bool {
        self.session.forget(login).await
    }

    /// Puts a token into a request.
    pub(super) fn authorize(
        &self,
        request: RequestBuilder,
        token: &Secret,
    ) -> Result<RequestBuilder, ReadError> {
        let request = request.header(AUTHORIZATION, bearer(token)?);
        Ok(match &self.quota_project {
            Some(project) => request.header(QUOTA_PROJECT, project),
            None => request,
        })
    }
}

impl Source {
    fn read(document: &Document<'_>) -> Result<Self, ConfigError> {
        match document.text("type")? {
            "authorized_user" => User::read(document).map(Self::User),
            "external_account" => Federation::read(document).map(Self::Federation),
            "impersonated_service_account" => {
                Impersonation::read(document).map(Self::Impersonation)
            }
            "service_account" => ServiceAccount::read(document).map(Self::ServiceAccount),
            _ => Err(document.error("type", "is of a kind that is not supported")),
        }
    }

    async fn token(&self, http: &Client, purpose: Purpose) -> Result<Token, ReadError> {
        match self {
            Self::Federation(source) => source.token(http).await,
            Self::Impersonation(source) => source.token(http).await,
            Self::Metadata(source) => source.token(http).await,
            Self::ServiceAccount(source) => source.token(purpose),
            Self::User(source) => source.token(http).await,
        }
    }
}

/// The JSON that the environment gives or names, and its place.
fn given(
    fields: &mut Fields,
    environment: &Environment,
) -> Result<Option<(String, Secret)>, ConfigError> {
    let set = |name: &str| environment.value(name).filter(|value| !value.is_empty());
    if let Some(text) = set("GCP_SERVICE_ACCOUNT") {
        return Ok(Some(("GCP_SERVICE_ACCOUNT".to_owned(), text.duplicate())));
    }
    let path = |name: &str| {
        let value = set(name).map(Secret::expose_text);
        value
            .map(|text| text.ok_or_else(|| ConfigError::new(name, "is not UTF-8")))
            .transpose()
    };
    let named = "GOOGLE_APPLICATION_CREDENTIALS";
    if let Some(file) = path(named)? {
        let content = fields.read_file(file).map_err(|error| {
            ConfigError::new(named, format!("{file} cannot be read: {}", error.kind()))
        })?;
        return Ok(Some((named.to_owned(), Secret::new(content))));
    }
    let folder = match (path("CLOUDSDK_CONFIG")?, path("HOME")?) {
        (Some(folder), _) => folder.to_owned(),
        (None, Some(home)) => format!("{home}/.config/gcloud"),
        (None, None) => return Ok(None),
    };
    let file = format!("{folder}/application_default_credentials.json");
    match fields.read_file(&file) {
        Ok(content) => Ok(Some((file, Secret::new(content)))),
        // Some services have `/dev/null` for a home.
        Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) => {
            Ok(None)
        }
        Err(error) => Err(ConfigError::new(
            &file,
            format!("cannot be read: {}", error.kind()),
        )),
    }
}

fn quota_project(
    document: Option<&Document<'_>>,
    environment: &Environment,
) -> Result<Option<HeaderValue>, ConfigError> {
    let variable = "GOOGLE_CLOUD_QUOTA_PROJECT";
    let given = environment.value(variable);
    if let Some(value) = given.filter(|value| !value.is_empty()) {
        return HeaderValue::from_bytes(value.expose())
            .map(Some)
            .map_err(|_| ConfigError::new(variable, "is no project"));
    }
    let Some(document) = document else {
        return Ok(None);
    };
    let named = document.maybe_text("quota_project_id")?;
    named
        .map(HeaderValue::from_str)
        .transpose()
        .map_err(|_| document.error("quota_project_id", "is no project"))
}

fn bearer(token: &Secret) -> Result<HeaderValue, ReadError> {
    let header = Zeroizing::new([b"Bearer ", token.expose()].concat());
    let header = HeaderValue::from_bytes(&header);
    let mut header = header.map_err(|_| network::unreadable("a server of tokens"))?;
    header.set_sensitive(true);
    Ok(header)
}
