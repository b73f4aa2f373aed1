//! A login that several reads share: one at a time, renewed before it runs out, made anew when the
//! server no longer takes it.
//!
//! It knows nothing of how one logs in. Time is tokio's, which tests can hold.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::ReadError;

/// For how long a failed login is remembered, so that a hundred waiting reads do not make a hundred.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// The same for one that may succeed in a moment: long enough for those who wait, and over when they
/// ask again.
const FAILED_FOR_NOW: Duration = Duration::from_millis(50);

/// A login younger than this is not what a refusal is about: it does not lead to another one.
pub(crate) const YOUNG: Duration = Duration::from_secs(5);

/// What came of a login.
#[derive(Debug)]
pub(crate) struct Login<T> {
    /// The credential; never printed by this module.
    pub(crate) token: T,
    made_at: Instant,
    /// When it is to be renewed; none: never.
    pub(crate) renew_at: Option<Instant>,
    /// When it can no longer be used; none: never.
    pub(crate) expires_at: Option<Instant>,
}

impl<T> Login<T> {
    /// A login that lasts.
    pub(crate) fn lasting(token: T) -> Self {
        Self {
            token,
            made_at: Instant::now(),
            renew_at: None,
            expires_at: None,
        }
    }

    /// A login that holds for `lease` from now, to be renewed when two thirds of it are over.
    pub(crate) fn leased(token: T, lease: Duration) -> Self {
        let now = Instant::now();
        Self {
            token,
            made_at: now,
            renew_at: Some(now + lease * 2 / 3),
            expires_at: Some(now + lease),
        }
    }

    /// The same login with a longer lease: it is as old as it was.
    pub(crate) fn renewed(self, before: &Self) -> Self {
        Self {
            made_at: before.made_at,
            ..self
        }
    }
}

/// The current login of one vault.
#[derive(Debug)]
pub(crate) struct Session<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    current: Option<Arc<Login<T>>>,
    failed: Option<(ReadError, Instant)>,
}

impl<T> Session<T> {
    /// Not logged in yet.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            current: None,
            failed: None,
        }))
    }

    /// The current login. If there is none, or it is to be renewed, `login` makes one; it is given the
    /// one before while that still holds. Others who ask meanwhile wait for the same.
    ///
    /// # Errors
    /// What `login` says, if there is no login that still holds.
    pub(crate) async fn current(
        &self,
        login: impl AsyncFnOnce(Option<&Login<T>>) -> Result<Login<T>, ReadError>,
    ) -> Result<Arc<Login<T>>, ReadError> {
        let mut state = self.0.lock().await;
        let now = Instant::now();
        let holds = |end: Option<Instant>| end.is_none_or(|end| now < end);
        let before = state
            .current
            .clone()
            .filter(|login| holds(login.expires_at));
        if let Some(login) = before.as_ref().filter(|login| holds(login.renew_at)) {
            return Ok(Arc::clone(login));
        }
        let made = state.make(async || login(before.as_deref()).await).await;
        match (made, before) {
            (Ok(login), _) => Ok(login),
            // It still holds, and the next who asks tries again.
            (Err(_), Some(login)) => Ok(login),
            (Err(error), None) => {
                state.current = None;
                Err(error)
            }
        }
    }

    /// The server refused what was asked with this login. Gives a newer one: what somebody else made
    /// meanwhile, or what `login` makes now. None: this one is younger than `least`, so the refusal
    /// stands. The old one stays for all others until there is a newer one, since a server may refuse
    /// one thing to a login that is good for the rest.
    ///
    /// # Errors
    /// What `login` says.
    pub(crate) async fn replace(
        &self,
        refused: &Arc<Login<T>>,
        least: Duration,
        login: impl AsyncFnOnce() -> Result<Login<T>, ReadError>,
    ) -> Result<Option<Arc<Login<T>>>, ReadError> {
        let mut state = self.0.lock().await;
        match &state.current {
            Some(current) if !Arc::ptr_eq(current, refused) => {
                return Ok(Some(Arc::clone(current)));
            }
            Some(_) if refused.made_at.elapsed() < least => return Ok(None),
            _ => {}
        }
        state.make(login).await.map(Some)
    }

    /// The server refused what was asked with this login. Says whether it is worth asking once more,
    /// with a login that is newer: not if this one was made just now, for then the refusal stands.
    pub(crate) async fn forget(&self, used: &Arc<Login<T>>) -> bool {
        let mut state = self.0.lock().await;
        let is_current = state
            .current
            .as_ref()
            .is_some_and(|login| Arc::ptr_eq(login, used));
        if is_current && used.made_at.elapsed() < YOUNG {
            return false;
        }
        if is_current {
            state.current = None;
            state.failed = None;
        }
        true
    }
}

impl<T> State<T> {
    /// Makes a login and puts it in place of the current one, unless that failed a moment ago.
    async fn make(
        &mut self,
        login: impl AsyncFnOnce() -> Result<Login<T>, ReadError>,
    ) -> Result<Arc<Login<T>>, ReadError> {
        let now = Instant::now();
        if let Some((error, _)) = self.failed.as_ref().filter(|(_, until)| now < *until) {
            return Err(error.clone());
        }
        match login().await {
            Ok(login) => {
                let login = Arc::new(login);
                self.current = Some(Arc::clone(&login));
                self.failed = None;
                Ok(login)
            }
            Err(error) => {
                let time = if error.transient {
                    FAILED_FOR_NOW
                } else {
                    FAILED_FOR
                };
                self.failed = Some((error.clone(), Instant::now() + time));
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::backend::ReadErrorKind;

    struct Server {
        session: Session<u32>,
        logins: AtomicU32,
        fails: bool,
    }

    impl Server {
        fn new() -> Self {
            Self {
                session: Session::new(),
                logins: AtomicU32::new(0),
                fails: false,
            }
        }

        async fn token(&self) -> Result<Arc<Login<u32>>, ReadError> {
            self.session
                .current(async |_| {
                    tokio::task::yield_now().await;
                    let number = self.logins.fetch_add(1, Ordering::Relaxed);
                    if self.fails {
                        return Err(ReadError::new(ReadErrorKind::Denied, "no"));
                    }
                    Ok(Login::leased(number, Duration::from_secs(90)))
                })
                .await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_share_one_login() {
        let server = Server::new();
        let tokens = futures::future::join_all((0..50).map(|_| server.token())).await;
        assert!(
            tokens
                .iter()
                .all(|token| token.as_ref().expect("a login").token == 0)
        );
        assert_eq!(server.logins.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_renewed_after_two_thirds_and_used_to_its_end_if_that_fails() {
        let mut server = Server::new();
        server.token().await.expect("a login");
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(server.token().await.expect("the same").token, 0);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(server.token().await.expect("a new one").token, 1);
        server.fails = true;
        tokio::time::advance(Duration::from_secs(80)).await;
        assert_eq!(server.token().await.expect("still holds").token, 1);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(server.token().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_login_is_not_made_again_at_once() {
        let mut server = Server::new();
        server.fails = true;
        for _ in 0..10 {
            assert!(server.token().await.is_err());
        }
        assert_eq!(server.logins.load(Ordering::Relaxed), 1);
        tokio::time::advance(FAILED_FOR).await;
        assert!(server.token().await.is_err());
        assert_eq!(server.logins.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_is_not_taken_any_more_is_forgotten_once() {
        let server = Server::new();
        let first = server.token().await.expect("a login");
        assert!(!server.session.forget(&first).await, "it was made just now");
        tokio::time::advance(YOUNG).await;
        assert!(server.session.forget(&first).await);
        let second = server.token().await.expect("a new one");
        assert!(
            server.session.forget(&first).await,
            "somebody has logged in anew"
        );
        assert_eq!(server.token().await.expect("the same").token, second.token);
        assert_eq!(server.logins.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_failed_for_a_moment_is_made_again_in_a_moment() {
        let session = Session::<u32>::new();
        let fail = async |_: Option<&Login<u32>>| Err(ReadError::transient("away"));
        assert!(session.current(fail).await.is_err());
        let succeed = async |_: Option<&Login<u32>>| Ok(Login::lasting(7));
        assert!(
            session.current(succeed).await.is_err(),
            "who waited for the first"
        );
        tokio::time::advance(FAILED_FOR_NOW).await;
        assert_eq!(session.current(succeed).await.expect("a login").token, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_login_stays_until_there_is_a_newer_one() {
        let mut server = Server::new();
        let first = server.token().await.expect("a login");
        let replace = async |server: &Server, least| {
            let made = server.session.replace(&first, least, async || {
                server.logins.fetch_add(1, Ordering::Relaxed);
                if server.fails {
                    return Err(ReadError::new(ReadErrorKind::Denied, "no"));
                }
                Ok(Login::lasting(7))
            });
            made.await.map(|newer| newer.map(|login| login.token))
        };
        assert_eq!(
            replace(&server, YOUNG).await,
            Ok(None),
            "it was made just now"
        );
        server.fails = true;
        for _ in 0..10 {
            assert!(replace(&server, Duration::ZERO).await.is_err());
        }
        assert_eq!(server.logins.load(Ordering::Relaxed), 2, "one that failed");
        assert_eq!(server.token().await.expect("the old one").token, 0);
        server.fails = false;
        tokio::time::advance(YOUNG).await;
        assert_eq!(replace(&server, YOUNG).await, Ok(Some(7)));
        assert_eq!(replace(&server, YOUNG).await, Ok(Some(7)), "the newer one");
        assert_eq!(server.logins.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_login_is_as_old_as_it_was() {
        let session = Session::new();
        let made = session.current(async |_| Ok(Login::leased(1, Duration::from_secs(9))));
        made.await.expect("a login");
        tokio::time::advance(Duration::from_secs(6)).await;
        let renewed = session.current(async |before: Option<&Login<u32>>| {
            let login = Login::leased(2, Duration::from_secs(9));
            Ok(login.renewed(before.expect("the one before")))
        });
        let renewed = renewed.await.expect("a login");
        assert_eq!(renewed.token, 2);
        assert!(session.forget(&renewed).await, "it is no young one");
    }
}
