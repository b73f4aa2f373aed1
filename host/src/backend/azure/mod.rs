//! `azure` and `azure-certs`: the secrets and the certificates of an Azure Key Vault.
//!
//! They go through Microsoft's SDK, over a client of our own (see [`transport`]) and with a login of
//! our own (see [`credential`]); the SDK answers the vault's challenge and makes the calls. Names
//! are checked here, since the SDK puts them into the path as they are: `../keys/x` would read
//! another thing than policy was asked about.
//!
//! To Key Vault a name is the same in capitals, so the canonical one is in lower case
//! (<https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates>). A version
//! is 32 hexadecimal digits, which `#` of a reference cannot spell; where the vault allows it, the
//! option `version` can.

mod certificate;
mod credential;
mod managed;
mod pfx;
mod transport;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_security_keyvault_certificates::models::CertificateClientGetCertificateOptions;
use azure_security_keyvault_certificates::{
    CertificateClient, CertificateClientOptions, ResourceExt as _,
};
use azure_security_keyvault_secrets::models::{Secret as Answered, SecretClientGetSecretOptions};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use futures::future::BoxFuture;
use vaultref_contract::Secret;

use self::credential::{Credential, Given};
use self::transport::{Asks, failed, options};
use super::network::{self, Network};
use super::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading, Spelling, USUAL_TTL};
use crate::config::{ConfigError, Fields, Node};
use crate::environment::Environment;

pub(super) const SECRETS: Kind = Kind {
    name: "azure",
    build: secrets,
    ttl: USUAL_TTL,
    reference_options: &[VERSION],
    spelling: SPELLING,
};

pub(super) const CERTIFICATES: Kind = Kind {
    name: "azure-certs",
    build: certificates,
    // As Kong has it: a certificate changes seldom, and long before its end.
    ttl: Duration::from_secs(3600),
    reference_options: &[VERSION],
    spelling: SPELLING,
};

/// The option of a reference that names a version.
const VERSION: &str = "version";

const SPELLING: Spelling = Spelling {
    pattern,
    loosely: str::to_ascii_lowercase,
};

/// The secrets of a vault.
struct Secrets {
    credential: Arc<Credential>,
    client: SecretClient,
    scope: String,
}

/// The certificates of a vault, with their keys.
struct Certificates {
    secrets: Secrets,
    client: CertificateClient,
}

/// What both kinds of vault are made of.
struct Parts {
    address: String,
    credential: Arc<Credential>,
    http: reqwest::Client,
}

fn secrets(
    fields: &mut Fields,
    environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    if let Some(node) = fields.take("type") {
        node.word(&["secrets"])?;
    }
    let parts = Parts::take(fields, environment)?;
    Ok(Arc::new(parts.secrets(fields, "secrets")?))
}

fn certificates(
    fields: &mut Fields,
    environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    let parts = Parts::take(fields, environment)?;
    let secrets = parts.secrets(fields, "certificates")?;
    let client = CertificateClient::new(
        &parts.address,
        parts.token(),
        Some(CertificateClientOptions {
            client_options: options(&parts.http, Asks::Vault),
            ..CertificateClientOptions::default()
        }),
    );
    let client = client.map_err(|_| unusable(fields))?;
    Ok(Arc::new(Certificates { secrets, client }))
}

impl Parts {
    fn take(fields: &mut Fields, environment: &Environment) -> Result<Self, ConfigError> {
        let (address, host) = address(&fields.require("vault_uri")?)?;
        // Kong asks for the region. The address says all there is to know.
        if let Some(node) = fields.take("location") {
            node.text()?;
        }
        let network = Network::take(fields, environment)?;
        let credential = Credential::take(fields, environment, &network, &host)?;
        Ok(Self {
            address,
            credential: Arc::new(credential),
            http: network.client(true)?,
        })
    }

    fn secrets(&self, fields: &Fields, collection: &str) -> Result<Secrets, ConfigError> {
        let client = SecretClient::new(
            &self.address,
            self.token(),
            Some(SecretClientOptions {
                client_options: options(&self.http, Asks::Vault),
                ..SecretClientOptions::default()
            }),
        );
        Ok(Secrets {
            credential: Arc::clone(&self.credential),
            client: client.map_err(|_| unusable(fields))?,
            scope: format!("{}/{collection}/", self.address),
        })
    }

    fn token(&self) -> Arc<dyn TokenCredential> {
        Arc::clone(&self.credential) as Arc<dyn TokenCredential>
    }
}

/// The vault's address in the one form in which two vaults that are the same are equal, and its
/// host. A token goes there, so it is `https` alone.
fn address(node: &Node) -> Result<(String, String), ConfigError> {
    let wrong = || node.error("must be an address such as https://my-vault.vault.azure.net");
    let url = reqwest::Url::parse(node.text()?.trim()).map_err(|_| wrong())?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    if url.scheme() != "https" || !is_plain || host.is_empty() {
        return Err(wrong());
    }
    let port = url
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    Ok((format!("https://{host}{port}"), host.to_owned()))
}

fn unusable(fields: &Fields) -> ConfigError {
    fields.error("the vault cannot be used with these fields")
}

impl Backend for Secrets {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.scope)
    }

    fn objects_are_texts(&self) -> bool {
        true
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        object(&self.scope, asked)
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let (name, version) = name_and_version(&object.path);
        Box::pin(async move {
            let before = self.credential.given();
            let mut read = self.secret(name, version).await;
            if self.is_worth_another(before, read.as_ref().err()).await? {
                read = self.secret(name, version).await;
            }
            read.map(|(value, _)| Reading::new(value))
        })
    }
}

impl Secrets {
    /// Whether to ask once more: the vault refused, and what it refused may be the token. (Which is
    /// the one of before: somebody else may have a newer one by now.)
    async fn is_worth_another(
        &self,
        before: Option<Given>,
        error: Option<&ReadError>,
    ) -> Result<bool, ReadError> {
        match (before, error) {
            (Some(before), Some(error)) if error.kind == ReadErrorKind::Denied => {
                self.credential.renew(&before).await
            }
            _ => Ok(false),
        }
    }

    /// A secret's value and content type.
    async fn secret(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<(Secret, Option<String>), ReadError> {
        let options = SecretClientGetSecretOptions {
            secret_version: version.map(str::to_owned),
            ..SecretClientGetSecretOptions::default()
        };
        let answer = self.client.get_secret(name, Some(options)).await;
        let answer: Answered = answer
            .and_then(|answer| answer.into_model())
            .map_err(|error| failed(Asks::Vault, &error))?;
        let value = answer.value.ok_or_else(unreadable)?;
        Ok((Secret::from(value), answer.content_type))
    }
}

impl Backend for Certificates {
    fn scope(&self) -> Cow<'_, str> {
        self.secrets.scope()
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        object(&self.secrets.scope, asked)
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let (name, version) = name_and_version(&object.path);
        Box::pin(async move {
            let before = self.secrets.credential.given();
            let mut read = self.certificate(name, version).await;
            let error = read.as_ref().err();
            if self.secrets.is_worth_another(before, error).await? {
                read = self.certificate(name, version).await;
            }
            let (certificate, value, content_type) = read?;
            let made = tokio::task::spawn_blocking(move || {
                certificate::object(&value, content_type.as_deref(), &certificate)
            });
            let object = made.await.ok().flatten().ok_or_else(|| {
                ReadError::new(
                    ReadErrorKind::WrongType,
                    "the certificate's secret is neither PEM nor PKCS #12 that can be read",
                )
            })?;
            Ok(Reading::new(object))
        })
    }
}

impl Certificates {
    /// The certificate itself, and the secret that belongs to it: the same version of both, and
    /// never a secret that is no certificate's.
    async fn certificate(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<(Vec<u8>, Secret, Option<String>), ReadError> {
        let options = CertificateClientGetCertificateOptions {
            certificate_version: version.map(str::to_owned),
            ..CertificateClientGetCertificateOptions::default()
        };
        let answer = self.client.get_certificate(name, Some(options)).await;
        let answer = answer
            .and_then(|answer| answer.into_model())
            .map_err(|error| failed(Asks::Vault, &error))?;
        if answer.attributes.as_ref().and_then(|of| of.enabled) == Some(false) {
            return Err(ReadError::new(
                ReadErrorKind::NotFound,
                "the certificate is disabled, or has not been issued yet",
            ));
        }
        let id = answer.resource_id().map_err(|_| unreadable())?;
        let version = id.version.filter(|version| is_version(version));
        let version = version.ok_or_else(unreadable)?;
        let certificate = answer.cer.ok_or_else(unreadable)?;
        let (value, content_type) = self.secrets.secret(name, Some(&version)).await?;
        Ok((certificate, value, content_type))
    }
}

fn object(scope: &str, asked: &Asked<'_>) -> Result<Object, ReadError> {
    let invalid = |cause: &'static str| ReadError::new(ReadErrorKind::InvalidName, cause);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !(1..=127).contains(&asked.resource.len()) || !asked.resource.chars().all(is_part) {
        return Err(invalid(
            "a name in Key Vault is 1 to 127 letters, digits and '-'",
        ));
    }
    if asked.version.is_some() {
        return Err(ReadError::new(
            ReadErrorKind::NotFound,
            "a version in Key Vault is 32 hexadecimal digits, so none has a number; the option \
             'version' takes them where the vault allows it",
        ));
    }
    let name = asked.resource.to_ascii_lowercase();
    let given = asked.options.iter().find(|(name, _)| name == VERSION);
    let (path, alias) = match given {
        None => (name, None),
        Some((_, version)) => {
            let version = version.to_ascii_lowercase();
            if !is_version(&version) {
                return Err(invalid("the option 'version' is not 32 hexadecimal digits"));
            }
            (format!("{name}/{version}"), Some(name))
        }
    };
    Ok(Object {
        scope: scope.to_owned(),
        path,
        version: None,
        alias,
    })
}

fn name_and_version(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (path, None),
    }
}

fn is_version(text: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.len() == 32 && text.chars().all(is_digit)
}

fn pattern(pattern: &str) -> String {
    // What follows is a key, which is what it is, or a version, which has no capitals.
    match pattern.split_once('/') {
        Some((name, rest)) => format!("{}/{rest}", name.to_ascii_lowercase()),
        None => pattern.to_ascii_lowercase(),
    }
}

fn unreadable() -> ReadError {
    network::unreadable("the vault")
}

#[cfg(test)]
mod tests;
