//! What a backend's fixture gives to the kit.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

/// A vault of one backend whose content the test can change. References reach it as `{vault://v/…}`.
pub trait Fixture {
    /// The backend's name.
    fn backend(&self) -> &'static str;

    /// What this backend can have. Checks of what it cannot have are left out.
    fn abilities(&self) -> Abilities;

    /// The vault's `config`, and variables that belong to it. The kit adds `ttl` and the like.
    fn config(&self) -> Config;

    /// The same for a vault that asks this server in the place of the real one; none if the backend
    /// asks no server.
    fn config_at(&self, server: &Server) -> Option<Config>;

    /// Makes an object or a new version of it; gives the version, if it has one.
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
    /// Its CA, where [`Abilities::tls_only`] has it speak TLS. Its certificate is for `localhost`,
    /// `127.0.0.1` and every name in [`Abilities::tls_only`].
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
