//! What a scenario looks at: where a request ended, and with what.

use anyhow::{Result, bail};

use crate::client::Response;
use crate::upstream::Received;

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The gateway or the filter answered; nothing left for the upstream.
    Local(Response),
    /// The connection was closed without an answer; nothing left for the upstream.
    Reset,
    /// The upstream got this.
    Upstream(Received),
}

impl Seen {
    /// What the upstream got.
    ///
    /// # Errors
    ///
    /// With what happened instead.
    pub fn upstream(self) -> Result<Received> {
        match self {
            Self::Upstream(received) => Ok(received),
            Self::Local(response) => bail!("answered here instead:\n{}", response.dump()),
            Self::Reset => bail!("the connection was closed instead"),
        }
    }

    /// The answer that was made on this side of the upstream.
    ///
    /// # Errors
    ///
    /// With what the upstream got instead.
    pub fn local(self) -> Result<Response> {
        match self {
            Self::Local(response) => Ok(response),
            Self::Upstream(received) => bail!("the upstream got it instead:\n{}", received.dump()),
            Self::Reset => bail!("the connection was closed instead"),
        }
    }

    /// Whether the upstream got it with this value of `authorization`.
    #[must_use]
    pub fn has_authorization(&self, value: &str) -> bool {
        match self {
            Self::Upstream(received) => received.header_values("authorization") == [value],
            _ => false,
        }
    }

    /// Whether it was answered here with this status.
    #[must_use]
    pub fn has_status(&self, status: u16) -> bool {
        matches!(self, Self::Local(response) if response.status == status)
    }
}
