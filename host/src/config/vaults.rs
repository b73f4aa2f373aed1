//! The `vaults` of a configuration, and the backends that are used by their own name.

use std::sync::Arc;
use std::time::Duration;

use super::files::Files;
use super::node::{ConfigError, Fields, Node};
use crate::backend::{KINDS, Kind};
use crate::environment::Environment;
use crate::vault::{Dependent, Settings, Vault, Vaults};

/// Our own variables come before Kong's.
const VARIABLES: [&str; 2] = ["VAULTREF_", "KONG_VAULT_"];

const MAX_SECONDS: u64 = 10 * 365 * 86_400;

/// What vaults are made with.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) environment: &'a Arc<Environment>,
    /// The vaults of the reading before: one that says the same is taken over as it is, with its
    /// connections and its logins.
    pub(super) before: Option<&'a Vaults>,
}

/// Reads the list, then adds the backends that the environment configures, and `env`.
pub(super) fn vaults(
    listed: Option<Node>,
    kong: bool,
    context: Context<'_>,
) -> Result<Vaults, ConfigError> {
    let mut vaults = Vaults::default();
    for node in listed.map(Node::list).transpose()?.unwrap_or_default() {
        let place = node.place().to_owned();
        let vault = entity(node, kong, context)?;
        let name = vault.name().to_owned();
        if !vaults.add(vault) {
            let problem = format!("another vault is called '{name}' already");
            return Err(ConfigError::new(&place, problem));
        }
    }
    for kind in KINDS {
        if vaults.find(kind.name).is_some() {
            continue;
        }
        let mut fields = Fields::empty(format!("{}{}_*", VARIABLES[0], upper(kind.name)));
        let given = add_variables(&mut fields, *kind, context.environment)?;
        if given || kind.name == "env" {
            let vault = build(kind.name.to_owned(), *kind, fields, context)?;
            // The name is free: it was just looked for.
            let _ = vaults.add(vault);
        }
    }
    check_dependencies(&vaults)?;
    Ok(vaults)
}

/// Each vault that a vault's field refers to must be there, and none may need itself.
fn check_dependencies(vaults: &Vaults) -> Result<(), ConfigError> {
    for vault in vaults.iter() {
        check_path(vaults, vault, &mut Vec::new())?;
    }
    Ok(())
}

fn check_path<'a>(
    vaults: &'a Vaults,
    vault: &'a Vault,
    path: &mut Vec<&'a str>,
) -> Result<(), ConfigError> {
    let Some(dependent) = vault.as_dependent() else {
        return Ok(());
    };
    let place = format!("vault '{}'", vault.name());
    if path.contains(&vault.name()) {
        path.push(vault.name());
        let problem = format!("needs itself to be read: {}", path.join(" -> "));
        return Err(ConfigError::new(&place, problem));
    }
    path.push(vault.name());
    for reference in dependent.references() {
        let name = reference.reference().vault();
        let needed = vaults.find(name).ok_or_else(|| {
            let problem = format!("a field refers to the vault '{name}', which is unknown");
            ConfigError::new(&place, problem)
        })?;
        check_path(vaults, needed, path)?;
    }
    path.pop();
    Ok(())
}

fn entity(node: Node, kong: bool, context: Context<'_>) -> Result<Arc<Vault>, ConfigError> {
    let place = node.place().to_owned();
    let mut fields = node.fields()?;
    let backend = fields.require("name")?;
    let kind = Kind::find(&backend.text()?).ok_or_else(|| {
        let known: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        backend.error(format!(
            "unknown backend; this build has {}",
            known.join(", ")
        ))
    })?;
    let prefix = match fields.take("prefix") {
        None => None,
        Some(node) => Some(checked_prefix(&node)?),
    };
    // For people; nothing depends on them.
    if let Some(node) = fields.take("description") {
        node.text()?;
    }
    if let Some(node) = fields.take("tags") {
        node.texts()?;
    }
    if kong {
        for exported in ["created_at", "id", "updated_at"] {
            fields.take(exported);
        }
    }
    let mut config = match fields.take("config") {
        None => Fields::empty(format!("{place}.config")),
        Some(node) => node.fields()?,
    };
    fields.finish()?;
    if prefix.is_none() {
        add_variables(&mut config, kind, context.environment)?;
    }
    let name = prefix.unwrap_or_else(|| kind.name.to_owned());
    build(name, kind, config, context)
}

fn checked_prefix(node: &Node) -> Result<String, ConfigError> {
    let prefix = node.text()?;
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let shaped = prefix.len() >= 2
        && prefix.starts_with(|c: char| c.is_ascii_lowercase())
        && prefix.ends_with(edge)
        && prefix.chars().all(|c| edge(c) || c == '-');
    if !shaped {
        return Err(node.error(
            "must be lower-case letters, digits and '-', start with a letter and not end with '-'",
        ));
    }
    if BACKEND_NAMES.contains(&prefix.as_str()) {
        return Err(node.error("may not be the name of a backend"));
    }
    Ok(prefix)
}

/// All of Kong's, whether this build has them or not, so that a file does not break when one comes.
const BACKEND_NAMES: [&str; 8] = [
    "aws",
    "azure",
    "azure-certs",
    "conjur",
    "env",
    "fs",
    "gcp",
    "hcv",
];

fn build(
    name: String,
    kind: Kind,
    mut fields: Fields,
    context: Context<'_>,
) -> Result<Arc<Vault>, ConfigError> {
    let fingerprint = fields.fingerprint();
    let before = context.before.and_then(|vaults| vaults.find(&name));
    let is_same =
        |vault: &&Arc<Vault>| vault.kind().name == kind.name && vault.is_defined_by(fingerprint);
    if let Some(vault) = before.filter(is_same) {
        return Ok(Arc::clone(vault));
    }
    let environment = context.environment;
    let settings = settings(&mut fields, kind)?;
    let references = fields.references()?;
    if !references.is_empty() {
        let dependent = Dependent::new(kind, fields, references, environment)?;
        let vault = Vault::dependent(name, dependent, settings);
        return Ok(Arc::new(vault.defined_by(fingerprint, Files::default())));
    }
    let backend = (kind.build)(&mut fields, environment)?;
    let files = fields.files();
    fields.finish()?;
    let vault = Vault::new(name, kind, backend, settings);
    Ok(Arc::new(vault.defined_by(fingerprint, files)))
}

fn settings(fields: &mut Fields, kind: Kind) -> Result<Settings, ConfigError> {
    let defaults = Settings::default();
    let mut seconds = |name: &str, least: u64| {
        let node = fields.take(name);
        node.map(|node| node.integer(least..=MAX_SECONDS).map(Duration::from_secs))
            .transpose()
    };
    let ttl = seconds("ttl", 0)?.unwrap_or(kind.ttl);
    let ttl = (!ttl.is_zero()).then_some(ttl);
    let neg_ttl = seconds("neg_ttl", 0)?.unwrap_or(defaults.neg_ttl);
    let resurrect_ttl = seconds("resurrect_ttl", 0)?.unwrap_or(defaults.resurrect_ttl);
    let min_ttl = seconds("min_ttl", 1)?.unwrap_or(defaults.min_ttl);
    let max_ttl = seconds("max_ttl", 1)?;
    let timeout = seconds("timeout", 1)?.unwrap_or(defaults.timeout);
    if max_ttl.is_some_and(|max_ttl| max_ttl < min_ttl) {
        return Err(fields.error("'max_ttl' is less than 'min_ttl'"));
    }
    if ttl.is_some_and(|ttl| ttl < min_ttl) {
        return Err(fields.error("'ttl' is less than 'min_ttl'"));
    }
    let rate_limit = match fields.take("rate_limit") {
        None => defaults.rate_limit,
        Some(node) => {
            let limit = u32::try_from(node.integer(0..=1_000_000)?).unwrap_or(u32::MAX);
            (limit > 0).then_some(limit)
        }
    };
    let base64_decode = match fields.take("base64_decode") {
        None => defaults.base64_decode,
        Some(node) => node.boolean()?,
    };
    let allow_options = match fields.take("allow_options") {
        None => defaults.allow_options,
        Some(node) => allowed_options(node, kind)?,
    };
    Ok(Settings {
        ttl,
        neg_ttl,
        resurrect_ttl,
        min_ttl,
        max_ttl,
        base64_decode,
        timeout,
        rate_limit,
        allow_options,
    })
}

fn allowed_options(node: Node, kind: Kind) -> Result<Vec<String>, ConfigError> {
    let items = node.list()?.into_iter().map(|item| {
        let name = item.text()?;
        if kind.reference_options.contains(&name.as_str()) {
            return Ok(name);
        }
        Err(item.error(match kind.reference_options {
            [] => format!("no field of '{}' can be set by a reference", kind.name),
            some => format!(
                "of '{}' a reference can set only {}",
                kind.name,
                some.join(", ")
            ),
        }))
    });
    items.collect()
}

/// Fills what is not given from `VAULTREF_<BACKEND>_<FIELD>`, then `KONG_VAULT_<BACKEND>_<FIELD>`.
fn add_variables(
    fields: &mut Fields,
    kind: Kind,
    environment: &Environment,
) -> Result<bool, ConfigError> {
    let mut given = false;
    for start in VARIABLES {
        let start = format!("{start}{}_", upper(kind.name));
        for (rest, value) in environment.starting_with(&start) {
            // `VAULTREF_AZURE_CERTS_TTL` is a field of `azure-certs`, not of `azure`.
            let is_others = |other: &Kind| {
                other.name.len() > kind.name.len()
                    && format!("{}_{rest}", upper(kind.name))
                        .starts_with(&format!("{}_", upper(other.name)))
            };
            if KINDS.iter().any(is_others) {
                continue;
            }
            let node = Node::variable(format!("{start}{rest}"), value)?;
            fields.add_missing(&rest.to_ascii_lowercase(), node);
            given = true;
        }
    }
    Ok(given)
}

fn upper(backend: &str) -> String {
    backend.replace('-', "_").to_ascii_uppercase()
}
