//! The filter's configuration as it is written.
//!
//! Here stands only what the text may look like; what it means is decided in `compile`. Whatever
//! is not understood is an error that names its place: a field that is silently ignored is a
//! credential that silently is not sent.

use thiserror::Error;

mod json;
mod reader;
mod struct_pb;

use json::Json;
use reader::Reader;

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    pub(crate) resolver: ResolverConfig,
    pub(crate) rules: Option<Vec<RuleConfig>>,
    pub(crate) request: Option<RequestConfig>,
    pub(crate) basic_auth: Option<BasicAuthConfig>,
    pub(crate) on_error: Option<OnErrorConfig>,
}

/// Whom to ask for secrets, and how.
#[derive(Debug)]
pub(crate) struct ResolverConfig {
    /// A cluster in Envoy; `host:port` or `unix:/path` in nginx.
    pub(crate) upstream: Option<String>,
    /// The host itself has the function `vaultref.resolve`.
    pub(crate) host_function: bool,
    /// How long a request waits, in milliseconds.
    pub(crate) timeout_ms: Option<u64>,
    /// The environment variable that holds the token for the resolver.
    pub(crate) token_env: Option<String>,
}

/// What is done with the requests that match.
#[derive(Debug, Default)]
pub(crate) struct RuleConfig {
    pub(crate) matches: MatchConfig,
    pub(crate) request: RequestConfig,
    pub(crate) basic_auth: Option<BasicAuthConfig>,
    pub(crate) on_error: OnErrorConfig,
}

/// Which requests a rule is for. Everything that is given must match.
#[derive(Debug, Default)]
pub(crate) struct MatchConfig {
    pub(crate) host: Vec<String>,
    pub(crate) path_prefix: Option<String>,
    pub(crate) methods: Vec<String>,
    pub(crate) headers: Vec<(String, String)>,
}

/// The fields that a rule writes, by verb.
#[derive(Debug, Default)]
pub(crate) struct RequestConfig {
    pub(crate) add: FieldsConfig,
    pub(crate) append: FieldsConfig,
    pub(crate) remove: NamesConfig,
    pub(crate) rename: FieldsConfig,
    pub(crate) replace: FieldsConfig,
    pub(crate) set: FieldsConfig,
}

/// Names with values; for `rename`, old names with new ones.
#[derive(Debug, Default)]
pub(crate) struct FieldsConfig {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) querystring: Vec<(String, String)>,
}

/// Names alone.
#[derive(Debug, Default)]
pub(crate) struct NamesConfig {
    pub(crate) headers: Vec<String>,
    pub(crate) querystring: Vec<String>,
}

/// Writes `authorization: Basic …`.
#[derive(Debug)]
pub(crate) struct BasicAuthConfig {
    pub(crate) username: String,
    pub(crate) password: String,
}

/// What happens to a request whose secrets cannot be had. At most one may be given.
#[derive(Debug, Default)]
pub(crate) struct OnErrorConfig {
    pub(crate) status: Option<u64>,
    pub(crate) without_field: Option<bool>,
    pub(crate) default: Option<String>,
}

impl Config {
    /// Reads a configuration: JSON text, or the protobuf `Struct` (or `TypedStruct`) in which Envoy
    /// hands over a YAML block.
    ///
    /// # Errors
    /// Names the place, as a JSON pointer, and the cause.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        let Some(first) = first else {
            return Err(ConfigError::new("", "there is no configuration"));
        };
        let value = match *first {
            b'{' => match serde_json::from_slice(bytes) {
                Ok(value) => value,
                // A Struct begins with a line feed and a length, which may be 0x7b, a brace.
                Err(error) => struct_pb::decode(bytes)
                    .ok_or_else(|| ConfigError::new("", error.to_string()))?,
            },
            _ => struct_pb::decode(bytes).ok_or_else(|| {
                ConfigError::new("", "neither a JSON object nor a protobuf Struct")
            })?,
        };
        Self::read(value)
    }

    fn read(value: Json) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(String::new(), value)?;
        later_fields(&mut reader)?;
        reader.later("response")?;
        let resolver = reader.object("resolver")?;
        let config = Self {
            resolver: match resolver {
                Some(resolver) => ResolverConfig::read(resolver)?,
                None => return Err(reader.missing("resolver")),
            },
            rules: match reader.list("rules")? {
                None => None,
                Some(rules) => Some(
                    rules
                        .into_iter()
                        .map(|(place, rule)| RuleConfig::read(Reader::new(place, rule)?))
                        .collect::<Result<_, _>>()?,
                ),
            },
            request: reader
                .object("request")?
                .map(RequestConfig::read)
                .transpose()?,
            basic_auth: reader
                .object("basic_auth")?
                .map(BasicAuthConfig::read)
                .transpose()?,
            on_error: reader
                .object("on_error")?
                .map(OnErrorConfig::read)
                .transpose()?,
        };
        reader.finish()?;
        Ok(config)
    }
}

/// What a rule will be able to have.
fn later_fields(reader: &mut Reader) -> Result<(), ConfigError> {
    reader.later("resolve")?;
    reader.later("refresh_on_status")
}

impl ResolverConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let config = Self {
            upstream: reader.text("upstream")?,
            host_function: reader.flag("host_function")?.unwrap_or_default(),
            timeout_ms: reader.number("timeout_ms")?,
            token_env: reader.text("token_env")?,
        };
        reader.finish()?;
        Ok(config)
    }
}

impl RuleConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        later_fields(&mut reader)?;
        let matches = reader.object("match")?.map(MatchConfig::read).transpose()?;
        let request = reader
            .object("request")?
            .map(RequestConfig::read)
            .transpose()?;
        let on_error = reader
            .object("on_error")?
            .map(OnErrorConfig::read)
            .transpose()?;
        let config = Self {
            matches: matches.unwrap_or_default(),
            request: request.unwrap_or_default(),
            basic_auth: reader
                .object("basic_auth")?
                .map(BasicAuthConfig::read)
                .transpose()?,
            on_error: on_error.unwrap_or_default(),
        };
        reader.finish()?;
        Ok(config)
    }
}

impl MatchConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let config = Self {
            host: reader.alternatives("host")?,
            path_prefix: reader.text("path_prefix")?,
            methods: reader.alternatives("methods")?,
            headers: reader.members("headers")?,
        };
        reader.finish()?;
        Ok(config)
    }
}

impl RequestConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let mut fields = |name: &str| -> Result<FieldsConfig, ConfigError> {
            let fields = reader.object(name)?.map(FieldsConfig::read).transpose()?;
            Ok(fields.unwrap_or_default())
        };
        let (add, append, rename) = (fields("add")?, fields("append")?, fields("rename")?);
        let (replace, set) = (fields("replace")?, fields("set")?);
        let remove = reader
            .object("remove")?
            .map(NamesConfig::read)
            .transpose()?;
        reader.finish()?;
        Ok(Self {
            add,
            append,
            remove: remove.unwrap_or_default(),
            rename,
            replace,
            set,
        })
    }
}

impl FieldsConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        reader.later("body")?;
        let config = Self {
            headers: reader.members("headers")?,
            querystring: reader.members("querystring")?,
        };
        reader.finish()?;
        Ok(config)
    }
}

impl NamesConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        reader.later("body")?;
        let config = Self {
            headers: reader.texts("headers")?,
            querystring: reader.texts("querystring")?,
        };
        reader.finish()?;
        Ok(config)
    }
}

impl BasicAuthConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let (username, password) = (reader.text("username")?, reader.text("password")?);
        let config = Self {
            username: username.ok_or_else(|| reader.missing("username"))?,
            password: password.ok_or_else(|| reader.missing("password"))?,
        };
        reader.finish()?;
        Ok(config)
    }
}

impl OnErrorConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let config = Self {
            status: reader.number("status")?,
            without_field: reader.flag("without_field")?,
            default: reader.text("default")?,
        };
        reader.finish()?;
        Ok(config)
    }
}

/// Appends a member's name to a JSON pointer.
pub(crate) fn push_member(pointer: &mut String, name: &str) {
    pointer.push('/');
    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
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
            message: message.into(),
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
