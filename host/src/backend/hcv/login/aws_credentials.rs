//! Whose AWS credentials sign: those in the fields, or what the chain finds in the environment,
//! files, container or instance; and the role that is taken on with them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use reqwest::Url;
use vaultref_contract::Secret;

use super::{Surroundings, secret, text};
use crate::backend::amazon::credentials::{Chain, Role};
use crate::config::{ConfigError, Fields};
use crate::environment::Environment;

/// Where the credentials come from; the role is taken on at the endpoint.
pub(super) fn take(
    fields: &mut Fields,
    around: &Surroundings<'_>,
    region: &str,
    endpoint: &Url,
) -> Result<Chain, ConfigError> {
    Ok(Chain {
        region: region.to_owned(),
        sts_endpoint: Some(endpoint.as_str().to_owned()),
        role: role(fields)?,
        http: around.network.client_beside()?,
        environment: match keys(fields)? {
            Some(keys) => Arc::new(keys),
            None => Arc::clone(around.environment),
        },
    })
}

fn role(fields: &mut Fields) -> Result<Option<Role>, ConfigError> {
    let session_name = match fields.take("aws_role_session_name") {
        None => "KongVault".to_owned(),
        Some(node) => text(&node)?,
    };
    let arn = fields.take("aws_assume_role_arn");
    let arn = arn.map(|node| text(&node)).transpose()?;
    Ok(arn.map(|arn| Role { arn, session_name }))
}

/// Keys that are given, as variables in which the chain finds them first.
fn keys(fields: &mut Fields) -> Result<Option<Environment>, ConfigError> {
    let id = fields.take("aws_access_key_id");
    let (id, key) = match (id, fields.take("aws_secret_access_key")) {
        (Some(id), Some(key)) => (secret(&id)?, secret(&key)?),
        (Some(id), None) => return Err(id.error("needs 'aws_secret_access_key' beside it")),
        (None, Some(key)) => return Err(key.error("needs 'aws_access_key_id' beside it")),
        (None, None) => return Ok(None),
    };
    let value = |secret: &Secret| OsString::from_vec(secret.expose().to_vec());
    Ok(Some(Environment::new([
        ("AWS_ACCESS_KEY_ID".into(), value(&id)),
        ("AWS_SECRET_ACCESS_KEY".into(), value(&key)),
    ])))
}
