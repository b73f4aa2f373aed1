//! A server in front of another: what comes is passed on, and remembered, so that a
//! scenario can wait for what was asked, count it, or answer in the other's place.

use std::net::SocketAddr;

use anyhow::Result;

use crate::client::Request;
use crate::upstream::{Received, Reply, Upstream};
use crate::wait;

/// Headers that belong to one connection.
const OF_CONNECTION: [&str; 4] = ["connection", "content-length", "host", "transfer-encoding"];

/// A running front. Dropping it closes it.
#[derive(Debug)]
pub struct Front(Upstream);

impl Front {
    /// Passes everything on to `target`.
    ///
    /// # Errors
    ///
    /// When the machine has no free port.
    pub fn of(target: SocketAddr) -> Result<Self> {
        Self::interfering(target, |_| None)
    }

    /// Passes on what `answer` has no reply to.
    ///
    /// # Errors
    ///
    /// When the machine has no free port.
    pub fn interfering(
        target: SocketAddr,
        answer: impl Fn(&Received) -> Option<Reply> + Send + Sync + 'static,
    ) -> Result<Self> {
        let upstream = Upstream::answering(move |received| {
            answer(received).unwrap_or_else(|| pass_on(received, target))
        })?;
        Ok(Self(upstream))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Closes the connections that there are.
    pub fn hang_up(&self) {
        self.0.hang_up();
    }

    /// How often a path that starts like this was asked for.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        let requests = self.0.requests();
        let matching = requests
            .iter()
            .filter(|request| request.path.starts_with(path));
        matching.count()
    }

    /// Waits until a path that starts like this has been asked for so often.
    ///
    /// # Errors
    ///
    /// When that does not come in time.
    pub fn wait_for(&self, path: &str, count: usize) -> Result<()> {
        wait::until_true(&format!("{count} times {path}"), wait::SOON, || {
            self.count(path) >= count
        })
    }
}

/// The same request at another server, and its answer; 502 when there is none.
#[must_use]
pub fn pass_on(received: &Received, target: SocketAddr) -> Reply {
    let mut request = Request::new(&received.method, &received.path).body(&received.body);
    for (name, value) in &received.headers {
        if !OF_CONNECTION.contains(&name.as_str()) {
            request = request.header(name, value);
        }
    }
    let Ok(response) = request.send(target) else {
        return Reply::status(502);
    };
    let mut reply = Reply::status(response.status).body(response.body);
    for (name, value) in response.headers {
        if !OF_CONNECTION.contains(&name.as_str()) {
            reply = reply.header(&name, value);
        }
    }
    reply
}
