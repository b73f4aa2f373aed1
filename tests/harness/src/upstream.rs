//! Where callouts may go, and how each gateway reads the name of an upstream.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::callout::Target;

/// What stands behind the name of an upstream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Upstream {
    /// No socket: each callout waits until the test gives its answer with
    /// [`crate::Gateway::answer`].
    ByHand,
    /// Known, but without an endpoint (Envoy: `InternalFailure` at once).
    NoEndpoint,
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// Known, but still warming (Envoy: `BadArgument` at once).
    Warming,
}

/// What a dispatch to a name comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    ByHand,
    /// Refused later, in the answer: a resolver failure.
    Fails,
    /// The name is no upstream for this gateway.
    Malformed,
    NoEndpoint,
    To(Target),
    Unknown,
}

impl Route {
    pub(crate) fn in_envoy(upstreams: &BTreeMap<String, Upstream>, name: &str) -> Self {
        match upstreams.get(name) {
            None | Some(Upstream::Warming) => Self::Unknown,
            Some(Upstream::NoEndpoint) => Self::NoEndpoint,
            Some(other) => Self::to(other),
        }
    }

    /// nginx has no clusters: the name is the address. Names that need a
    /// resolver are looked up in what the test has declared.
    pub(crate) fn in_nginx(upstreams: &BTreeMap<String, Upstream>, name: &str) -> Self {
        if let Some(upstream) = upstreams.get(name) {
            return match upstream {
                Upstream::NoEndpoint | Upstream::Warming => Self::Fails,
                other => Self::to(other),
            };
        }
        if let Some(path) = name.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Self::To(Target::Unix(path.into())),
                false => Self::Malformed,
            };
        }
        if name.is_empty() || name.contains("://") {
            return Self::Malformed;
        }
        if let Ok(address) = name.parse::<SocketAddr>() {
            return Self::To(Target::Tcp(address));
        }
        if let Ok(address) = name.parse::<IpAddr>() {
            return Self::To(Target::Tcp((address, 80).into()));
        }
        match name.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_err() => Self::Malformed,
            _ => Self::Fails,
        }
    }

    fn to(upstream: &Upstream) -> Self {
        match upstream {
            Upstream::ByHand => Self::ByHand,
            Upstream::NoEndpoint | Upstream::Warming => Self::NoEndpoint,
            Upstream::Tcp(address) => Self::To(Target::Tcp(*address)),
            Upstream::Unix(path) => Self::To(Target::Unix(path.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_reads_the_name_as_an_address() {
        let known = BTreeMap::from([("resolver:8205".to_owned(), Upstream::ByHand)]);
        let tcp = |text: &str| Route::To(Target::Tcp(text.parse().unwrap()));
        for (name, expected) in [
            ("127.0.0.1", tcp("127.0.0.1:80")),
            ("127.0.0.1:8205", tcp("127.0.0.1:8205")),
            ("[::1]:8205", tcp("[::1]:8205")),
            (
                "unix:/run/x.sock",
                Route::To(Target::Unix("/run/x.sock".into())),
            ),
            ("resolver:8205", Route::ByHand),
            ("vaultless", Route::Fails),
            ("other:8205", Route::Fails),
            ("http://127.0.0.1", Route::Malformed),
            ("127.0.0.1:65536", Route::Malformed),
            ("unix:relative", Route::Malformed),
            ("", Route::Malformed),
        ] {
            assert_eq!(Route::in_nginx(&known, name), expected, "{name}");
        }
    }
}
