//! Where a vault's server is, as its configuration says it.
//!
//! One form for all vaults that mean the same server, so that a `deny` holds whichever way an
//! address is written. An address with a name, a password or a query in it is refused: it would end
//! in a log.

use std::fmt;

use reqwest::Url;

use crate::config::{ConfigError, Node};

/// The address of a server, perhaps with a path beneath which its own paths begin.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    url: Url,
    /// As [`fmt::Display`] writes it.
    text: String,
}

impl Endpoint {
    /// Takes a field's text.
    ///
    /// # Errors
    /// It is no `http` or `https` address, or has more to it than host, port and path.
    pub(crate) fn read(node: &Node) -> Result<Self, ConfigError> {
        Self::parse(&node.text()?).ok_or_else(|| {
            node.error("must be an http or https address without user, query and fragment")
        })
    }

    /// The same for a text that comes from elsewhere.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_web = matches!(url.scheme(), "http" | "https");
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let host = url.host_str()?;
        (is_web && is_plain && !host.is_empty()).then(|| Self {
            text: url.as_str().trim_end_matches('/').to_owned(),
            url,
        })
    }

    /// Whether it is reached through TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// A name for the place that is the same however the address is written.
    pub(crate) fn place(&self) -> String {
        place(&self.url)
    }
}

/// A name for the place of an address that is the same however it is written. This machine has one
/// name, so that a `deny` holds whichever of its names a vault uses.
pub(crate) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_end_matches('.');
    let is_here = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
    format!(
        "{}://{}:{}{}",
        url.scheme(),
        if is_here { "localhost" } else { host },
        url.port_or_known_default().unwrap_or_default(),
        url.path().trim_end_matches('/')
    )
}

/// Without a slash at its end.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Everything but letters, digits, `-`, `.`, `_` and `~` percent-encoded: one segment of a path, or
/// one value of a query. (`.` and `..` stay what they are: whoever takes names from outside refuses
/// them.)
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_name() {
        for (written, place) in [
            ("https://Vault.Example", "https://vault.example:443"),
            ("https://vault.example.:443/", "https://vault.example:443"),
            ("http://127.0.0.1:80/a/", "http://localhost:80/a"),
            ("http://[::1]/x/../a", "http://localhost:80/a"),
            ("http://localhost:8080", "http://localhost:8080"),
        ] {
            let endpoint = Endpoint::parse(written).expect(written);
            assert_eq!(endpoint.place(), place);
            assert_eq!(endpoint.is_tls(), written.starts_with("https"));
        }
        let endpoint = Endpoint::parse("https://x/api/").expect("an address");
        assert_eq!(endpoint.to_string(), "https://x/api");
    }

    #[test]
    fn an_address_has_nothing_that_could_be_a_credential() {
        for bad in [
            "",
            "x",
            "ftp://x",
            "https://",
            "https://user@x",
            "https://:password@x",
            "https://x?token=1",
            "https://x#a",
            "unix:/run/x",
        ] {
            assert!(Endpoint::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn no_character_of_a_name_means_something_to_a_server() {
        assert_eq!(encoded("aZ09-._~"), "aZ09-._~");
        assert_eq!(
            encoded("a/b c%2F?#&+,:"),
            "a%2Fb%20c%252F%3F%23%26%2B%2C%3A"
        );
        assert_eq!(encoded("ä"), "%C3%A4");
    }
}
