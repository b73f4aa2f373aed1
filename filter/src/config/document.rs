//! A configuration of somebody else's filter, in which one member is ours.

use super::reader::Reader;
use super::{Config, ConfigError, Json, ResolverConfig};

/// The member that is ours.
pub(crate) const OWN_MEMBER: &str = "vaultref";

/// Such a configuration, without our member.
pub(crate) struct DocumentConfig {
    /// What our member says, if it is there.
    pub(crate) resolver: Option<ResolverConfig>,
    pub(crate) members: Vec<(String, Json)>,
}

impl DocumentConfig {
    /// Reads it as [`Config::parse`] does. No bytes at all are an object without members.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let value = match bytes.is_empty() {
            true => Json::Object(Vec::new()),
            false => Config::value(bytes)?,
        };
        let mut reader = Reader::new(String::new(), value)?;
        let own = reader.object(OWN_MEMBER)?;
        Ok(Self {
            resolver: own.map(ResolverConfig::read).transpose()?,
            members: reader.rest(),
        })
    }
}
