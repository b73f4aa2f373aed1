//! `vaultref.yaml`, and Kong's declarative file, into vaults, listeners and clients.
//!
//! Everything is checked while it is read: what comes out can be used as it is. An error names the
//! file, the path in it and what is wanted; it never repeats a value, which may be a token.

mod clients;
mod files;
mod listen;
mod node;
mod vaults;

use std::path::Path;
use std::sync::Arc;

use vaultref_contract::Reference;
use zeroize::Zeroizing;

pub(crate) use files::Files;
pub use listen::Listen;
pub use node::{ConfigError, Fields, Node};

use crate::environment::Environment;
use crate::policy::Clients;
use crate::vault::Vaults;

/// A whole configuration.
#[derive(Debug)]
pub struct Config {
    /// The vaults by name.
    pub vaults: Vaults,
    /// Where the daemon listens; empty if the file does not say.
    pub listen: Vec<Listen>,
    /// Who may read what.
    pub clients: Clients,
    /// References that are read before the daemon says that it is ready.
    pub prefetch: Vec<String>,
}

/// Reads a file.
///
/// # Errors
/// Names the file, the path in it and the cause.
pub fn load(file: &Path, environment: &Arc<Environment>) -> Result<Config, ConfigError> {
    load_again(file, environment, None)
}

/// Reads a file anew. Vaults that say the same as `before` are taken over from there.
///
/// # Errors
/// Names the file, the path in it and the cause.
pub fn load_again(
    file: &Path,
    environment: &Arc<Environment>,
    before: Option<&Vaults>,
) -> Result<Config, ConfigError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError::new(&name, format!("cannot be read: {}", error.kind())))?;
    parse_again(&Zeroizing::new(text), environment, before).map_err(|error| error.in_file(&name))
}

/// What there is without a file: `env`, and the backends that the environment configures.
///
/// # Errors
/// Names the variable and the cause.
pub fn without_file(environment: &Arc<Environment>) -> Result<Config, ConfigError> {
    parse("{}", environment)
}

/// Reads the text of a file.
///
/// # Errors
/// Names the path in the text and the cause.
pub fn parse(text: &str, environment: &Arc<Environment>) -> Result<Config, ConfigError> {
    parse_again(text, environment, None)
}

/// Reads the text of a file anew. Vaults that say the same as `before` are taken over from there.
///
/// # Errors
/// Names the path in the text and the cause.
pub fn parse_again(
    text: &str,
    environment: &Arc<Environment>,
    before: Option<&Vaults>,
) -> Result<Config, ConfigError> {
    let document: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|error| {
        // The parser's own words may quote the text.
        let place = error.location().map_or_else(String::new, |at| {
            format!("line {}, column {}", at.line(), at.column())
        });
        ConfigError::new(&place, "is not YAML, or has a name twice")
    })?;
    let context = vaults::Context {
        environment,
        before,
    };
    let root = Node::root(document);
    if !root.is_mapping() {
        return Err(root.error("must be a mapping with 'vaults', 'listen' and 'clients'"));
    }
    let mut fields = root.fields()?;
    let kong = fields.take("_format_version").is_some();
    let vaults = vaults::vaults(fields.take("vaults"), kong, context)?;
    let listen = listen::listen(fields.take("listen"))?;
    let clients = clients::clients(fields.take("clients"), &vaults)?;
    let prefetch = prefetch(fields.take("prefetch"), &vaults)?;
    // Kong's file holds services, routes and plugins as well, which are none of our business.
    if !kong {
        fields.finish()?;
    }
    Ok(Config {
        vaults,
        listen,
        clients,
        prefetch,
    })
}

fn prefetch(node: Option<Node>, vaults: &Vaults) -> Result<Vec<String>, ConfigError> {
    let items = node.map(Node::list).transpose()?.unwrap_or_default();
    let items = items.iter().map(|node| {
        let text = node.text()?;
        let reference = Reference::parse(&text).map_err(|error| node.error(error.to_string()))?;
        if vaults.find(reference.vault()).is_none() {
            return Err(node.error("names an unknown vault"));
        }
        Ok(text)
    });
    items.collect()
}

/// The fields of a text, for tests of what reads them.
#[cfg(all(test, any(feature = "azure", feature = "hcv")))]
pub(crate) fn fields(text: &str) -> Fields {
    let document = serde_yaml_ng::from_str(text).expect("YAML");
    Node::root(document).fields().expect("a mapping")
}

#[cfg(test)]
mod tests;
