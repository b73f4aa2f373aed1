//! What a rule asks for with each request: `resolve`, and parameters in its values.

use crate::config::{ConfigError, ResolveConfig};
use crate::dynamic::{Allow, Dynamic, Named, Parametric};

/// How many references the fields of one request may hold where nothing is said.
const DEFAULT_MAX: usize = 16;
const LARGEST_MAX: u64 = 256;

/// How many references with parameters a rule may have.
const LARGEST_PARAMETRIC: usize = 256;

/// Compiles it; none if the rule asks for nothing. `fields` are the headers and query parameters that
/// may hold references.
pub(super) fn compile(
    rule: &str,
    config: &ResolveConfig,
    fields: (Vec<Named>, Vec<Named>),
    parametric: Vec<Parametric>,
) -> Result<Option<Box<Dynamic>>, ConfigError> {
    let place = format!("{rule}/resolve");
    let allow = Allow::compile(&format!("{place}/allow"), &config.allow)?;
    let max = match config.max {
        None => DEFAULT_MAX,
        Some(given) => usize::try_from(given)
            .ok()
            .filter(|_| (1..=LARGEST_MAX).contains(&given))
            .ok_or_else(|| ConfigError::new(format!("{place}/max"), "must be from 1 to 256"))?,
    };
    let (headers, query) = fields;
    let has_fields = !headers.is_empty() || !query.is_empty() || !config.body.is_empty();
    if let Some(excess) = parametric.get(LARGEST_PARAMETRIC) {
        let message = "a rule may have 256 references with parameters at most";
        return Err(ConfigError::new(excess.place(), message));
    }
    if allow.is_empty() {
        if let Some(first) = parametric.first() {
            let message = "a reference with a parameter needs 'resolve.allow' in its rule, which \
                           says what it may become";
            return Err(ConfigError::new(first.place(), message));
        }
        if has_fields {
            let message = "must say what the references in these fields may name";
            return Err(ConfigError::new(format!("{place}/allow"), message));
        }
        return Ok(None);
    }
    if !has_fields && parametric.is_empty() {
        let message = "names no field, and no value of the rule has a parameter";
        return Err(ConfigError::new(place, message));
    }
    Ok(Some(Box::new(Dynamic {
        allow,
        max,
        headers,
        query,
        parametric,
    })))
}
