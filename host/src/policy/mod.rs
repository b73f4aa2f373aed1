//! Who a client is, and which objects it may read.
//!
//! Both are decided on what is true of the matter, not on how it is spelled: a peer by what the
//! kernel says of the socket, an object by its canonical form. Nothing is allowed that is not
//! listed, and a `deny` holds against every vault of a backend that reaches the object.

mod glob;

use std::sync::Arc;

use vaultref_contract::{ReferenceText, Secret};

use crate::backend::Object;
use crate::vault::Vault;
use glob::Glob;

/// The clients of a configuration. Without any, our own user is served on the Unix socket alone.
#[derive(Debug, Default)]
pub struct Clients(Vec<Arc<Client>>);

/// A client: how it is known, and what it may read.
#[derive(Debug)]
pub struct Client {
    /// What it is called in logs.
    pub name: String,
    /// The user or group that it must run as.
    pub peer: Option<Peer>,
    /// One of which it must show; none means that it needs none.
    pub tokens: Vec<Token>,
    /// What it may read.
    pub allow: Vec<Pattern>,
    /// What it may not read, whatever `allow` says.
    pub deny: Vec<Pattern>,
    /// Whether it may see the daemon's metrics, which name vaults and objects.
    pub metrics: bool,
}

/// Who is at the other end of a Unix socket.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The user; none means any.
    pub uid: Option<u32>,
    /// The group; none means any.
    pub gid: Option<u32>,
}

/// A token of a client.
#[derive(Debug)]
pub enum Token {
    /// It stands in the configuration.
    Given(Secret),
    /// It is read from a vault.
    Reference(ReferenceText),
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A process on this machine, over loopback.
    Tcp,
    /// A process on this machine, of this user and group.
    Unix {
        /// The user, as the kernel says.
        uid: u32,
        /// The group, as the kernel says.
        gid: u32,
    },
}

/// Whose rules hold for a call.
#[derive(Clone, Debug)]
pub enum Access {
    /// The daemon's own user, the command line, an embedder that trusts its guest.
    All,
    /// A client of the configuration.
    Client(Arc<Client>),
}

impl Clients {
    /// The clients as listed.
    #[must_use]
    pub fn new(clients: Vec<Client>) -> Self {
        Self(clients.into_iter().map(Arc::new).collect())
    }

    /// Whether there is none, so that our own user alone is served.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the configuration's order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.0.iter()
    }
}

impl Client {
    /// Whether the origin is one that this client may come from: with a `peer`, that peer; without
    /// a token, never TCP.
    #[must_use]
    pub fn comes_from(&self, origin: Origin) -> bool {
        match (self.peer, origin) {
            (None, Origin::Tcp | Origin::Unix { .. }) => !self.tokens.is_empty(),
            (Some(_), Origin::Tcp) => false,
            (Some(peer), Origin::Unix { uid, gid }) => {
                peer.uid.is_none_or(|known| known == uid)
                    && peer.gid.is_none_or(|known| known == gid)
            }
        }
    }

    fn permits(&self, vault: &Vault, object: &Object, key: Option<&str>) -> bool {
        self.allow
            .iter()
            .any(|pattern| pattern.allows(vault, object, key))
            && !self
                .deny
                .iter()
                .any(|pattern| pattern.denies(vault, object, key))
    }
}

impl Access {
    /// Whether the object, or what stands under a key of it, may be read.
    #[must_use]
    pub fn permits(&self, vault: &Vault, object: &Object, key: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Client(client) => client.permits(vault, object, key),
        }
    }

    /// Whether the daemon's metrics may be seen.
    #[must_use]
    pub fn sees_metrics(&self) -> bool {
        match self {
            Self::All => true,
            Self::Client(client) => client.metrics,
        }
    }

    /// The vaults of which a `deny` of the client speaks.
    pub(crate) fn denied_vaults(&self) -> impl Iterator<Item = &Arc<Vault>> {
        let client = match self {
            Self::All => None,
            Self::Client(client) => Some(client),
        };
        let patterns = client.into_iter().flat_map(|client| &client.deny);
        patterns.map(|pattern| &pattern.vault)
    }

    /// What the client is called in logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::All => "own user",
            Self::Client(client) => &client.name,
        }
    }
}

/// A line of `allow` or `deny`: `"<vault>/<glob>"`.
#[derive(Debug)]
pub struct Pattern {
    vault: Arc<Vault>,
    glob: Glob,
    /// The same, blind to what a `deny` does not tell apart.
    loose: Glob,
}

impl Pattern {
    /// The objects of a vault whose path, or path, `/` and key, are of a pattern.
    #[must_use]
    pub fn new(vault: &Arc<Vault>, glob: &str) -> Self {
        Self {
            glob: Glob::new((vault.kind().spelling.pattern)(glob)),
            loose: Glob::new((vault.kind().spelling.loosely)(glob)),
            vault: Arc::clone(vault),
        }
    }

    fn allows(&self, vault: &Vault, object: &Object, key: Option<&str>) -> bool {
        self.vault.name() == vault.name()
            && (self.glob.matches(&object.path)
                || key.is_some_and(|key| {
                    self.glob
                        .matches(&format!("{}/{}", object.path, plain_key(key)))
                }))
    }

    fn denies(&self, vault: &Vault, object: &Object, key: Option<&str>) -> bool {
        if self.vault.kind().name != vault.kind().name {
            return false;
        }
        let backend = self.vault.backend();
        let scope = backend.as_ref().ok().and_then(|it| it.scope_if_known());
        let are_texts = vault
            .backend()
            .is_ok_and(|backend| backend.objects_are_texts());
        let denies = |scope: &str, place: &str| {
            // Another vault may show the same object in another shape (a KV v1 vault on a v2
            // mount), in which keys have other names: there a denied key denies all of it. A text
            // is the same everywhere.
            let same_shape = are_texts || object.scope == scope || !place.starts_with(scope);
            match key.filter(|_| same_shape) {
                Some(key) => self.covers_key(scope, place, key),
                None => self.covers_all(scope, place, are_texts),
            }
        };
        [Some(&object.path), object.alias.as_ref()]
            .into_iter()
            .flatten()
            .map(|path| format!("{}{path}", object.scope))
            .any(|place| match &scope {
                Some(scope) => denies(scope, &place),
                // Where the vault looks, or will look, is not known: it may be anywhere around here.
                None => {
                    let ends = place.match_indices('/').map(|(slash, _)| slash + 1);
                    [0, object.scope.len()]
                        .into_iter()
                        .chain(ends)
                        .filter_map(|end| place.get(..end))
                        .any(|scope| denies(scope, &place))
                }
            })
    }

    /// Whether the pattern, taken in `scope`, is of the object at `place` or of something in it.
    fn covers_all(&self, scope: &str, place: &str, is_text: bool) -> bool {
        if self.covers(scope, place) {
            return true;
        }
        let below = format!("{place}/");
        let Some(within) = below.strip_prefix(scope) else {
            return scope.starts_with(&below);
        };
        match place.strip_prefix(scope) {
            // `*SECRET*` means names of texts. Taken for keys as well it would be of every text, since
            // any may be JSON and have such a key; who means keys writes the slash before them.
            Some(name) if is_text => self.loose.names_below(&self.loosely(name)),
            // A star may well stand for a key of an object that is made of keys.
            _ => self.loose.could_start_with(&self.loosely(within)),
        }
    }

    /// Whether the pattern, taken in `scope`, is of the object at `place` or of what leads to the key.
    fn covers_key(&self, scope: &str, place: &str, key: &str) -> bool {
        let mut path = place.to_owned();
        let mut tokens = tokens(key);
        self.covers(scope, place)
            || tokens.any(|token| {
                path.push('/');
                path.push_str(&token);
                self.covers(scope, &path)
            })
            || self.covers(scope, &format!("{place}/{key}"))
    }

    fn covers(&self, scope: &str, path: &str) -> bool {
        path.strip_prefix(scope)
            .is_some_and(|path| self.loose.matches(&self.loosely(path)))
    }

    fn loosely(&self, path: &str) -> String {
        (self.vault.kind().spelling.loosely)(path)
    }
}

/// A key as it stands in patterns: `/db/password`, a JSON pointer, counts as `db/password`.
fn plain_key(key: &str) -> String {
    tokens(key).collect::<Vec<_>>().join("/")
}

/// The names that lead from the object to the key, whether it is read as one name or as a pointer.
fn tokens(key: &str) -> impl Iterator<Item = String> {
    let pointer = key.strip_prefix('/');
    let is_pointer = pointer.is_some();
    pointer.unwrap_or(key).split('/').map(move |token| {
        if is_pointer {
            token.replace("~1", "/").replace("~0", "~")
        } else {
            token.to_owned()
        }
    })
}

#[cfg(test)]
mod tests;
