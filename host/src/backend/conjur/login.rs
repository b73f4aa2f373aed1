//! The login: an API key is given for a token that holds for eight minutes
//! (<https://docs.cyberark.com/conjur-enterprise/latest/en/content/developer/conjur_api_authenticate.htm>).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::RequestBuilder;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use vaultref_contract::Secret;
use zeroize::Zeroizing;

use super::SERVER;
use crate::backend::endpoint::{Endpoint, encoded};
use crate::backend::session::{Login, Session};
use crate::backend::{ReadError, ReadErrorKind, network};
use crate::config::{ConfigError, Fields};

/// How long a token holds, if the server was not told otherwise.
const LEASE: Duration = Duration::from_secs(8 * 60);

/// Who we are towards one server.
pub(super) struct Account {
    /// The organisation's.
    pub(super) name: String,
    login: String,
    api_key: Secret,
    session: Session<Secret>,
}

impl Account {
    /// Takes the fields `login` and `api_key`.
    ///
    /// # Errors
    /// One is missing or empty.
    pub(super) fn take(name: String, fields: &mut Fields) -> Result<Self, ConfigError> {
        let node = fields.require("login")?;
        let login = node.text()?;
        if login.is_empty() || login.chars().any(char::is_control) || matches!(&*login, "." | "..")
        {
            return Err(node.error("must be a user's name, or 'host/' and a host's id"));
        }
        let node = fields.require("api_key")?;
        let api_key = Secret::new(node.secret()?.expose().trim_ascii().to_vec());
        if api_key.is_empty() {
            return Err(node.error("must not be empty"));
        }
        Ok(Self {
            name,
            login,
            api_key,
            session: Session::new(),
        })
    }

    /// The current token.
    pub(super) async fn current(
        &self,
        http: &reqwest::Client,
        endpoint: &Endpoint,
    ) -> Result<Arc<Login<Secret>>, ReadError> {
        let login = async |_: Option<&Login<Secret>>| {
            let token = self.authenticate(http, endpoint).await?;
            Ok(Login::leased(token, LEASE))
        };
        self.session.current(login).await
    }

    /// A token was not taken. Says whether to try again with another.
    pub(super) async fn forget(&self, login: &Arc<Login<Secret>>) -> bool {
        self.session.forget(login).await
    }

    /// Puts a token into a request.
    pub(super) fn authorize(
        &self,
        request: RequestBuilder,
        token: &Secret,
    ) -> Result<RequestBuilder, ReadError> {
        let header = [b"Token token=\"", token.expose(), b"\""].concat();
        let header = HeaderValue::from_bytes(&Zeroizing::new(header));
        let mut header = header.map_err(|_| network::unreadable(SERVER))?;
        header.set_sensitive(true);
        Ok(request.header(AUTHORIZATION, header))
    }

    async fn authenticate(
        &self,
        http: &reqwest::Client,
        endpoint: &Endpoint,
    ) -> Result<Secret, ReadError> {
        let (account, login) = (encoded(&self.name), encoded(&self.login));
        let answer = http
            .post(format!("{endpoint}/authn/{account}/{login}/authenticate"))
            .header(ACCEPT_ENCODING, "base64")
            .header(CONTENT_TYPE, "text/plain")
            .body(network::wiped(self.api_key.duplicate()))
            .send()
            .await;
        let answer = answer.map_err(|error| network::unreachable(SERVER, &error))?;
        let code = answer.status().as_u16();
        match code {
            200 => token(&network::login_body(SERVER, answer).await?),
            400 | 401 | 403 | 404 => Err(ReadError::new(
                ReadErrorKind::Denied,
                format!(
                    "Conjur answers {code} to the login: it does not know this login and API key"
                ),
            )),
            _ => Err(network::status(SERVER, code, answer.headers())),
        }
    }
}

/// The token as it goes into a header: in base64, which an older server leaves to us.
fn token(body: &Secret) -> Result<Secret, ReadError> {
    let body = body.expose().trim_ascii();
    if body.starts_with(b"{") {
        return Ok(Secret::from(STANDARD.encode(body)));
    }
    let joined: Zeroizing<Vec<u8>> = Zeroizing::new(
        body.iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect(),
    );
    let is_base64 = !joined.is_empty()
        && joined
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte));
    if !is_base64 {
        return Err(network::unreadable(SERVER));
    }
    Ok(Secret::new(joined.to_vec()))
}
