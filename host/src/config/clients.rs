//! Who may read what, as it is written in the configuration.

use vaultref_contract::{Part, Secret, Template};

use super::node::{ConfigError, Fields, Node};
use crate::policy::{Client, Clients, Pattern, Peer, Token};
use crate::vault::Vaults;

pub(super) fn clients(node: Option<Node>, vaults: &Vaults) -> Result<Clients, ConfigError> {
    let Some(node) = node else {
        return Ok(Clients::default());
    };
    let mut clients: Vec<Client> = Vec::new();
    for node in node.list()? {
        let place = node.place().to_owned();
        let client = client(node.fields()?, vaults)?;
        if clients.iter().any(|known| known.name == client.name) {
            return Err(ConfigError::new(
                &place,
                format!("another client is called '{}' already", client.name),
            ));
        }
        clients.push(client);
    }
    Ok(Clients::new(clients))
}

fn client(mut fields: Fields, vaults: &Vaults) -> Result<Client, ConfigError> {
    let name = fields.require("name")?.text()?;
    let peer = fields.take("peer").map(peer).transpose()?;
    let mut tokens = Vec::new();
    if let Some(node) = fields.take("tokens") {
        for node in node.list()? {
            tokens.push(token(&node, vaults)?);
        }
    }
    if peer.is_none() && tokens.is_empty() {
        return Err(
            fields.error("needs a 'peer', 'tokens', or both: it could not be known otherwise")
        );
    }
    let allow = patterns(fields.take("allow"), vaults)?;
    let deny = patterns(fields.take("deny"), vaults)?;
    let metrics = fields
        .take("metrics")
        .map(|node| node.boolean())
        .transpose()?;
    fields.finish()?;
    Ok(Client {
        name,
        peer,
        tokens,
        allow,
        deny,
        metrics: metrics.unwrap_or_default(),
    })
}

fn peer(node: Node) -> Result<Peer, ConfigError> {
    let mut fields = node.fields()?;
    let mut id = |name: &str| {
        let node = fields.take(name);
        node.map(|node| {
            let id = node.integer(0..=u64::from(u32::MAX))?;
            u32::try_from(id).map_err(|_| node.error("is too large"))
        })
        .transpose()
    };
    let (uid, gid) = (id("uid")?, id("gid")?);
    if uid.is_none() && gid.is_none() {
        return Err(fields.error("needs 'uid', 'gid', or both"));
    }
    fields.finish()?;
    Ok(Peer { uid, gid })
}

fn token(node: &Node, vaults: &Vaults) -> Result<Token, ConfigError> {
    let text = node.text()?;
    let template = Template::parse(&text).map_err(|error| node.error(error.to_string()))?;
    let text = match template.parts() {
        [Part::Reference(reference)] => {
            known_vault(node, reference.reference().vault(), vaults)?;
            return Ok(Token::Reference(reference.clone()));
        }
        [] => "",
        [Part::Text(text)] => text,
        // Taken as it is written, the reference would be the token.
        _ => {
            return Err(node.error(
                "must be one reference and nothing else, or have none; a literal '{vault://' is written '{{vault://'",
            ));
        }
    };
    let fits = |byte: u8| byte.is_ascii_graphic();
    if text.is_empty() || !text.bytes().all(fits) {
        return Err(node.error("must be one or more visible ASCII characters"));
    }
    Ok(Token::Given(Secret::from(text.to_owned())))
}

fn patterns(node: Option<Node>, vaults: &Vaults) -> Result<Vec<Pattern>, ConfigError> {
    let items = node.map(Node::list).transpose()?.unwrap_or_default();
    let items = items.iter().map(|node| {
        let text = node.text()?;
        let (vault, glob) = text
            .split_once('/')
            .filter(|(_, glob)| !glob.is_empty())
            .ok_or_else(|| {
                node.error("must be a vault, '/' and a pattern, such as \"payments/*\"")
            })?;
        Ok(Pattern::new(known_vault(node, vault, vaults)?, glob))
    });
    items.collect()
}

fn known_vault<'a>(
    node: &Node,
    name: &str,
    vaults: &'a Vaults,
) -> Result<&'a std::sync::Arc<crate::vault::Vault>, ConfigError> {
    vaults.find(name).ok_or_else(|| {
        let known: Vec<_> = vaults.iter().map(|vault| vault.name().to_owned()).collect();
        node.error(format!(
            "names an unknown vault; there is {}",
            known.join(", ")
        ))
    })
}
