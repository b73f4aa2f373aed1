//! The fields that a rule writes: which names are allowed, that no field is written twice, and the
//! order of Kong's Request Transformer (remove, rename, replace, add, append; `set` last).

use std::collections::BTreeMap;

use super::body::{self, BodyDraft, BodyName, BodyRule, JsonVerb};
use super::{Kind, OnError, References};
use crate::config::{
    BasicAuthConfig, BodyConfig, ConfigError, FieldsConfig, NamesConfig, RequestConfig,
    ResolveConfig, push_member,
};
use crate::dynamic::Named;
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
    pub(crate) fn new(name: String, verb: QueryVerb) -> Self {
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
        let body = self.body.finish(self.place, body, self.on_error)?;
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
        let verbs = [
            (Verb::Replace, config.replace),
            (Verb::Add, config.add),
            (Verb::Append, config.append),
            (Verb::Set, config.set),
        ];
        for (verb, fields) in verbs {
            for (name, text) in fields.headers {
                let place = self.at(verb.name(), "headers", &name);
                let name = self.claim_header(&place, &name)?;
                let value = self.value(&place, &text, Encoding::Header)?;
                let verb = verb.of_header(value);
                self.headers.push(HeaderWrite { name, verb });
            }
            for (name, text) in fields.querystring {
                let place = self.at(verb.name(), "querystring", &name);
                self.claim_parameter(&place, &name)?;
                let value = self.value(&place, &text, Encoding::Query)?;
                self.push_query(name, verb.of_query(value));
            }
            for (name, text) in fields.body {
                self.body_field(verb, name, &text)?;
            }
        }
        Ok(())
    }

    /// One field of a body that is written.
    #[inline(never)] // nor is anything else of bodies: it runs once a configuration
    fn body_field(&mut self, verb: Verb, name: String, text: &str) -> Result<(), ConfigError> {
        let place = self.at(verb.name(), "body", &name);
        let write = self.claim_body(&place, name)?;
        let encoding = match write {
            BodyName::Form(_) => Encoding::Query,
            BodyName::Json(_) => Encoding::Json,
        };
        let value = self.value(&place, text, encoding)?;
        let is_secret = self.values.get(value).is_some_and(Value::has_references);
        self.body.note(verb, is_secret);
        match write {
            BodyName::Form(name) => {
                let write = QueryWrite::new(name, verb.of_query(value));
                self.body.push_form(&place, write)
            }
            BodyName::Json(path) => self.body.push_json(&place, path, verb.of_json(value)),
        }
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

    /// The fields that may hold references: the headers and the query parameters, and with the draft those
    /// of the body.
    pub(super) fn resolve(
        &mut self,
        config: &ResolveConfig,
    ) -> Result<(Vec<Named>, Vec<Named>), ConfigError> {
        let mut headers = Vec::new();
        for (index, name) in config.headers.iter().enumerate() {
            let place = format!("{}/resolve/headers/{index}", self.place);
            let name = self.claim_header(&place, name)?;
            self.check_omission(&place)?;
            headers.push(Named { name, place });
        }
        let mut query = Vec::new();
        for (index, name) in config.querystring.iter().enumerate() {
            let place = format!("{}/resolve/querystring/{index}", self.place);
            self.claim_parameter(&place, name)?;
            let name = name.clone();
            query.push(Named { name, place });
        }
        for (index, name) in config.body.iter().enumerate() {
            let place = format!("{}/resolve/body/{index}", self.place);
            let name = self.claim_body(&place, name.clone())?;
            self.body.push_resolved(place, name)?;
        }
        Ok((headers, query))
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
            self.body.note_removal();
            match self.claim_body(&place, name)? {
                BodyName::Form(name) => {
                    let write = QueryWrite::new(name, QueryVerb::Remove);
                    self.body.push_form(&place, write)?;
                }
                BodyName::Json(path) => self.body.push_json(&place, path, JsonVerb::Remove)?,
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
            match (self.claim_body(&place, from)?, self.claim_body(&place, to)?) {
                (BodyName::Form(from), BodyName::Form(to)) => {
                    let to = crate::query::encode(to.as_bytes());
                    let write = QueryWrite::new(from, QueryVerb::Rename { to });
                    self.body.push_form(&place, write)?;
                }
                (BodyName::Json(path), BodyName::Json(to)) => {
                    let to = body::new_name(&place, &path, &to)?;
                    self.body.push_json(&place, path, JsonVerb::Rename(to))?;
                }
                _ => return Err(body::mixed(&place)),
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

    /// A name that no other write of the rule has.
    #[inline(never)]
    fn claim_body(&mut self, place: &str, name: String) -> Result<BodyName, ConfigError> {
        if name.starts_with('/') {
            return self.body.claim(place, &name).map(BodyName::Json);
        }
        if name.is_empty() {
            return Err(ConfigError::new(place, "the field of the body has no name"));
        }
        self.claim("field of the body", place, &name)?;
        Ok(BodyName::Form(name))
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

/// The verbs that write a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Append,
    Replace,
    Set,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Append => "append",
            Self::Replace => "replace",
            Self::Set => "set",
        }
    }

    fn of_header(self, value: usize) -> HeaderVerb {
        match self {
            Self::Add => HeaderVerb::Add(value),
            Self::Append => HeaderVerb::Append(value),
            Self::Replace => HeaderVerb::Replace(value),
            Self::Set => HeaderVerb::Set(value),
        }
    }

    fn of_query(self, value: usize) -> QueryVerb {
        match self {
            Self::Add => QueryVerb::Add(value),
            Self::Append => QueryVerb::Append(value),
            Self::Replace => QueryVerb::Replace(value),
            Self::Set => QueryVerb::Set(value),
        }
    }

    fn of_json(self, value: usize) -> JsonVerb {
        match self {
            Self::Add => JsonVerb::Add(value),
            Self::Append => JsonVerb::Append(value),
            Self::Replace => JsonVerb::Replace(value),
            Self::Set => JsonVerb::Set(value),
        }
    }
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
