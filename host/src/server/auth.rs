//! Which client of the configuration a call comes from.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use vaultref_contract::Secret;
use vaultref_contract::wire::{Outcome, Refusal, RefusalKind, ResolveRequest};

use crate::policy::{Access, Client, Clients, Origin, Token};
use crate::resolver::Resolver;

/// How long a call may wait for a token that has to be read from a vault.
const TOKEN_WAIT: Duration = Duration::from_secs(2);

/// Knows the clients.
#[derive(Debug)]
pub(super) struct Guard {
    clients: RwLock<Arc<Clients>>,
    own_uid: u32,
    resolver: Resolver,
}

impl Guard {
    pub(super) fn new(clients: Clients, own_uid: u32, resolver: Resolver) -> Self {
        Self {
            clients: RwLock::new(Arc::new(clients)),
            own_uid,
            resolver,
        }
    }

    /// Knows these clients from the next call on.
    pub(super) fn replace(&self, clients: Clients) {
        let mut known = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(clients);
    }

    /// Whether a call comes from the user that the daemon runs as, or from root.
    pub(super) fn is_operator(&self, origin: Origin) -> bool {
        matches!(origin, Origin::Unix { uid, .. } if uid == self.own_uid || uid == 0)
    }

    fn clients(&self) -> Arc<Clients> {
        // They are replaced whole, so what is there is good whoever panicked.
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&clients)
    }

    pub(super) async fn warm_up(&self) {
        for client in self.clients().iter() {
            for token in &client.tokens {
                self.matches(client, token, b"", Wait::Yes).await;
            }
        }
    }

    /// The rules that hold for a call. `token` is what it shows as `Authorization: Bearer`.
    pub(super) async fn identify(
        &self,
        origin: Origin,
        token: Option<&[u8]>,
    ) -> Result<Access, Refusal> {
        if self.clients().is_empty() {
            return match origin {
                Origin::Unix { uid, .. } if uid == self.own_uid => Ok(Access::All),
                Origin::Unix { .. } => Err(unauthorized(
                    "no client is configured, so only the daemon's own user is served",
                )),
                Origin::Tcp => Err(unauthorized("over TCP a client must show a token")),
            };
        }
        // First with the tokens that are in memory: nobody waits for the vault of another's token.
        if token.is_some()
            && let Some(client) = self.fitting(origin, token, Wait::No).await
        {
            return Ok(Access::Client(client));
        }
        match self.fitting(origin, token, Wait::Yes).await {
            Some(client) => Ok(Access::Client(client)),
            None if token.is_none() && origin == Origin::Tcp => {
                Err(unauthorized("over TCP a client must show a token"))
            }
            None => Err(unauthorized("no client of the configuration fits")),
        }
    }

    /// Of several that fit, the one that asks for most: peer and token, token, peer.
    async fn fitting(
        &self,
        origin: Origin,
        token: Option<&[u8]>,
        wait: Wait,
    ) -> Option<Arc<Client>> {
        let clients = self.clients();
        let mut best = None;
        for client in clients.iter().filter(|client| client.comes_from(origin)) {
            let rank = (!client.tokens.is_empty(), client.peer.is_some());
            let fits = match token {
                Some(token) => self.shows_one_of(client, token, wait).await,
                None => client.tokens.is_empty(),
            };
            if fits && best.as_ref().is_none_or(|(known, _)| rank > *known) {
                best = Some((rank, client));
            }
        }
        best.map(|(_, client): (_, &Arc<Client>)| Arc::clone(client))
    }

    /// A client without tokens never fits a call that shows one: a token that is wrong must not go
    /// unnoticed.
    async fn shows_one_of(&self, client: &Client, shown: &[u8], wait: Wait) -> bool {
        let mut fits = false;
        for token in &client.tokens {
            // All are compared, so that the time tells nothing of which one it was.
            fits |= self.matches(client, token, shown, wait).await;
        }
        fits
    }

    async fn matches(&self, client: &Client, token: &Token, shown: &[u8], wait: Wait) -> bool {
        match token {
            Token::Given(secret) => is_shown(secret, shown),
            Token::Reference(reference) if wait == Wait::No => {
                let request = ResolveRequest {
                    references: vec![reference.as_str().to_owned()],
                    known: Vec::new(),
                    wait_ms: 0,
                };
                let outcomes = self.resolver.resolve_now(&Access::All, &request);
                outcomes.iter().any(|outcome| match outcome {
                    Outcome::Secret(value) => is_shown(value.value.secret(), shown),
                    Outcome::Failure(_) | Outcome::Unchanged(_) => false,
                })
            }
            Token::Reference(reference) => {
                let value = self
                    .resolver
                    .value(&Access::All, reference.as_str(), TOKEN_WAIT);
                match value.await {
                    Ok(value) => is_shown(value.value.secret(), shown),
                    Err(unresolved) => {
                        tracing::warn!(
                            client = client.name,
                            reference = reference.as_str(),
                            cause = %unresolved.cause,
                            "a token cannot be read"
                        );
                        false
                    }
                }
            }
        }
    }
}

/// An empty token is none: nobody could be told from nobody.
fn is_shown(token: &Secret, shown: &[u8]) -> bool {
    !token.is_empty() && token.same_as(shown)
}

/// Whether a token that is not in memory is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    No,
    Yes,
}

fn unauthorized(message: &str) -> Refusal {
    Refusal {
        kind: RefusalKind::Unauthorized,
        message: message.to_owned(),
    }
}
