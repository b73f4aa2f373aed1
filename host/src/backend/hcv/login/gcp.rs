//! `gcp_gce` and `gcp_iam`: a machine's identity token, and a token signed for a service account.
//!
//! `gcp_service_account` is the account's e-mail address, its key (JSON), or the file with its key.
//! With a key the token is signed here; else Google's IAM Credentials service signs it, asked with
//! what the environment gives: `GCP_SERVICE_ACCOUNT` (a key), `GOOGLE_APPLICATION_CREDENTIALS` (the
//! file of a key), or the identity of the machine or workload.

use futures::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Url};
use serde_json::json;
use vaultref_contract::Secret;
use zeroize::Zeroizing;

use super::outside::{Outside, ask, ask_json, json, text_of};
use super::{Method, Proof, Surroundings, Way, file, login_path, member, required, secret, text};
use crate::backend::hcv::server::Server;
use crate::backend::jws::Key;
use crate::backend::network::{self, Network};
use crate::backend::{ReadError, ReadErrorKind};
use crate::config::{ConfigError, Fields, Node};
use crate::value::Wiped;

pub(super) const GCE_FIELDS: &[&str] = &["gcp_auth_role", "gcp_login_path"];
pub(super) const IAM_FIELDS: &[&str] = &[
    "gcp_auth_role",
    "gcp_login_path",
    "gcp_service_account",
    "gcp_jwt_exp",
];

const METADATA: &str = "Google's metadata server";
const CREDENTIALS: &str = "Google's IAM Credentials service";

/// How long a token for the login holds, in seconds, if nothing is said; the server takes no more.
const JWT_SECONDS: u64 = 900;

/// How long a token for Google holds.
const BEARER_SECONDS: u64 = 3600;

struct Gce {
    path: String,
    role: String,
    outside: Outside,
    nearby: Client,
}

struct Iam {
    path: String,
    role: String,
    seconds: u64,
    account: Account,
    /// What the environment names, for when the account's own key is not known.
    ambient: Ambient,
    outside: Outside,
    nearby: Client,
    http: Client,
}

enum Account {
    Email(String),
    Key(ServiceAccount),
    KeyFile(String),
}

enum Ambient {
    Key(ServiceAccount),
    KeyFile(String),
    Machine,
}

/// What a service account's key file holds.
struct ServiceAccount {
    email: String,
    key_id: String,
    key: Key,
}

pub(super) fn take_gce(fields: &mut Fields, around: &Surroundings<'_>) -> Result<Way, ConfigError> {
    Ok(Way::Method(Box::new(Gce {
        role: text(&required(fields, "gcp_gce", "gcp_auth_role")?)?,
        path: login_path(fields.take("gcp_login_path"), "auth/gcp/login")?,
        outside: around.outside.clone(),
        nearby: Network::client_nearby()?,
    })))
}

pub(super) fn take_iam(fields: &mut Fields, around: &Surroundings<'_>) -> Result<Way, ConfigError> {
    let role = text(&required(fields, "gcp_iam", "gcp_auth_role")?)?;
    let account = Account::take(&required(fields, "gcp_iam", "gcp_service_account")?)?;
    let seconds = match fields.take("gcp_jwt_exp") {
        None => 0,
        Some(node) => node.integer(0..=JWT_SECONDS)?,
    };
    Ok(Way::Method(Box::new(Iam {
        path: login_path(fields.take("gcp_login_path"), "auth/gcp/login")?,
        role,
        seconds: if seconds == 0 { JWT_SECONDS } else { seconds },
        account,
        ambient: Ambient::take(around)?,
        outside: around.outside.clone(),
        nearby: Network::client_nearby()?,
        http: around.network.client_beside()?,
    })))
}

impl Method for Gce {
    fn name(&self) -> &'static str {
        "gcp_gce"
    }

    fn proof<'a>(&'a self, _: &'a Server) -> BoxFuture<'a, Result<Proof, ReadError>> {
        Box::pin(async {
            let mut url = metadata(&self.outside, "identity")?;
            url.query_pairs_mut()
                .append_pair("audience", &format!("vault/{}", self.role))
                .append_pair("format", "full");
            let request = self.nearby.get(url).header("metadata-flavor", "Google");
            let jwt = member(&ask(METADATA, request).await?)?;
            Ok(Proof {
                path: self.path.clone(),
                body: Wiped(json!({"role": self.role, "jwt": jwt})),
                http: None,
            })
        })
    }
}

impl Method for Iam {
    fn name(&self) -> &'static str {
        "gcp_iam"
    }

    fn proof<'a>(&'a self, _: &'a Server) -> BoxFuture<'a, Result<Proof, ReadError>> {
        Box::pin(async {
            let jwt = match &self.account {
                Account::Key(account) => self.sign(account)?,
                Account::KeyFile(path) => self.sign(&ServiceAccount::read(path).await?)?,
                Account::Email(email) => self.sign_for(email).await?,
            };
            let jwt = member(&jwt)?;
            Ok(Proof {
                path: self.path.clone(),
                body: Wiped(json!({"role": self.role, "jwt": jwt})),
                http: None,
            })
        })
    }
}

impl Iam {
    fn sign(&self, account: &ServiceAccount) -> Result<Secret, ReadError> {
        account.sign(&self.claims(&account.email))
    }

    async fn sign_for(&self, email: &str) -> Result<Secret, ReadError> {
        let read;
        let known = match &self.ambient {
            Ambient::Key(account) => Some(account),
            Ambient::KeyFile(path) => {
                read = ServiceAccount::read(path).await?;
                Some(&read)
            }
            Ambient::Machine => None,
        };
        let bearer = match known {
            Some(account) if account.email == email => return self.sign(account),
            Some(account) => self.bearer_of(account)?,
            None => self.bearer_of_machine().await?,
        };
        let base = format!(
            "{}/v1/projects/-/serviceAccounts",
            self.outside.google_credentials
        );
        let mut url = Url::parse(&base).map_err(|_| network::unreadable(CREDENTIALS))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(&format!("{email}:signJwt"));
        }
        let mut text = Zeroizing::new(b"Bearer ".to_vec());
        text.extend_from_slice(bearer.expose());
        let value = HeaderValue::from_bytes(&text);
        let mut value = value.map_err(|_| network::unreadable(METADATA))?;
        value.set_sensitive(true);
        let payload = self.claims(email).to_string();
        let request = self
            .http
            .post(url)
            .header(AUTHORIZATION, value)
            .json(&json!({ "payload": payload }));
        let mut answer = ask_json(CREDENTIALS, request).await?;
        text_of(CREDENTIALS, &mut answer, "signedJwt")
    }

    fn claims(&self, email: &str) -> serde_json::Value {
        json!({
            "aud": format!("vault/{}", self.role),
            "sub": email,
            "exp": self.outside.seconds_from_now(self.seconds),
        })
    }

    /// A service account's own signature is as good as an access token
    /// (<https://google.aip.dev/auth/4111>).
    fn bearer_of(&self, account: &ServiceAccount) -> Result<Secret, ReadError> {
        account.sign(&json!({
            "iss": account.email,
            "sub": account.email,
            "aud": "https://iamcredentials.googleapis.com/",
            "iat": self.outside.seconds_from_now(0),
            "exp": self.outside.seconds_from_now(BEARER_SECONDS),
        }))
    }

    async fn bearer_of_machine(&self) -> Result<Secret, ReadError> {
        let url = metadata(&self.outside, "token")?;
        let request = self.nearby.get(url).header("metadata-flavor", "Google");
        let mut answer = ask_json(METADATA, request).await?;
        text_of(METADATA, &mut answer, "access_token")
    }
}

impl Account {
    fn take(node: &Node) -> Result<Self, ConfigError> {
        let given = secret(node)?;
        if given.expose().starts_with(b"{") {
            let account = ServiceAccount::parse(&given);
            return account.map(Self::Key).ok_or_else(|| node.error(NO_KEY));
        }
        let text = text(node)?;
        let is_email = text.contains('@') && !text.contains(['/', ' ']);
        Ok(if is_email {
            Self::Email(text)
        } else {
            Self::KeyFile(text)
        })
    }
}

const NO_KEY: &str = "is no key of a service account (JSON with client_email, private_key_id and \
     private_key)";

impl Ambient {
    fn take(around: &Surroundings<'_>) -> Result<Self, ConfigError> {
        let given = |name| {
            around
                .environment
                .value(name)
                .filter(|value| !value.is_empty())
        };
        let (json, path) = ("GCP_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS");
        if let Some(text) = given(json) {
            let account = ServiceAccount::parse(text);
            return account
                .map(Self::Key)
                .ok_or_else(|| ConfigError::new(json, NO_KEY));
        }
        match given(path).and_then(Secret::expose_text) {
            Some(path) => Ok(Self::KeyFile(path.to_owned())),
            None => Ok(Self::Machine),
        }
    }
}

impl ServiceAccount {
    fn parse(text: &Secret) -> Option<Self> {
        let mut fields = json("", text).ok()?;
        let mut field = |name: &str| text_of("", &mut fields, name).ok();
        let key = Key::from_pem(field("private_key")?.expose())?;
        let mut name = |name: &str| Some(field(name)?.expose_text()?.to_owned());
        Some(Self {
            email: name("client_email")?,
            key_id: name("private_key_id")?,
            key,
        })
    }

    async fn read(path: &str) -> Result<Self, ReadError> {
        Self::parse(&file(path).await?).ok_or_else(|| {
            let cause = format!("{path} {NO_KEY}");
            ReadError::new(ReadErrorKind::Denied, cause)
        })
    }

    fn sign(&self, claims: &serde_json::Value) -> Result<Secret, ReadError> {
        self.key.sign(&self.key_id, claims).ok_or_else(|| {
            let cause = "the service account's key cannot sign";
            ReadError::new(ReadErrorKind::Denied, cause)
        })
    }
}

fn metadata(outside: &Outside, what: &str) -> Result<Url, ReadError> {
    let place = "computeMetadata/v1/instance/service-accounts/default";
    let url = format!("{}/{place}/{what}", outside.google_metadata);
    Url::parse(&url).map_err(|_| network::unreadable(METADATA))
}
