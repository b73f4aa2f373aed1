//! A Key Vault with the login and the machine's identity service that belong to it, since no server
//! of others can be had: it speaks the documented wire format
//! (<https://learn.microsoft.com/rest/api/keyvault/>), and tests hold it to recordings of the real
//! service and have Microsoft's own client in another language read from it.
//!
//! One listener is all `https` hosts at once and the proxy that leads to them, so whoever is given
//! [`KeyVault::proxy`] as `HTTPS_PROXY` finds it where Azure would be.

mod login;
mod vault;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::upstream::{Received, Reply, Upstream};

pub use self::login::{
    CLIENT, CLIENT_SECRET, FEDERATED_TOKEN, IDENTITY_HEADER, LOGIN_HOST, TENANT,
};

/// The vault's host.
pub const VAULT_HOST: &str = "the-vault.vault.azure.net";

/// The hosts that its certificate is for.
pub const HOSTS: &[&str] = &[VAULT_HOST, LOGIN_HOST];

/// A running Key Vault. Dropping it ends it.
pub struct KeyVault {
    authority: Authority,
    server: Upstream,
    machine: Upstream,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By name in lower case: to Key Vault capitals are nothing.
    objects: BTreeMap<String, Vec<Version>>,
    forbidden: BTreeSet<String>,
    /// What the next authorized calls get.
    prepared: VecDeque<Reply>,
    tokens: BTreeSet<String>,
    /// Of versions, tokens and logins.
    count: u64,
    logins: Vec<String>,
}

/// One version of a secret, and of the certificate whose secret it is.
struct Version {
    name: String,
    id: String,
    value: String,
    content_type: Option<String>,
    certificate: Option<String>,
    enabled: bool,
}

impl KeyVault {
    /// Starts one without any secret.
    ///
    /// # Errors
    ///
    /// When the machine has no free port.
    pub fn start() -> Result<Self> {
        let authority = Authority::new()?;
        let state = Arc::new(Mutex::new(State::default()));
        let asked = Arc::clone(&state);
        let server = Upstream::answering_tls(&authority.issue(HOSTS)?, move |request| {
            let mut state = lock(&asked);
            match request.header("host").as_deref() {
                Some(LOGIN_HOST) => login::answer(&mut state, request),
                Some(VAULT_HOST) => vault::answer(&mut state, request),
                _ => Reply::status(421),
            }
        })?;
        let asked = Arc::clone(&state);
        let machine = Upstream::answering(move |request| {
            let mut state = lock(&asked);
            match request.header("host").as_deref() {
                Some(VAULT_HOST) => vault::answer(&mut state, request),
                _ => login::machine(&mut state, request),
            }
        })?;
        Ok(Self {
            authority,
            server,
            machine,
            state,
        })
    }

    /// The `config` of a vault that reads it, but for `client_id` and `tenant_id`.
    #[must_use]
    pub fn config(&self) -> Value {
        json!({
            "vault_uri": format!("https://{VAULT_HOST}"),
            "ca_cert": self.authority.file(),
        })
    }

    /// Its CA.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The proxy that leads to it.
    #[must_use]
    pub fn proxy(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The machine's own address, where its identity service is: the one that all machines of Azure
    /// have is not ours to take.
    #[must_use]
    pub fn machine(&self) -> String {
        format!("http://{}", self.machine.address())
    }

    /// Where the vault answers without TLS, for those who look at its bytes.
    #[must_use]
    pub fn plain(&self) -> SocketAddr {
        self.machine.address()
    }

    /// A token that is good.
    #[must_use]
    pub fn token(&self) -> String {
        let mut state = self.state();
        let token = state.new_id();
        state.tokens.insert(token.clone());
        token
    }

    /// The variables of whoever has the client secret.
    #[must_use]
    pub fn client_secret(&self) -> Vec<(String, String)> {
        self.variables(&[
            ("AZURE_CLIENT_ID", CLIENT),
            ("AZURE_TENANT_ID", TENANT),
            ("AZURE_CLIENT_SECRET", CLIENT_SECRET),
        ])
    }

    /// The proxy's variable and these.
    #[must_use]
    pub fn variables(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut variables = vec![("HTTPS_PROXY".to_owned(), self.proxy())];
        let more = more.iter();
        variables.extend(more.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        variables
    }

    /// Sets a secret; gives the id of the new version.
    ///
    /// # Errors
    ///
    /// When the real one would not take such a name or so large a value.
    pub fn put(&self, name: &str, value: &str) -> Result<String> {
        anyhow::ensure!(value.len() <= 25_600, "a secret has 25 KiB at most");
        self.add(name, value, None, None)
    }

    /// Sets a certificate: its secret with the content type of that, and itself as base64 of DER.
    ///
    /// # Errors
    ///
    /// As [`Self::put`].
    pub fn put_certificate(
        &self,
        name: &str,
        content_type: &str,
        secret: &str,
        certificate: &str,
    ) -> Result<String> {
        self.add(name, secret, Some(content_type), Some(certificate))
    }

    /// Disables the newest version.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn disable(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        let versions = state.objects.get_mut(&name.to_ascii_lowercase());
        let newest = versions.and_then(|versions| versions.last_mut());
        newest.context("no such object")?.enabled = false;
        Ok(())
    }

    /// Deletes a secret or certificate with all its versions.
    pub fn delete(&self, name: &str) {
        self.state().objects.remove(&name.to_ascii_lowercase());
    }

    /// Has the client have no right to read it.
    pub fn forbid(&self, name: &str) {
        self.state().forbidden.insert(name.to_ascii_lowercase());
    }

    /// Has the next call that shows a token get this answer, and so on.
    pub fn prepare(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state().prepared.extend(replies);
    }

    /// Has no token that was given so far be good any more.
    pub fn revoke_tokens(&self) {
        self.state().tokens.clear();
    }

    /// Who has logged in so far, by which way.
    #[must_use]
    pub fn logins(&self) -> Vec<String> {
        self.state().logins.clone()
    }

    /// All requests to the vault and the login so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.server.requests()
    }

    fn add(
        &self,
        name: &str,
        value: &str,
        content_type: Option<&str>,
        certificate: Option<&str>,
    ) -> Result<String> {
        anyhow::ensure!(vault::is_name(name), "no name of Key Vault");
        let mut state = self.state();
        let id = state.new_id();
        let versions = state.objects.entry(name.to_ascii_lowercase()).or_default();
        versions.push(Version {
            name: name.to_owned(),
            id: id.clone(),
            value: value.to_owned(),
            content_type: content_type.map(str::to_owned),
            certificate: certificate.map(str::to_owned),
            enabled: true,
        });
        Ok(id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl fmt::Debug for KeyVault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "KeyVault({})", self.server.address())
    }
}

impl State {
    /// 32 hexadecimal digits that look like nothing in particular.
    fn new_id(&mut self) -> String {
        self.count += 1;
        let spread = u128::from(self.count).wrapping_mul(0xd6e8_feb8_6659_fd93_a076_1d64_78bd_642f);
        format!("{spread:032x}")
    }
}

/// What a vault and its login answer before the read itself: the challenge to whoever shows no token,
/// and a token to whoever asks for one. For servers that stand in the vault's place.
#[must_use]
pub fn side_talk(request: &Received) -> Option<Reply> {
    if request.header("host").as_deref() == Some(LOGIN_HOST) {
        return Some(login::answer(&mut State::default(), request));
    }
    let is_challenged = request.header("authorization").is_none();
    is_challenged.then(vault::challenge)
}

/// The answer to the read of a secret with this value.
#[must_use]
pub fn secret_answer(name: &str, value: &str) -> Reply {
    vault::secret(&Version {
        name: name.to_owned(),
        id: State::default().new_id(),
        value: value.to_owned(),
        content_type: None,
        certificate: None,
        enabled: true,
    })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
