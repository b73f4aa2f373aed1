//! The token with which a vault is read: got by logging in, renewed before it runs out, and got anew
//! when the server no longer takes it.
//!
//! Each login runs in a task of its own. Whoever waits for it may give up; what it brings (and a
//! secret id or a wrapping token is good for one time only) is kept for the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use vaultref_contract::Secret;

use super::login::{Method, Way};
use super::server::{Call, Failure, Server, WHO};
use crate::backend::session::{Login, Session, YOUNG};
use crate::backend::{ReadError, ReadErrorKind, network};
use crate::value::Wiped;

/// How long a login may take, with all the servers that are asked for it. Others wait for it.
const LOGIN_WITHIN: Duration = Duration::from_secs(20);

/// How long after its first use a token that was given is looked up.
const LOOKED_UP_AFTER: Duration = Duration::from_secs(1);

/// More than any token holds; what a server says beyond it would overflow the clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What a login gives.
pub(super) struct Ticket {
    pub(super) token: Secret,
    /// The client that shows the certificate to which the token belongs, if it belongs to one.
    pub(super) http: Client,
    renewable: bool,
    /// How long it held when it was made.
    lease: Duration,
    /// It is good for a number of calls only.
    counted: bool,
}

/// The tokens of one vault, one after the other.
pub(super) struct Tokens {
    server: Server,
    way: Way,
    session: Session<Ticket>,
    /// A task sees to it that the current one is renewed.
    kept: AtomicBool,
    /// A token that was given is being looked up, or has been.
    known: AtomicBool,
}

impl Tokens {
    pub(super) fn new(server: Server, way: Way) -> Arc<Self> {
        Arc::new(Self {
            server,
            way,
            session: Session::new(),
            kept: AtomicBool::new(false),
            known: AtomicBool::new(false),
        })
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// The token that is good now.
    ///
    /// # Errors
    /// There is none, and logging in fails.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<Login<Ticket>>, ReadError> {
        let tokens = Arc::clone(self);
        let current = detached(async move {
            let next = async |before: Option<&Login<Ticket>>| bounded(tokens.next(before)).await;
            tokens.session.current(next).await
        });
        let login = current.await?;
        self.keep(&login);
        Ok(login)
    }

    /// The server took this token. If it was given, the server is now asked what it knows of it, so
    /// that it can be renewed. No read waits for that, and who reads only once does not need it.
    pub(super) fn took(self: &Arc<Self>, login: &Arc<Login<Ticket>>) {
        if matches!(self.way, Way::Method(_)) || self.known.swap(true, Ordering::Relaxed) {
            return;
        }
        let (weak, login) = (Arc::downgrade(self), Arc::clone(login));
        tokio::spawn(async move {
            sleep(LOOKED_UP_AFTER).await;
            let Some(tokens) = weak.upgrade() else {
                return;
            };
            let known = timeout(LOGIN_WITHIN, tokens.look_up(&login.token)).await;
            let replaced = match known {
                Ok(Ok(known)) => {
                    let known = async || Ok(known);
                    tokens.session.replace(&login, Duration::ZERO, known).await
                }
                // It has no right to that, and will not get it.
                Ok(Err(Failure::Refused(refusal))) if refusal.is_final() => return,
                _ => Ok(None),
            };
            match replaced {
                Ok(Some(current)) => tokens.keep(&current),
                _ => tokens.known.store(false, Ordering::Relaxed),
            }
        });
    }

    /// The server refused what was asked with this token. Gives a newer one, by logging in anew if
    /// nobody has yet. None: a newer one would be refused as well.
    ///
    /// # Errors
    /// Logging in fails.
    pub(super) async fn newer(
        self: &Arc<Self>,
        refused: &Arc<Login<Ticket>>,
    ) -> Result<Option<Arc<Login<Ticket>>>, ReadError> {
        if matches!(self.way, Way::Given(_)) {
            return Ok(None);
        }
        let (tokens, refused) = (Arc::clone(self), Arc::clone(refused));
        detached(async move {
            let least = if refused.token.counted {
                Duration::ZERO
            } else {
                YOUNG
            };
            let login = async || {
                let made = bounded(tokens.log_in()).await?;
                tokens.revoke(&refused);
                Ok(made)
            };
            tokens.session.replace(&refused, least, login).await
        })
        .await
    }

    /// What comes after a token, or what is the first.
    async fn next(&self, before: Option<&Login<Ticket>>) -> Result<Login<Ticket>, ReadError> {
        let Some(before) = before.filter(|before| before.token.renewable) else {
            return self.log_in().await;
        };
        let renewed = match self.renew(before).await {
            Ok(renewed) => renewed,
            Err(Failure::Refused(_)) => return self.log_in().await,
            // Nobody answers; another login would only use up what it takes.
            Err(Failure::Unread(error)) => return Err(error),
        };
        // Close to the end of all its time a token is renewed for ever less.
        let dwindles = renewed.lease() < before.token.lease / 2;
        if dwindles && let Way::Method(_) = self.way {
            return Ok(self.log_in().await.unwrap_or(renewed));
        }
        Ok(renewed)
    }

    async fn renew(&self, before: &Login<Ticket>) -> Result<Login<Ticket>, Failure> {
        let ticket = &before.token;
        let call = Call::post("auth/token/renew-self", Wiped(json!({})));
        let answer = self
            .server
            .call(&ticket.http, call.with_token(&ticket.token));
        let answer = answer.await?;
        let auth = Auth::of(&answer).ok_or_else(|| network::unreadable(WHO))?;
        let renewed = Ticket {
            token: ticket.token.duplicate(),
            http: ticket.http.clone(),
            renewable: auth.renewable,
            ..*ticket
        };
        Ok(leased(renewed, auth.lease).renewed(before))
    }

    async fn log_in(&self) -> Result<Login<Ticket>, ReadError> {
        match &self.way {
            Way::Given(token) => Ok(self.given(token)),
            Way::Method(method) => self.log_in_by(&**method).await,
        }
    }

    async fn log_in_by(&self, method: &dyn Method) -> Result<Login<Ticket>, ReadError> {
        let proof = method.proof(&self.server).await?;
        let http = proof.http.unwrap_or_else(|| self.server.http().clone());
        let call = Call::post(proof.path, proof.body);
        let answer = self.server.call(&http, call).await;
        let mut answer = answer.map_err(|failure| failure.of_login(method.name()))?;
        let unreadable = || network::unreadable(WHO);
        let auth = Auth::of(&answer).ok_or_else(unreadable)?;
        method.accepted(&answer.0["auth"]);
        let Value::String(token) = answer.take("/auth/client_token") else {
            return Err(unreadable());
        };
        let ticket = Ticket {
            token: Secret::from(token),
            http,
            // Renewing would take one of the times.
            renewable: auth.renewable && !auth.counted,
            lease: auth.lease,
            counted: auth.counted,
        };
        Ok(leased(ticket, auth.lease))
    }

    /// What the server knows of a token that was given. Without the right to look it up it is used as
    /// it is.
    async fn look_up(&self, given: &Ticket) -> Result<Login<Ticket>, Failure> {
        let call = Call::get("auth/token/lookup-self").with_token(&given.token);
        let answer = self.server.call(&given.http, call).await?;
        let data = &answer.0["data"];
        let lease = seconds(&data["ttl"]).unwrap_or_default();
        let renewable = data["renewable"].as_bool() == Some(true);
        let ticket = Ticket {
            token: given.token.duplicate(),
            http: given.http.clone(),
            renewable,
            lease,
            counted: false,
        };
        // One that cannot be renewed is used for as long as it is taken.
        Ok(leased(
            ticket,
            if renewable { lease } else { Duration::ZERO },
        ))
    }

    fn given(&self, token: &Secret) -> Login<Ticket> {
        Login::lasting(Ticket {
            token: token.duplicate(),
            http: self.server.http().clone(),
            renewable: false,
            lease: Duration::ZERO,
            counted: false,
        })
    }

    /// Makes a token worthless that has been replaced; nothing depends on whether that works.
    fn revoke(self: &Arc<Self>, replaced: &Arc<Login<Ticket>>) {
        let (tokens, replaced) = (Arc::clone(self), Arc::clone(replaced));
        tokio::spawn(async move {
            let ticket = &replaced.token;
            let call = Call::post("auth/token/revoke-self", Wiped(json!({})));
            let done = tokens
                .server
                .call(&ticket.http, call.with_token(&ticket.token));
            let _ = timeout(LOGIN_WITHIN, done).await;
        });
    }

    /// Has the login renewed in time, also while nothing is read: one that cannot be made again
    /// would be lost.
    fn keep(self: &Arc<Self>, login: &Login<Ticket>) {
        let Some(mut due) = login.renew_at else {
            return;
        };
        if self.kept.swap(true, Ordering::Relaxed) {
            return;
        }
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep_until(due).await;
                // With the vault its logins end.
                let Some(tokens) = weak.upgrade() else {
                    return;
                };
                let next = tokens.current().await;
                let login = next.ok().filter(|login| login.renew_at.is_some());
                let Some(login) = login else {
                    tokens.kept.store(false, Ordering::Relaxed);
                    return;
                };
                due = login.next_renewal();
            }
        });
    }
}

impl Login<Ticket> {
    fn lease(&self) -> Duration {
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        self.expires_at.map_or(Duration::MAX, left)
    }

    /// When to try to renew it: in time, or if that was tried, when a part of what is left is over.
    fn next_renewal(&self) -> Instant {
        let now = Instant::now();
        let again = now + (self.lease() / 4).clamp(Duration::from_secs(1), Duration::from_secs(60));
        match self.renew_at {
            Some(due) if due > now => due,
            _ => again,
        }
    }
}

/// Servers say zero of what does not run out.
fn leased(ticket: Ticket, lease: Duration) -> Login<Ticket> {
    if lease.is_zero() {
        Login::lasting(ticket)
    } else {
        Login::leased(ticket, lease)
    }
}

/// What an answer says of a token.
struct Auth {
    lease: Duration,
    renewable: bool,
    counted: bool,
}

impl Auth {
    fn of(answer: &Wiped) -> Option<Self> {
        let auth = answer.0.get("auth")?.as_object()?;
        let uses = auth.get("num_uses").and_then(Value::as_u64);
        Some(Self {
            lease: auth.get("lease_duration").and_then(seconds)?,
            renewable: auth.get("renewable").and_then(Value::as_bool) == Some(true),
            counted: uses.is_some_and(|uses| uses > 0),
        })
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    Some(Duration::from_secs(value.as_u64()?).min(LONGEST))
}

async fn bounded(
    login: impl Future<Output = Result<Login<Ticket>, ReadError>>,
) -> Result<Login<Ticket>, ReadError> {
    timeout(LOGIN_WITHIN, login).await.unwrap_or_else(|_| {
        let limit = LOGIN_WITHIN.as_secs();
        let cause = format!("the login took more than {limit} s");
        Err(ReadError::new(ReadErrorKind::Unavailable, cause))
    })
}

/// Runs to its end even if nobody waits for it any more.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, ReadError>> + Send + 'static,
) -> Result<T, ReadError> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|_| {
        let cause = "the login was broken off";
        Err(ReadError::new(ReadErrorKind::Unavailable, cause))
    })
}
