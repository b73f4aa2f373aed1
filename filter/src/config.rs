//! The filter's configuration as it is written.
//!
//! Here stands only what the text may look like; what it means is decided in `compile`. Whatever
//! is not understood is an error that names its place: a field that is silently ignored is a
//! credential that silently is not sent.

use thiserror::Error;

mod document;
mod json;
mod read;
mod reader;
mod struct_pb;

pub(crate) use document::{DocumentConfig, OWN_MEMBER};
pub(crate) use json::Json;
pub(crate) use reader::repeated;

/// The configuration of the Vaultref filter: `rules`, or the fields of one rule for every request.
/// A field that is written twice is refused as well, which a schema cannot say.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(deny_unknown_fields, transform = crate::schema::one_rule_or_many))]
pub struct Config {
    /// Whom to ask for secrets, and how.
    pub(crate) resolver: ResolverConfig,
    /// The first rule that matches a request is used; a request that none matches goes on as it is.
    pub(crate) rules: Option<Vec<RuleConfig>>,
    /// The fields that are written.
    pub(crate) request: Option<RequestConfig>,
    /// Writes `authorization: Basic …`.
    pub(crate) basic_auth: Option<BasicAuthConfig>,
    /// What happens to a request whose secrets cannot be had.
    pub(crate) on_error: Option<OnErrorConfig>,
    /// Bodies whose fields are written.
    pub(crate) body: Option<BodyConfig>,
    /// Statuses with which an upstream refuses a secret: it is then read anew.
    #[cfg_attr(feature = "schema", schemars(inner(range(min = 400, max = 599))))]
    pub(crate) refresh_on_status: Option<Vec<u64>>,
    /// References that come with a request.
    pub(crate) resolve: Option<ResolveConfig>,
    /// What is done with responses.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub(crate) response: ResponseConfig,
}

/// What is done with responses.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(rename = "Response", default, deny_unknown_fields)
)]
pub(crate) struct ResponseConfig {
    /// A secret of the request that the upstream repeats in a response header is masked (not in
    /// nginx).
    pub(crate) redact_headers: bool,
}

/// Whom to ask for secrets, and how.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Resolver", deny_unknown_fields, transform = crate::schema::one_target))]
pub(crate) struct ResolverConfig {
    /// How to reach `vaultref serve`: a cluster in Envoy; `host:port` or `unix:/path` in nginx.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(crate) upstream: Option<String>,
    /// The host itself has the function `vaultref.resolve`; then there is no `upstream`.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub(crate) host_function: bool,
    /// How long a call, and a request that waits for one, may take, in milliseconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60_000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 1000)))]
    pub(crate) timeout_ms: Option<u64>,
    /// The environment variable (of the VM) that holds the token for the resolver.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(crate) token_env: Option<String>,
}

/// What is done with the requests that match.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(rename = "Rule", default, deny_unknown_fields)
)]
pub(crate) struct RuleConfig {
    /// Which requests it is for; all of them if it is left out.
    #[cfg_attr(feature = "schema", schemars(rename = "match"))]
    pub(crate) matches: MatchConfig,
    /// The fields that are written.
    pub(crate) request: RequestConfig,
    /// Writes `authorization: Basic …`.
    pub(crate) basic_auth: Option<BasicAuthConfig>,
    /// What happens to a request whose secrets cannot be had.
    pub(crate) on_error: OnErrorConfig,
    /// Statuses with which an upstream refuses a secret: it is then read anew.
    #[cfg_attr(feature = "schema", schemars(inner(range(min = 400, max = 599))))]
    pub(crate) refresh_on_status: Vec<u64>,
    /// Bodies whose fields are written.
    pub(crate) body: BodyConfig,
    /// References that come with a request.
    pub(crate) resolve: ResolveConfig,
}

/// Which requests a rule is for. Everything that is given must match.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(rename = "Match", default, deny_unknown_fields)
)]
pub(crate) struct MatchConfig {
    /// Hosts of which one must be asked for: without port; `*.example.com` is every name below it.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", schemars(inner(length(min = 1))))]
    pub(crate) host: Vec<String>,
    /// The whole path, decoded: `/v1` is not `/v1/`.
    #[cfg_attr(feature = "schema", schemars(pattern("^/")))]
    pub(crate) path: Option<String>,
    /// Whole segments that the path begins with: `/v1` is `/v1` and `/v1/x`, not `/v10`.
    #[cfg_attr(feature = "schema", schemars(pattern("^/")))]
    pub(crate) path_prefix: Option<String>,
    /// A regular expression for the whole path, decoded.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 512)))]
    pub(crate) path_regex: Option<String>,
    /// Methods of which the request must have one.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", schemars(inner(length(min = 1))))]
    pub(crate) methods: Vec<String>,
    /// Headers with the exact value that each must have; one that occurs twice does not match.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Members"))]
    pub(crate) headers: Vec<(String, String)>,
    /// Query parameters with the exact value that each must have, decoded; one that occurs twice does
    /// not match.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Members"))]
    pub(crate) querystring: Vec<(String, String)>,
    /// Properties of the gateway with the exact text that each must have, by their paths with dots:
    /// `xds.route_name` (Envoy), `kong.route_name` (Kong).
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Members"))]
    pub(crate) properties: Vec<(String, String)>,
}

/// The fields that a rule writes, by verb.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(rename = "Request", default, deny_unknown_fields)
)]
pub(crate) struct RequestConfig {
    /// Writes fields that the client did not send.
    pub(crate) add: FieldsConfig,
    /// Writes one more value for each field.
    pub(crate) append: FieldsConfig,
    /// Takes fields away.
    pub(crate) remove: NamesConfig,
    /// Gives fields other names: old ones with new ones.
    pub(crate) rename: FieldsConfig,
    /// Overwrites fields that the client sent.
    pub(crate) replace: FieldsConfig,
    /// Writes fields, whatever the client sent.
    pub(crate) set: FieldsConfig,
}

/// Names with values; for `rename`, old names with new ones.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(rename = "Fields", default, deny_unknown_fields)
)]
pub(crate) struct FieldsConfig {
    /// Headers of the request. A value may hold references, also inside longer texts.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Members"))]
    pub(crate) headers: Vec<(String, String)>,
    /// Query parameters, without percent-encoding. A value may hold references.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Members"))]
    pub(crate) querystring: Vec<(String, String)>,
    /// Fields of the body: all JSON pointers (`/a/b`), or all names of fields of a form. A value may
    /// hold references.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Members"))]
    pub(crate) body: Vec<(String, String)>,
}

/// Names alone.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(rename = "Names", default, deny_unknown_fields)
)]
pub(crate) struct NamesConfig {
    /// Headers of the request.
    pub(crate) headers: Vec<String>,
    /// Query parameters, without percent-encoding.
    pub(crate) querystring: Vec<String>,
    /// Fields of the body: all JSON pointers, or all names of fields of a form.
    pub(crate) body: Vec<String>,
}

/// Writes `authorization: Basic …`.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(rename = "BasicAuth", deny_unknown_fields)
)]
pub(crate) struct BasicAuthConfig {
    /// The name, or a text with references.
    pub(crate) username: String,
    /// The password, or a text with references.
    pub(crate) password: String,
}

/// Bodies whose fields are written.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(rename = "Body", default, deny_unknown_fields)
)]
pub(crate) struct BodyConfig {
    /// How large a body may be.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 16_777_216)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 1_048_576)))]
    pub(crate) max_bytes: Option<u64>,
    /// What happens to a larger one: it is answered with 413, or goes on as it is.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["refuse", "pass"])))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "refuse")))]
    pub(crate) on_excess: Option<String>,
}

/// References that come with a request: in which of its fields they are honoured, and which.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(rename = "Resolve", default, deny_unknown_fields)
)]
pub(crate) struct ResolveConfig {
    /// Headers that may hold references.
    pub(crate) headers: Vec<String>,
    /// Query parameters that may hold references, without percent-encoding.
    pub(crate) querystring: Vec<String>,
    /// Fields of the body that may hold references: all JSON pointers, or all names of fields of a form.
    pub(crate) body: Vec<String>,
    /// What such references, and those with parameters, may name: `vault/path`, with `*` for any characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", schemars(inner(length(min = 3))))]
    pub(crate) allow: Vec<String>,
    /// The most references in the fields of one request.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 256)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 16)))]
    pub(crate) max: Option<u64>,
}

/// What happens to a request whose secrets cannot be had. At most one is given; a body only with a status.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "OnError", default, deny_unknown_fields, transform = crate::schema::one_way_out))]
pub(crate) struct OnErrorConfig {
    /// It is answered with this status.
    #[cfg_attr(feature = "schema", schemars(range(min = 400, max = 599)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 503)))]
    pub(crate) status: Option<u64>,
    /// Sent with the status in place of the usual text: as JSON if it is that, else as plain text.
    #[cfg_attr(feature = "schema", schemars(length(max = 8192)))]
    pub(crate) body: Option<String>,
    /// It goes on without the fields concerned (of headers not in nginx).
    pub(crate) without_field: Option<bool>,
    /// The fields concerned get this literal text instead.
    pub(crate) default: Option<String>,
}

/// Appends a member's name to a JSON pointer.
pub(crate) fn push_member(pointer: &mut String, name: &str) {
    pointer.push('/');
    pointer.push_str(&printable(name).replace('~', "~0").replace('/', "~1"));
}

/// A text as it can stand in a log, where a line break would begin a line of somebody else's making.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => printable.extend(letter.escape_unicode()),
            false => printable.push(letter),
        }
    }
    printable
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}: {message}", if place.is_empty() { "configuration" } else { place.as_str() })]
pub struct ConfigError {
    place: String,
    message: String,
}

impl ConfigError {
    pub(crate) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: printable(&message.into()),
        }
    }

    /// Where, as a JSON pointer (RFC 6901); empty for the whole.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is wrong there.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

#[cfg(test)]
mod tests;
