//! The daemon: the contract over HTTP, on Unix sockets and loopback TCP.
//!
//! It believes nothing of what comes in: headers and bodies are bounded in size and in time, answers
//! in the time that they take to be read, connections in number, and what comes through a proxy is refused, since a route that leads here
//! would give secrets to whoever uses the route.

mod auth;
mod bounded;
mod http;
mod listener;

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

pub use listener::{Bound, ListenError, bind};

use crate::policy::{Clients, Origin};
use crate::resolver::Resolver;
use bounded::Bounded;

/// Bounds on what a client can make the daemon hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an answer may take to be read by the client, once it makes the daemon wait.
    pub answer: Duration,
    /// How long the head of a request may take, idle time between requests included.
    pub head: Duration,
    /// How long the body of a request may take.
    pub body: Duration,
    /// How long open requests may take when the daemon stops.
    pub stop: Duration,
    /// How many connections each listener may have open; what is over it waits to be accepted. One
    /// for each, so that whoever can reach the one cannot keep others from the other.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            // Gateways keep connections open between polls, which come each second.
            head: Duration::from_secs(60),
            body: Duration::from_secs(10),
            stop: Duration::from_secs(5),
            connections: 1024,
        }
    }
}

/// The daemon, ready to serve listeners.
#[derive(Debug)]
pub struct Server {
    state: Arc<http::State>,
    limits: Limits,
}

impl Server {
    /// A daemon for these clients. `own_uid` is the user that is served when there are none.
    #[must_use]
    pub fn new(resolver: Resolver, clients: Clients, own_uid: u32, limits: Limits) -> Self {
        Self {
            state: Arc::new(http::State {
                guard: auth::Guard::new(clients, own_uid, resolver.clone()),
                resolver,
                body_timeout: limits.body,
            }),
            limits,
        }
    }

    /// Reads the tokens that are references, and says in the log which cannot be read.
    pub async fn warm_up(&self) {
        self.state.guard.warm_up().await;
    }

    /// Serves until `stop` is true (or its sender is gone), then lets open requests end.
    pub async fn run(self, listeners: Vec<Bound>, stop: watch::Receiver<bool>) {
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let accept = Accept {
                state: Arc::clone(&self.state),
                limits: self.limits,
                permits: Arc::new(Semaphore::new(self.limits.connections)),
                stop: stop.clone(),
            };
            accepting.spawn(accept.run(listener));
        }
        while accepting.join_next().await.is_some() {}
    }
}

/// One listener's loop.
struct Accept {
    state: Arc<http::State>,
    limits: Limits,
    permits: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Accept {
    async fn run(mut self, listener: Bound) {
        let mut connections = JoinSet::new();
        loop {
            let permits = Arc::clone(&self.permits);
            let next = async {
                // Closed by nobody.
                let permit = permits.acquire_owned().await.ok();
                (listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                next = next => next,
                () = stopped(&mut self.stop) => break,
            };
            let state = Arc::clone(&self.state);
            let (stop, limits) = (self.stop.clone(), self.limits);
            match accepted {
                Ok((stream, origin)) => {
                    connections.spawn(async move {
                        match stream {
                            listener::Stream::Tcp(stream) => {
                                serve(stream, origin, state, limits, stop).await;
                            }
                            listener::Stream::Unix(stream) => {
                                serve(stream, origin, state, limits, stop).await;
                            }
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, or a client that is gone already: others go on.
                    tracing::warn!(cause = %error.kind(), "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(self.limits.stop, all).await;
    }
}

async fn serve<S>(
    stream: S,
    origin: Origin,
    state: Arc<http::State>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let router = http::router(state, origin);
    let service = hyper::service::service_fn(move |request: hyper::Request<_>| {
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(64 * 1024)
        // Bodies are written from where they are; a flattened copy of one would not be wiped.
        .writev(true)
        .serve_connection(TokioIo::new(Bounded::new(stream, limits.answer)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Garbage, a client that went away: the client's matter. hyper's words quote nothing.
        tracing::debug!(cause = %error, "a connection ended early");
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone can no longer say it.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
