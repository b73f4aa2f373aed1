//! What every backend needs that asks AWS: whose credentials, how a server is reached, and what it
//! means when one refuses.
//!
//! It knows nothing of what is read there.

pub(crate) mod answer;
pub(crate) mod credentials;
pub(crate) mod transport;
