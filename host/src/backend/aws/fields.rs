//! The fields of a vault that say where it looks and as whom.

use reqwest::Url;

use crate::backend::amazon::credentials::Role;
use crate::config::{ConfigError, Fields, Node};
use crate::environment::Environment;

/// Kong's.
const SESSION_NAME: &str = "KongVault";

/// Where a vault looks.
pub(super) struct Place {
    pub(super) region: String,
    /// None: AWS's own.
    pub(super) endpoint: Option<String>,
}

impl Place {
    /// Takes `region` and `endpoint_url`, or the variables that AWS has for them.
    ///
    /// # Errors
    /// One of them is none; there is no region.
    pub(super) fn take(
        fields: &mut Fields,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let region = match fields.take("region") {
            Some(node) => region(&node.text()?).map_err(|problem| node.error(problem))?,
            None => {
                let (name, given) = variable(environment, &["AWS_REGION", "AWS_DEFAULT_REGION"])
                    .ok_or_else(|| {
                        fields.error("the field 'region' is missing, and AWS_REGION is not set")
                    })?;
                region(given).map_err(|problem| ConfigError::new(name, problem))?
            }
        };
        let endpoint = match fields.take("endpoint_url") {
            Some(node) => Some(endpoint(&node)?),
            None => variable(
                environment,
                &["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"],
            )
            .map(|(name, given)| address(given).map_err(|problem| ConfigError::new(name, problem)))
            .transpose()?,
        };
        Ok(Self { region, endpoint })
    }

    /// One text for all ways to one region of AWS, and to one server that stands in for it.
    pub(super) fn scope(&self) -> String {
        let url = self
            .endpoint
            .as_deref()
            .and_then(|url| Url::parse(url).ok());
        let Some(url) = url.filter(|url| !is_of_aws(url)) else {
            return format!("{}/", self.region);
        };
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let is_here = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
        format!(
            "{} at {}://{}:{}{}/",
            self.region,
            url.scheme(),
            if is_here { "localhost" } else { host },
            url.port_or_known_default().unwrap_or_default(),
            url.path().trim_end_matches('/')
        )
    }
}

/// Takes `sts_endpoint_url`.
///
/// # Errors
/// It is no address.
pub(super) fn sts_endpoint(fields: &mut Fields) -> Result<Option<String>, ConfigError> {
    let node = fields.take("sts_endpoint_url");
    node.as_ref().map(endpoint).transpose()
}

/// Takes `assume_role_arn` and `role_session_name`. Gives the role's account beside it.
///
/// # Errors
/// They are none.
pub(super) fn role(fields: &mut Fields) -> Result<Option<(Role, u64)>, ConfigError> {
    let session_name = match fields.take("role_session_name") {
        None => SESSION_NAME.to_owned(),
        Some(node) => session_name(&node)?,
    };
    let Some(node) = fields.take("assume_role_arn") else {
        return Ok(None);
    };
    let arn = node.text()?;
    let account = account_of_role(&arn)
        .ok_or_else(|| node.error("must be a role's ARN, as arn:aws:iam::ACCOUNT:role/NAME"))?;
    Ok(Some((Role { arn, session_name }, account)))
}

fn region(text: &str) -> Result<String, &'static str> {
    // It becomes a part of a host's name.
    let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let shaped = (1..=63).contains(&text.len())
        && text.bytes().all(is_label)
        && !text.starts_with('-')
        && !text.ends_with('-');
    shaped
        .then(|| text.to_owned())
        .ok_or("must be a region's name, such as eu-central-1")
}

fn endpoint(node: &Node) -> Result<String, ConfigError> {
    address(&node.text()?).map_err(|problem| node.error(problem))
}

/// An address as it is used, in one form however it was written.
fn address(text: &str) -> Result<String, &'static str> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    url.map(|url| url.as_str().trim_end_matches('/').to_owned())
        .ok_or("must be an http or https address without user, query and fragment")
}

/// AWS's own names, those of private endpoints among them: they all lead to the region.
fn is_of_aws(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"]
        .iter()
        .any(|domain| host.ends_with(domain))
}

fn session_name(node: &Node) -> Result<String, ConfigError> {
    let text = node.text()?;
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if !(2..=64).contains(&text.len()) || !text.bytes().all(is_of_names) {
        return Err(node.error("must be 2 to 64 ASCII letters, digits and _+=,.@-"));
    }
    Ok(text)
}

fn account_of_role(arn: &str) -> Option<u64> {
    let (partition, rest) = arn.strip_prefix("arn:")?.split_once(":iam::")?;
    let (account, name) = rest.split_once(":role/")?;
    let is_partition = partition == "aws" || partition.starts_with("aws-");
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_partition || !is_account || !is_name {
        return None;
    }
    account.parse().ok()
}

/// The first of these variables that says something.
fn variable<'a>(
    environment: &'a Environment,
    names: &[&'static str],
) -> Option<(&'static str, &'a str)> {
    let mut given = names.iter().filter_map(|name| {
        let text = environment.value(name)?.expose_text()?.trim();
        Some((*name, text))
    });
    given.find(|(_, text)| !text.is_empty())
}
