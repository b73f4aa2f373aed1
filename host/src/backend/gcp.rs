//! `gcp`: placeholder.

use std::sync::Arc;

use super::{Backend, Kind, Spelling, USUAL_TTL};
use crate::config::{ConfigError, Fields};
use crate::environment::Environment;

pub(super) const KIND: Kind = Kind {
    name: "gcp",
    build,
    ttl: USUAL_TTL,
    reference_options: &[],
    spelling: Spelling::EXACT,
};

fn build(
    fields: &mut Fields,
    _environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    Err(fields.error("is not there yet"))
}
