//! Properties of the gateway: what it knows of a request that the client did not say, such as the
//! name of the route that it chose.

use crate::compile::Kind;
use crate::config::{ConfigError, push_member};

/// Variables of nginx that hold what the client sent, beside those of [`SENT_PREFIXES`].
const SENT: [&str; 8] = [
    "args",
    "content_length",
    "content_type",
    "document_uri",
    "host",
    "query_string",
    "upstream_uri",
    "uri",
];

/// What begins the names of variables of nginx that hold what the client sent.
const SENT_PREFIXES: [&str; 4] = ["arg_", "cookie_", "http_", "request"];

/// A property with the value that it must have.
#[derive(Debug)]
pub(super) struct Property {
    /// Its path, a segment each.
    pub(super) path: Vec<String>,
    pub(super) wanted: Vec<u8>,
}

/// Compiles `properties` of the `match` at `place`.
pub(super) fn compile(
    place: &str,
    wanted: Vec<(String, String)>,
    kind: Kind,
) -> Result<Vec<Property>, ConfigError> {
    let properties = wanted.into_iter().map(|(dotted, value)| {
        let mut place = format!("{place}/properties");
        push_member(&mut place, &dotted);
        let error = |message: &str| ConfigError::new(place.as_str(), message);
        let path = path(&place, &dotted, kind)?;
        if value.is_empty() {
            return Err(error("is empty, which cannot be told from absent"));
        }
        let mut names = path.iter().map(String::as_str);
        match (names.next().unwrap_or_default(), kind) {
            ("request" | "response", _) => {
                return Err(error(
                    "is what the client sends; it is matched by 'host', 'path', 'methods', \
                     'headers' and 'querystring'",
                ));
            }
            ("ngx", Kind::Nginx) => {
                let name = names.next().unwrap_or_default();
                if SENT.contains(&name)
                    || SENT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                {
                    return Err(error(
                        "is what the client sent; it is matched by 'host', 'path', 'headers' and \
                         'querystring'",
                    ));
                }
            }
            _ => {}
        }
        Ok(Property {
            path,
            wanted: value.into_bytes(),
        })
    });
    properties.collect()
}

/// The path of a property that a gateway of this kind can have.
pub(crate) fn path(place: &str, dotted: &str, kind: Kind) -> Result<Vec<String>, ConfigError> {
    let error = |message: &str| Err(ConfigError::new(place, message));
    let path = segments(dotted);
    let is_segment = |segment: &String| {
        !segment.is_empty() && !segment.bytes().any(|byte| byte.is_ascii_control())
    };
    if !path.iter().all(is_segment) {
        return error("must be names with dots between ('\\.' is a dot in one)");
    }
    match (path.first().map_or("", String::as_str), kind) {
        ("kong" | "ngx", Kind::Envoy) => error("Envoy has no such property"),
        ("xds", Kind::Nginx) => error("only Envoy has such a property"),
        _ => Ok(path),
    }
}

/// What stands between the dots; `\.` is a dot itself.
fn segments(dotted: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut characters = dotted.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '.' {
            segments.push(String::new());
            continue;
        }
        let is_escape = character == '\\' && characters.peek() == Some(&'.');
        let meant = characters.next_if(|_| is_escape).unwrap_or(character);
        if let Some(segment) = segments.last_mut() {
            segment.push(meant);
        }
    }
    segments
}
