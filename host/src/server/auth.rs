//! Which client of the configuration a call comes from.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::future::join_all;
use vaultref_contract::Secret;
use vaultref_contract::wire::{FailureKind, Outcome, Refusal, RefusalKind, ResolveRequest};

use crate::policy::{Access, Client, Clients, Origin, Token};
use crate::resolver::Resolver;
use crate::vault::Vaults;

/// How long a call, or the start, may wait for tokens that have to be read from vaults.
const TOKEN_WAIT: Duration = Duration::from_secs(2);

/// Knows the clients.
#[derive(Debug)]
pub(super) struct Guard {
    served: RwLock<Arc<Served>>,
    own_uid: u32,
    resolver: Resolver,
}

/// What is served, and to whom, by one configuration.
#[derive(Debug)]
struct Served {
    clients: Clients,
    vaults: Arc<Vaults>,
}

/// A call of which it is known who makes it.
#[derive(Debug)]
pub(super) struct Identified {
    /// The rules that hold for it, of the vaults that they were written for.
    pub(super) access: Access,
    served: Arc<Served>,
}

impl Identified {
    pub(super) fn vaults(&self) -> &Vaults {
        &self.served.vaults
    }
}

impl Guard {
    pub(super) fn new(clients: Clients, own_uid: u32, resolver: Resolver) -> Self {
        let vaults = resolver.vaults();
        Self {
            served: RwLock::new(Arc::new(Served { clients, vaults })),
            own_uid,
            resolver,
        }
    }

    /// Has these vaults served to these clients from the next call on.
    pub(super) fn replace(&self, vaults: Vaults, clients: Clients) {
        // Under one lock, so that nobody sees the clients of the one with the vaults of the other.
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        self.resolver.replace(vaults);
        let vaults = self.resolver.vaults();
        *served = Arc::new(Served { clients, vaults });
    }

    /// Whether a call comes from the user that the daemon runs as, or from root.
    pub(super) fn is_operator(&self, origin: Origin) -> bool {
        matches!(origin, Origin::Unix { uid, .. } if uid == self.own_uid || uid == 0)
    }

    /// Whether what is served now is still what it was when this call was identified.
    pub(super) fn holds(&self, identified: &Identified) -> bool {
        Arc::ptr_eq(&self.served(), &identified.served)
    }

    fn served(&self) -> Arc<Served> {
        // It is replaced whole, so what is there is good whoever panicked.
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&served)
    }

    pub(super) async fn warm_up(&self) {
        // All at once, so that vaults that hang keep nobody waiting for longer than one would.
        let served = self.served();
        let clients = served.clients.iter();
        join_all(clients.map(|client| self.shows_one_of(client, b"", Wait::Yes))).await;
    }

    /// Whose call it is. `token` is what it shows as `Authorization: Bearer`.
    pub(super) async fn identify(
        &self,
        origin: Origin,
        token: Option<&[u8]>,
    ) -> Result<Identified, Refusal> {
        loop {
            let served = self.served();
            let access = self.access(&served.clients, origin, token).await;
            let identified = access.map(|access| Identified {
                access,
                served: Arc::clone(&served),
            });
            // Tokens of the one configuration may have been read from vaults of the next.
            if Arc::ptr_eq(&self.served(), &served) {
                return identified;
            }
        }
    }

    async fn access(
        &self,
        clients: &Clients,
        origin: Origin,
        token: Option<&[u8]>,
    ) -> Result<Access, Refusal> {
        if clients.is_empty() {
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
            && let Found::Client(client) = self.find(clients, origin, token, Wait::No).await
        {
            return Ok(Access::Client(client));
        }
        match self.find(clients, origin, token, Wait::Yes).await {
            Found::Client(client) => Ok(Access::Client(client)),
            // It may be one that is served. To call it a stranger would have a gateway drop what it
            // holds, because of an outage that it is to bridge.
            Found::Unknown => Err(Refusal {
                kind: RefusalKind::Internal,
                message: "a client's token cannot be read now, so who asks is not known".to_owned(),
            }),
            Found::Nobody if token.is_none() && origin == Origin::Tcp => {
                Err(unauthorized("over TCP a client must show a token"))
            }
            Found::Nobody => Err(unauthorized("no client of the configuration fits")),
        }
    }

    /// Of several that fit, the one that asks for most: peer and token, token, peer.
    async fn find(
        &self,
        clients: &Clients,
        origin: Origin,
        token: Option<&[u8]>,
        wait: Wait,
    ) -> Found {
        let candidates = clients.iter().filter(|client| client.comes_from(origin));
        let held = candidates.map(async |client| {
            let held = match token {
                Some(token) => self.shows_one_of(client, token, wait).await,
                None if client.tokens.is_empty() => Held::Fits,
                None => Held::Differs,
            };
            (client, held)
        });
        let held = join_all(held).await;
        let rank = |client: &Client| (!client.tokens.is_empty(), client.peer.is_some());
        let mut best: Option<&Arc<Client>> = None;
        for (client, _) in held.iter().filter(|(_, held)| *held == Held::Fits) {
            if best.is_none_or(|known| rank(client) > rank(known)) {
                best = Some(client);
            }
        }
        match best {
            Some(client) => Found::Client(Arc::clone(client)),
            None if held.iter().any(|(_, held)| *held == Held::Unread) => Found::Unknown,
            None => Found::Nobody,
        }
    }

    /// A client without tokens never fits a call that shows one: a token that is wrong must not go
    /// unnoticed.
    async fn shows_one_of(&self, client: &Client, shown: &[u8], wait: Wait) -> Held {
        // All are compared, so that the time tells nothing of which one it was.
        let tokens = client.tokens.iter();
        let held = join_all(tokens.map(|token| self.hold(client, token, shown, wait))).await;
        held.into_iter().max().unwrap_or(Held::Differs)
    }

    /// Holds a token against the one that is shown.
    async fn hold(&self, client: &Client, token: &Token, shown: &[u8], wait: Wait) -> Held {
        let reference = match token {
            Token::Given(secret) => return Held::of(secret, shown),
            Token::Reference(reference) => reference.as_str(),
        };
        if wait == Wait::No {
            let request = ResolveRequest {
                references: vec![reference.to_owned()],
                known: Vec::new(),
                wait_ms: 0,
                ..ResolveRequest::default()
            };
            let outcomes = self.resolver.resolve_now(&Access::All, &request);
            return match outcomes.first() {
                Some(Outcome::Secret(value)) => Held::of(value.value.secret(), shown),
                // Nothing was said to be known.
                None | Some(Outcome::Failure(_) | Outcome::Unchanged(_)) => Held::Unread,
            };
        }
        let value = self.resolver.value(&Access::All, reference, TOKEN_WAIT);
        let unresolved = match value.await {
            Ok(value) => return Held::of(value.value.secret(), shown),
            Err(unresolved) => unresolved,
        };
        tracing::warn!(
            client = client.name,
            reference,
            cause = %unresolved.cause,
            "a token cannot be read"
        );
        match unresolved.failure.kind {
            FailureKind::Pending | FailureKind::Unavailable => Held::Unread,
            // There is no such token, which is an answer.
            FailureKind::Denied
            | FailureKind::InvalidReference
            | FailureKind::KeyNotFound
            | FailureKind::NotFound
            | FailureKind::UnknownVault
            | FailureKind::WrongType => Held::Differs,
        }
    }
}

/// Who of the clients asks.
enum Found {
    Client(Arc<Client>),
    /// None fits.
    Nobody,
    /// None fits, but a token that might cannot be read.
    Unknown,
}

/// What came of holding tokens against one that is shown. Of several, the greatest counts.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Held {
    Differs,
    /// The token cannot be read now.
    Unread,
    Fits,
}

impl Held {
    /// An empty token is none: nobody could be told from nobody.
    fn of(token: &Secret, shown: &[u8]) -> Self {
        if !token.is_empty() && token.same_as(shown) {
            Self::Fits
        } else {
            Self::Differs
        }
    }
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
