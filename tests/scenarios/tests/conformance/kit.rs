//! What a backend's fixture gives to the kit.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Result;
use serde_json::Value;
use vaultref_scenarios::upstream::{Received, Reply};

/// A vault of one backend whose content the test can change. References reach it as
/// `{vault://the-vault/…}`.
///
/// Every row has a fixture of its own, and rows run side by side. No two rows use the same name, so
/// fixtures may share one server (see [`Shared`]). Half of the rows ask [`Fixture::config_at`] alone:
/// a server is better started when it is first needed.
pub trait Fixture {
    /// The backend's name.
    fn backend(&self) -> &'static str;

    /// What this backend can have. Checks of what it cannot have are left out.
    fn abilities(&self) -> Abilities;

    /// The vault's `config`, and variables that belong to it. The kit adds `ttl` and the like. It is
    /// asked for anew after each change, so variables may be the content.
    fn config(&self) -> Config;

    /// The same for a vault that asks this server in the place of the real one; none if the backend
    /// asks no server.
    fn config_at(&self, server: &Server) -> Option<Config>;

    /// Makes an object or a new version of it; gives the version, if it has one. (If there are
    /// versions without a number of their own, 1 is the current one and 2 the one before.)
    ///
    /// # Errors
    /// The real server does not take it.
    fn put(&mut self, name: &str, content: &[u8]) -> Result<Option<u64>>;

    /// Takes an object away.
    ///
    /// # Errors
    /// The real server does not do it.
    fn delete(&mut self, name: &str) -> Result<()>;

    /// Makes an object that the vault's credentials may not read. False: there is no such thing here.
    ///
    /// # Errors
    /// The real server does not do it.
    fn forbid(&mut self, name: &str) -> Result<bool>;

    /// A daemon that runs sees changes; else it has to be started anew.
    fn is_live(&self) -> bool {
        true
    }

    /// Variables beside those of [`Fixture::config`], of any bytes.
    fn odd_variables(&self) -> Vec<(OsString, OsString)> {
        Vec::new()
    }

    /// Says what the server of [`Fixture::config_at`] answers to what is not the read itself: a login,
    /// a challenge. Such requests are not counted. None: it is the read, which gets what the row is
    /// about.
    fn side_talk(&self) -> SideTalk {
        Box::new(|_| None)
    }

    /// A good answer to the read of an object, as the real server would give it. None: the rows that
    /// need one are left out.
    fn good_answer(&self, _name: &str, _content: &[u8]) -> Option<Reply> {
        None
    }

    /// The body of an answer is the secret, whatever it is: no body is malformed.
    fn any_body_is_good(&self) -> bool {
        false
    }
}

/// See [`Fixture::side_talk`].
pub type SideTalk = Box<dyn Fn(&Received) -> Option<Reply> + Send + Sync>;

/// One server for the rows that run at the same time; it ends with the last of them.
///
/// ```ignore
/// static SERVER: Shared<OpenBao> = Shared::new();
/// let server = SERVER.get(OpenBao::start)?;
/// ```
pub struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// The one that runs, or a new one.
    ///
    /// # Errors
    /// What `start` says.
    pub fn get(&self, start: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = running.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(start()?);
        *running = Arc::downgrade(&server);
        Ok(server)
    }
}

/// A vault's `config` and the environment of the daemon.
#[derive(Clone, Debug)]
pub struct Config {
    pub fields: Value,
    pub environment: Vec<(String, String)>,
}

/// A server that answers as a check wants.
#[derive(Clone, Debug)]
pub struct Server {
    pub address: SocketAddr,
    /// Its CA, if it speaks TLS, as it does where [`Abilities::tls_only`] says so and in the rows about
    /// TLS. Its certificate is for `localhost`, `127.0.0.1` and every name in [`Abilities::tls_only`].
    /// It is also the proxy that leads to it: `HTTPS_PROXY` may be `http://<address>`.
    pub ca: Option<PathBuf>,
}

/// What a backend can have.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    /// Objects are bytes of any kind; else they are JSON objects whose values are text.
    pub bytes: bool,
    /// Names may hold a slash.
    pub slash: bool,
    /// Names may hold letters beyond ASCII.
    pub non_ascii: bool,
    /// Old versions can be read by number.
    pub versions: bool,
    /// The largest object, in bytes, if that is less than 64 KiB.
    pub most_bytes: Option<usize>,
    /// Servers are reached by TLS alone, under these names; none: plain HTTP will do.
    pub tls_only: Option<&'static [&'static str]>,
}
