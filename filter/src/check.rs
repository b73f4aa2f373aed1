//! A configuration checked without a gateway, for tools that look at it before a gateway does.

use crate::Callbacks;
use crate::compile::{Kind, Variables, compile};
use crate::config::{Config, ConfigError};

/// Finds out whether a gateway of this kind could use a configuration with a module that has these
/// callbacks. `variable` gives the environment variables that the gateway would let the module see.
///
/// # Errors
/// The first fault, with its place.
pub fn check(
    configuration: &[u8],
    kind: Kind,
    callbacks: Callbacks,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    compile(Config::parse(configuration)?, kind, &Given(variable))?.check(callbacks)
}

struct Given<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables for Given<F> {
    fn variable(&self, name: &str) -> Option<String> {
        self.0(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_would_refuse_is_refused() {
        let text = br#"{"resolver":{"upstream":"u","token_env":"T"},"request":{"remove":{"headers":["x"]}}}"#;
        let token = |name: &str| (name == "T").then(|| "token".to_owned());
        assert_eq!(check(text, Kind::Envoy, Callbacks::Headers, token), Ok(()));
        let place =
            |result: Result<(), ConfigError>| result.expect_err("refused").place().to_owned();
        assert_eq!(
            place(check(text, Kind::Nginx, Callbacks::Every, token)),
            "/request/remove/headers/0"
        );
        assert_eq!(
            place(check(text, Kind::Envoy, Callbacks::Every, |_| None)),
            "/resolver/token_env"
        );
        let body = br#"{"resolver":{"upstream":"u"},"resolve":{"body":["k"],"allow":["v/*"]}}"#;
        let check_body = |callbacks| check(body, Kind::Envoy, callbacks, token);
        assert_eq!(check_body(Callbacks::Every), Ok(()));
        assert_eq!(place(check_body(Callbacks::Headers)), "/resolve/body/0");
        assert_eq!(
            place(check(b"{}", Kind::Envoy, Callbacks::Every, token)),
            ""
        );
    }
}
