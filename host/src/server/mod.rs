//! The daemon: the contract over HTTP, on Unix sockets and loopback TCP.
//!
//! It believes nothing of what comes in: headers and bodies are bounded in size and in time, answers
//! in the time that they take to be read, connections in number, and those of nobody that it knows in time.
//! What comes through a proxy is refused, since a route that leads here would give secrets to whoever uses
//! the route.

mod auth;
mod bounded;
mod caller;
mod control;
mod http;
mod limits;
mod listener;
mod places;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::{HeaderValue, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower::ServiceExt as _;

pub(crate) use control::FLUSH_PATH;
pub use limits::Limits;
pub(crate) use limits::descriptors;
pub use listener::{Bound, ListenError, bind};

use crate::config::Listen;
use crate::policy::Clients;
use crate::resolver::Resolver;
use crate::vault::Vaults;
use bounded::Bounded;
use caller::Caller;
use places::Places;

/// The daemon, ready to serve listeners.
#[derive(Debug)]
pub struct Server {
    state: Arc<http::State>,
    limits: Limits,
    sender: mpsc::UnboundedSender<Change>,
    changes: mpsc::UnboundedReceiver<Change>,
}

impl Server {
    /// A daemon for these clients. `own_uid` is the user that is served when there are none.
    #[must_use]
    pub fn new(resolver: Resolver, clients: Clients, own_uid: u32, limits: Limits) -> Self {
        let (sender, changes) = mpsc::unbounded_channel();
        Self {
            sender,
            changes,
            state: Arc::new(http::State {
                guard: auth::Guard::new(clients, own_uid, resolver.clone()),
                resolver,
                body_timeout: limits.body,
                is_ready: AtomicBool::new(false),
            }),
            limits,
        }
    }

    /// What changes a server that runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            state: Arc::clone(&self.state),
            changes: self.sender.clone(),
        }
    }

    /// Reads the tokens that are references, and says in the log which cannot be read.
    pub async fn warm_up(&self) {
        self.state.guard.warm_up().await;
    }

    /// Serves until `stop` is true (or its sender is gone), then lets open requests end. Listeners can
    /// come and go meanwhile ([`Handle::listen`]).
    pub async fn run(mut self, listeners: Vec<(Listen, Bound)>, mut stop: watch::Receiver<bool>) {
        let places = Places::new(self.limits.connections);
        let mut accepting = JoinSet::new();
        let mut open: Vec<(Listen, watch::Sender<bool>)> = Vec::new();
        let mut change = Some(Change {
            keep: Vec::new(),
            add: listeners,
        });
        loop {
            if let Some(change) = change.take() {
                // Dropping the sender stops the loop of a listener that is not kept.
                open.retain(|(listen, _)| change.keep.contains(listen));
                for (listen, bound) in change.add {
                    let (sender, stop) = watch::channel(false);
                    let accept = Accept {
                        state: Arc::clone(&self.state),
                        limits: self.limits,
                        places: Arc::clone(&places),
                        stop,
                    };
                    accepting.spawn(accept.run(bound));
                    open.push((listen, sender));
                }
            }
            change = tokio::select! {
                () = stopped(&mut stop) => break,
                Some(change) = self.changes.recv() => Some(change),
                Some(_) = accepting.join_next() => None,
            };
        }
        drop(open);
        while accepting.join_next().await.is_some() {}
    }
}

/// Which listeners stay, and which come.
#[derive(Debug)]
struct Change {
    keep: Vec<Listen>,
    add: Vec<(Listen, Bound)>,
}

/// Changes a server that runs. No connection is dropped by that.
#[derive(Clone, Debug)]
pub struct Handle {
    state: Arc<http::State>,
    changes: mpsc::UnboundedSender<Change>,
}

impl Handle {
    /// Serves these vaults to these clients from the next call on. A call gets values of the vaults
    /// that its rights were written for, never those of the one with the rights of the other.
    pub fn replace(&self, vaults: Vaults, clients: Clients) {
        self.state.guard.replace(vaults, clients);
    }

    /// Listens on what is `wanted`, where it listens on `now`. Connections to what is not wanted any
    /// more end as when the daemon stops; others stay.
    ///
    /// # Errors
    /// Something cannot be listened on. Then nothing has changed.
    pub async fn listen(&self, now: &[Listen], wanted: &[Listen]) -> Result<(), ListenError> {
        let mut add = Vec::new();
        for listen in wanted.iter().filter(|listen| !now.contains(listen)) {
            add.push((listen.clone(), bind(listen).await?));
        }
        let keep = wanted.to_vec();
        // It fails only for a server that has stopped, which listens nowhere.
        let _ = self.changes.send(Change { keep, add });
        Ok(())
    }

    /// Whether `/readyz` says that the daemon is ready.
    pub fn set_ready(&self, is_ready: bool) {
        self.state.is_ready.store(is_ready, Ordering::Relaxed);
    }
}

/// One listener's loop.
struct Accept {
    state: Arc<http::State>,
    limits: Limits,
    /// Of all listeners.
    places: Arc<Places>,
    stop: watch::Receiver<bool>,
}

impl Accept {
    async fn run(mut self, listener: Bound) {
        let mut connections = JoinSet::new();
        loop {
            let places = Arc::clone(&self.places);
            // Only who is there takes a place: a listener that nobody comes to must not hold one.
            let next = async {
                loop {
                    let (stream, origin) = listener.accept().await?;
                    if let Some(admitted) = places.admit(origin) {
                        return Ok::<_, std::io::Error>((stream, origin, admitted.place().await));
                    }
                }
            };
            let accepted = tokio::select! {
                next = next => next,
                () = stopped(&mut self.stop) => break,
            };
            let state = Arc::clone(&self.state);
            let (stop, limits) = (self.stop.clone(), self.limits);
            match accepted {
                Ok((stream, origin, place)) => {
                    let caller = Caller::new(origin);
                    connections.spawn(async move {
                        match stream {
                            listener::Stream::Tcp(stream) => {
                                serve(stream, caller, state, limits, stop).await;
                            }
                            listener::Stream::Unix(stream) => {
                                serve(stream, caller, state, limits, stop).await;
                            }
                        }
                        drop(place);
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
    caller: Caller,
    state: Arc<http::State>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let router = http::router(state, &caller);
    let service = hyper::service::service_fn(|request: hyper::Request<_>| {
        let answer = router.clone().oneshot(request.map(axum::body::Body::new));
        async {
            let mut answer = answer.await?;
            if !caller.is_known() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(64 * 1024)
        // Bodies are written from where they are; a flattened copy of one would not be wiped.
        .writev(true)
        .serve_connection(TokioIo::new(Bounded::new(stream, limits.answer)), service);
    tokio::pin!(connection);
    let is_nobody = async {
        sleep(limits.stranger).await;
        if caller.is_known() {
            std::future::pending().await
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = is_nobody => return tracing::debug!("a connection ended: no client said who it is"),
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
