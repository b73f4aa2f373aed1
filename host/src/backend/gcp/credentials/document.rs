//! A JSON file of credentials, taken apart by hand: an error names the field, never what stands in
//! it.

use reqwest::Url;
use serde_json::Value;
use vaultref_contract::Secret;

use crate::backend::endpoint::Endpoint;
use crate::config::ConfigError;

/// An object of such a file.
pub(super) struct Document<'a> {
    /// Where it stands: a variable, a file, a field.
    place: String,
    pub(super) value: &'a Value,
}

impl<'a> Document<'a> {
    pub(super) fn new(place: &str, value: &'a Value) -> Result<Self, ConfigError> {
        if !value.is_object() {
            return Err(ConfigError::new(place, "must be a JSON object"));
        }
        Ok(Self {
            place: place.to_owned(),
            value,
        })
    }

    pub(super) fn error(&self, field: &str, problem: &str) -> ConfigError {
        ConfigError::new(&self.place, format!("'{field}' {problem}"))
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.found(field).is_some()
    }

    pub(super) fn object(&self, field: &str) -> Result<Document<'a>, ConfigError> {
        let value = self.found(field).ok_or_else(|| self.missing(field))?;
        Document::new(&format!("{}: {field}", self.place), value)
    }

    pub(super) fn maybe_object(&self, field: &str) -> Result<Option<Document<'a>>, ConfigError> {
        self.has(field).then(|| self.object(field)).transpose()
    }

    pub(super) fn text(&self, field: &str) -> Result<&'a str, ConfigError> {
        self.maybe_text(field)?.ok_or_else(|| self.missing(field))
    }

    pub(super) fn maybe_text(&self, field: &str) -> Result<Option<&'a str>, ConfigError> {
        let Some(value) = self.found(field) else {
            return Ok(None);
        };
        let text = value.as_str();
        text.map(Some)
            .ok_or_else(|| self.error(field, "must be text"))
    }

    pub(super) fn secret(&self, field: &str) -> Result<Secret, ConfigError> {
        Ok(Secret::from(self.text(field)?.to_owned()))
    }

    pub(super) fn endpoint(&self, field: &str) -> Result<Endpoint, ConfigError> {
        let endpoint = Endpoint::parse(self.text(field)?);
        endpoint.ok_or_else(|| self.error(field, "must be an http or https address"))
    }

    /// An address that may have a query.
    pub(super) fn url(&self, field: &str) -> Result<Url, ConfigError> {
        let url = Url::parse(self.text(field)?).ok();
        url.filter(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty())
            .ok_or_else(|| self.error(field, "must be an http or https address"))
    }

    /// A list of texts; none if it is not there.
    pub(super) fn texts(&self, field: &str) -> Result<Vec<String>, ConfigError> {
        let Some(value) = self.found(field) else {
            return Ok(Vec::new());
        };
        let items = value.as_array().map(|items| items.iter());
        let texts = items.and_then(|items| {
            let texts = items.map(|item| item.as_str().map(str::to_owned));
            texts.collect()
        });
        texts.ok_or_else(|| self.error(field, "must be a list of texts"))
    }

    pub(super) fn maybe_number(&self, field: &str) -> Result<Option<u64>, ConfigError> {
        let value = self.found(field);
        value
            .map(|value| {
                let number = value.as_u64();
                number.ok_or_else(|| self.error(field, "must be a whole number"))
            })
            .transpose()
    }

    fn found(&self, field: &str) -> Option<&'a Value> {
        self.value.get(field).filter(|value| !value.is_null())
    }

    fn missing(&self, field: &str) -> ConfigError {
        self.error(field, "is missing")
    }
}
