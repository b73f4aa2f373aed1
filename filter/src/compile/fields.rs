//! The fields that a rule writes: which names are allowed, that no field is written twice, and the
//! order of Kong's Request Transformer (remove, rename, replace, add, append; `set` last).

use std::collections::BTreeMap;

use super::body::{self, BodyDraft, BodyRule, JsonVerb};
use super::{Kind, OnError, References};
use crate::config::{
    BasicAuthConfig, BodyConfig, ConfigError, FieldsConfig, NamesConfig, RequestConfig, push_member,
};
use crate::render::{Encoding, Value};

/// Headers that belong to the message itself: writing one changes where a request goes or where it
/// ends, which is no place for a secret.
const UNTOUCHABLE: [&str; 6] = [
    "connection",
    "content-length",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// One header and what is done with it.
#[derive(Debug)]
pub(crate) struct HeaderWrite {
    /// In lower case.
    pub(crate) name: String,
    pub(crate) verb: HeaderVerb,
}

/// What is done with a header; the index is that of the rule's value.
#[derive(Debug)]
pub(crate) enum HeaderVerb {
    Add(usize),
    Append(usize),
    Remove,
    Rename { to: String },
    Replace(usize),
    Set(usize),
}

/// One query parameter and what is done with it.
#[derive(Debug)]
pub(crate) struct QueryWrite {
    /// As names are compared: decoded.
    pub(crate) name: String,
    /// As the name is written: percent-encoded.
    pub(crate) written: Vec<u8>,
    pub(crate) verb: QueryVerb,
}

impl QueryWrite {
    fn new(name: String, verb: QueryVerb) -> Self {
        let written = crate::query::encode(name.as_bytes());
        Self {
            name,
            written,
            verb,
        }
    }
}

/// What is done with a query parameter; the index is that of the rule's value.
#[derive(Debug)]
pub(crate) enum QueryVerb {
    Add(usize),
    Append(usize),
    Remove,
    Rename { to: Vec<u8> },
    Replace(usize),
    Set(usize),
}

/// The writes of one rule, and their values.
pub(super) struct Writes {
    pub(super) headers: Vec<HeaderWrite>,
    pub(super) query: Vec<QueryWrite>,
    pub(super) body: Option<Box<BodyRule>>,
    pub(super) values: Vec<Value>,
}

/// The writes of one rule while they are put together.
pub(super) struct Draft<'a> {
    place: &'a str,
    kind: Kind,
    on_error: &'a OnError,
    references: &'a mut References,
    headers: Vec<HeaderWrite>,
    query: Vec<QueryWrite>,
    body: BodyDraft,
    values: Vec<Value>,
    /// Who writes which field already.
    writers: BTreeMap<(&'static str, String), String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        place: &'a str,
        kind: Kind,
        on_error: &'a OnError,
        references: &'a mut References,
    ) -> Self {
        Self {
            place,
            kind,
            on_error,
            references,
            headers: Vec::new(),
            query: Vec::new(),
            body: BodyDraft::default(),
            values: Vec::new(),
            writers: BTreeMap::new(),
        }
    }

    pub(super) fn finish(self, body: &BodyConfig) -> Result<Writes, ConfigError> {
        let body = self
            .body
            .finish(self.place, body, self.on_error, &self.values)?;
        Ok(Writes {
            headers: self.headers,
            query: self.query,
            body,
            values: self.values,
        })
    }

    pub(super) fn request(&mut self, config: RequestConfig) -> Result<(), ConfigError> {
        self.remove(config.remove)?;
        self.rename(config.rename)?;
        let verbs: [(&str, FieldsConfig, Verbs); 4] = [
            ("replace", config.replace, Verbs::REPLACE),
            ("add", config.add, Verbs::ADD),
            ("append", config.append, Verbs::APPEND),
            ("set", config.set, Verbs::SET),
        ];
        for (verb, fields, verbs) in verbs {
            for (name, text) in fields.headers {
                let place = self.at(verb, "headers", &name);
                let name = self.claim_header(&place, &name)?;
                let value = self.value(&place, &text, Encoding::Header)?;
                let verb = (verbs.header)(value);
                self.headers.push(HeaderWrite { name, verb });
            }
            for (name, text) in fields.querystring {
                let place = self.at(verb, "querystring", &name);
                self.claim_parameter(&place, &name)?;
                let value = self.value(&place, &text, Encoding::Query)?;
                self.push_query(name, (verbs.query)(value));
            }
            for (name, text) in fields.body {
                let place = self.at(verb, "body", &name);
                if BodyDraft::is_json(&name) {
                    let path = self.body.claim(&place, &name)?;
                    let value = self.value(&place, &text, Encoding::Json)?;
                    self.body.push_json(&place, path, (verbs.json)(value))?;
                } else {
                    self.claim_form_field(&place, &name)?;
                    let value = self.value(&place, &text, Encoding::Query)?;
                    let write = QueryWrite::new(name, (verbs.query)(value));
                    self.body.push_form(&place, write)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn basic_auth(&mut self, config: &BasicAuthConfig) -> Result<(), ConfigError> {
        let place = format!("{}/basic_auth", self.place);
        let name = self.claim_header(&place, "authorization")?;
        let value = self
            .references
            .basic(&place, &config.username, &config.password)?;
        if value.has_references() {
            self.check_omission(&place)?;
        }
        let verb = HeaderVerb::Set(self.push_value(value));
        self.headers.push(HeaderWrite { name, verb });
        Ok(())
    }

    fn remove(&mut self, config: NamesConfig) -> Result<(), ConfigError> {
        for (index, name) in config.headers.into_iter().enumerate() {
            let place = self.at("remove", "headers", &index.to_string());
            self.check_removal(&place)?;
            let name = self.claim_header(&place, &name)?;
            let verb = HeaderVerb::Remove;
            self.headers.push(HeaderWrite { name, verb });
        }
        for (index, name) in config.querystring.into_iter().enumerate() {
            let place = self.at("remove", "querystring", &index.to_string());
            self.claim_parameter(&place, &name)?;
            self.push_query(name, QueryVerb::Remove);
        }
        for (index, name) in config.body.into_iter().enumerate() {
            let place = self.at("remove", "body", &index.to_string());
            if BodyDraft::is_json(&name) {
                let path = self.body.claim(&place, &name)?;
                self.body.push_json(&place, path, JsonVerb::Remove)?;
            } else {
                self.claim_form_field(&place, &name)?;
                let write = QueryWrite::new(name, QueryVerb::Remove);
                self.body.push_form(&place, write)?;
            }
        }
        Ok(())
    }

    fn rename(&mut self, config: FieldsConfig) -> Result<(), ConfigError> {
        for (from, to) in config.headers {
            let place = self.at("rename", "headers", &from);
            self.check_removal(&place)?;
            let name = self.claim_header(&place, &from)?;
            let to = self.claim_header(&place, &to)?;
            let verb = HeaderVerb::Rename { to };
            self.headers.push(HeaderWrite { name, verb });
        }
        for (from, to) in config.querystring {
            let place = self.at("rename", "querystring", &from);
            self.claim_parameter(&place, &from)?;
            self.claim_parameter(&place, &to)?;
            let to = crate::query::encode(to.as_bytes());
            self.push_query(from, QueryVerb::Rename { to });
        }
        for (from, to) in config.body {
            let place = self.at("rename", "body", &from);
            if BodyDraft::is_json(&from) || BodyDraft::is_json(&to) {
                let path = self.body.claim(&place, &from)?;
                let to = self.body.claim(&place, &to)?;
                let to = body::new_name(&place, &path, &to)?;
                self.body.push_json(&place, path, JsonVerb::Rename(to))?;
            } else {
                self.claim_form_field(&place, &from)?;
                self.claim_form_field(&place, &to)?;
                let to = crate::query::encode(to.as_bytes());
                let write = QueryWrite::new(from, QueryVerb::Rename { to });
                self.body.push_form(&place, write)?;
            }
        }
        Ok(())
    }

    fn push_query(&mut self, name: String, verb: QueryVerb) {
        self.query.push(QueryWrite::new(name, verb));
    }

    fn value(&mut self, place: &str, text: &str, encoding: Encoding) -> Result<usize, ConfigError> {
        let value = self.references.value(place, text, encoding)?;
        if encoding == Encoding::Header && value.has_references() {
            self.check_omission(place)?;
        }
        Ok(self.push_value(value))
    }

    fn push_value(&mut self, value: Value) -> usize {
        self.values.push(value);
        self.values.len().saturating_sub(1)
    }

    fn at(&self, verb: &str, kind: &str, name: &str) -> String {
        let mut place = format!("{}/request/{verb}/{kind}", self.place);
        push_member(&mut place, name);
        place
    }

    /// A header's name in lower case, if a rule may write it and no other write of the rule does.
    fn claim_header(&mut self, place: &str, name: &str) -> Result<String, ConfigError> {
        let name = header_name(place, name)?;
        if UNTOUCHABLE.contains(&name.as_str()) {
            let message = format!("'{name}' belongs to the message itself; a rule cannot write it");
            return Err(ConfigError::new(place, message));
        }
        self.claim("header", place, &name)?;
        Ok(name)
    }

    fn claim_parameter(&mut self, place: &str, name: &str) -> Result<(), ConfigError> {
        if name.is_empty() {
            return Err(ConfigError::new(place, "the query parameter has no name"));
        }
        self.claim("query parameter", place, name)
    }

    fn claim_form_field(&mut self, place: &str, name: &str) -> Result<(), ConfigError> {
        if name.is_empty() {
            return Err(ConfigError::new(place, "the field of the body has no name"));
        }
        self.claim("field of the body", place, name)
    }

    fn claim(&mut self, kind: &'static str, place: &str, name: &str) -> Result<(), ConfigError> {
        let key = (kind, name.to_owned());
        match self.writers.insert(key, place.to_owned()) {
            None => Ok(()),
            Some(other) => {
                let message = format!("the {kind} '{name}' is written at {other} as well");
                Err(ConfigError::new(place, message))
            }
        }
    }

    fn check_removal(&self, place: &str) -> Result<(), ConfigError> {
        if self.kind == Kind::Envoy {
            return Ok(());
        }
        let message = "this gateway cannot do it: in nginx the removal of a request header does \
                       not reach the upstream";
        Err(ConfigError::new(place, message))
    }

    fn check_omission(&self, place: &str) -> Result<(), ConfigError> {
        if self.kind == Kind::Envoy || *self.on_error != OnError::WithoutField {
            return Ok(());
        }
        let message = "'without_field' is not possible for a header on this gateway: in nginx the \
                       removal of a request header does not reach the upstream";
        Err(ConfigError::new(place, message))
    }
}

/// One verb in each place of a request.
struct Verbs {
    header: fn(usize) -> HeaderVerb,
    query: fn(usize) -> QueryVerb,
    json: fn(usize) -> JsonVerb,
}

impl Verbs {
    const ADD: Self = Self {
        header: HeaderVerb::Add,
        query: QueryVerb::Add,
        json: JsonVerb::Add,
    };
    const APPEND: Self = Self {
        header: HeaderVerb::Append,
        query: QueryVerb::Append,
        json: JsonVerb::Append,
    };
    const REPLACE: Self = Self {
        header: HeaderVerb::Replace,
        query: QueryVerb::Replace,
        json: JsonVerb::Replace,
    };
    const SET: Self = Self {
        header: HeaderVerb::Set,
        query: QueryVerb::Set,
        json: JsonVerb::Set,
    };
}

/// A header's name in lower case, if it is one.
pub(crate) fn header_name(place: &str, name: &str) -> Result<String, ConfigError> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.starts_with(':') {
        let message = format!("'{name}' is a pseudo header, which a rule cannot name");
        return Err(ConfigError::new(place, message));
    }
    if name.is_empty() || !name.bytes().all(token) {
        let message = format!("'{}' is not a header's name", name.escape_debug());
        return Err(ConfigError::new(place, message));
    }
    Ok(name.to_ascii_lowercase())
}
