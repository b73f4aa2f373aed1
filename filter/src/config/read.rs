//! Reads a configuration, field by field.

use super::reader::Reader;
use super::{
    BasicAuthConfig, BodyConfig, Config, ConfigError, FieldsConfig, Json, MatchConfig, NamesConfig,
    OnErrorConfig, RequestConfig, ResolveConfig, ResolverConfig, ResponseConfig, RuleConfig,
    struct_pb,
};

impl Config {
    /// Reads a configuration: JSON text, or the protobuf `Struct` (or `TypedStruct`) in which Envoy
    /// hands over a YAML block.
    ///
    /// # Errors
    /// Names the place, as a JSON pointer, and the cause.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        Self::read(Self::value(bytes)?)
    }

    pub(super) fn value(bytes: &[u8]) -> Result<Json, ConfigError> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        let Some(first) = first else {
            return Err(ConfigError::new("", "there is no configuration"));
        };
        Ok(match *first {
            b'{' => match serde_json::from_slice(bytes) {
                Ok(value) => value,
                // A Struct begins with a line feed and a length, which may be 0x7b, a brace.
                Err(error) => struct_pb::decode(bytes)
                    .ok_or_else(|| ConfigError::new("", error.to_string()))?,
            },
            _ => struct_pb::decode(bytes).ok_or_else(|| {
                ConfigError::new("", "neither a JSON object nor a protobuf Struct")
            })?,
        })
    }

    fn read(value: Json) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(String::new(), value)?;
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
            refresh_on_status: reader.numbers("refresh_on_status")?,
            response: reader
                .object("response")?
                .map(ResponseConfig::read)
                .transpose()?
                .unwrap_or_default(),
            body: reader.object("body")?.map(BodyConfig::read).transpose()?,
            resolve: reader
                .object("resolve")?
                .map(ResolveConfig::read)
                .transpose()?,
        };
        reader.finish()?;
        Ok(config)
    }
}

impl ResponseConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let config = Self {
            redact_headers: reader.flag("redact_headers")?.unwrap_or_default(),
        };
        reader.finish()?;
        Ok(config)
    }
}

impl ResolverConfig {
    pub(super) fn read(mut reader: Reader) -> Result<Self, ConfigError> {
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
        let matches = reader.object("match")?.map(MatchConfig::read).transpose()?;
        let request = reader
            .object("request")?
            .map(RequestConfig::read)
            .transpose()?;
        let on_error = reader
            .object("on_error")?
            .map(OnErrorConfig::read)
            .transpose()?;
        let body = reader.object("body")?.map(BodyConfig::read).transpose()?;
        let resolve = reader
            .object("resolve")?
            .map(ResolveConfig::read)
            .transpose()?;
        let config = Self {
            matches: matches.unwrap_or_default(),
            request: request.unwrap_or_default(),
            basic_auth: reader
                .object("basic_auth")?
                .map(BasicAuthConfig::read)
                .transpose()?,
            on_error: on_error.unwrap_or_default(),
            refresh_on_status: reader.numbers("refresh_on_status")?.unwrap_or_default(),
            body: body.unwrap_or_default(),
            resolve: resolve.unwrap_or_default(),
        };
        reader.finish()?;
        Ok(config)
    }
}

impl MatchConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let config = Self {
            host: reader.alternatives("host")?,
            path: reader.text("path")?,
            path_prefix: reader.text("path_prefix")?,
            path_regex: reader.text("path_regex")?,
            methods: reader.alternatives("methods")?,
            headers: reader.members("headers")?,
            querystring: reader.members("querystring")?,
            properties: reader.members("properties")?,
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
        let config = Self {
            headers: reader.members("headers")?,
            querystring: reader.members("querystring")?,
            body: reader.members("body")?,
        };
        reader.finish()?;
        Ok(config)
    }
}

impl NamesConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let config = Self {
            headers: reader.texts("headers")?,
            querystring: reader.texts("querystring")?,
            body: reader.texts("body")?,
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

impl BodyConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let config = Self {
            max_bytes: reader.number("max_bytes")?,
            on_excess: reader.text("on_excess")?,
        };
        reader.finish()?;
        Ok(config)
    }
}

impl ResolveConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let config = Self {
            headers: reader.texts("headers")?,
            querystring: reader.texts("querystring")?,
            body: reader.texts("body")?,
            allow: reader.alternatives("allow")?,
            max: reader.number("max")?,
        };
        reader.finish()?;
        Ok(config)
    }
}

impl OnErrorConfig {
    fn read(mut reader: Reader) -> Result<Self, ConfigError> {
        let config = Self {
            status: reader.number("status")?,
            body: reader.text("body")?,
            without_field: reader.flag("without_field")?,
            default: reader.text("default")?,
        };
        reader.finish()?;
        Ok(config)
    }
}
