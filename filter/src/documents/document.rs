//! One configuration, taken apart: its text, and the values in it that references stand in.
//!
//! What is handed over is the configuration as it came, except for our member and the values of the
//! fields that its filter names. Everything else is not looked at, so that a text which only looks like
//! a reference stays what it is.

use std::rc::Rc;

use vaultref_contract::{Secret, Template};

use crate::Host;
use crate::compile::{Asked, Kind, References, Resolver, Rule, Target, compile_rule, resolver};
use crate::config::{
    ConfigError, DocumentConfig, Json, OWN_MEMBER, RuleConfig, push_member, repeated,
};
use crate::render::Encoding;
use crate::request::Field;

/// How the log calls what belongs to it.
const NAME: &str = "(configuration)";

/// A configuration ready to be resolved.
pub(crate) struct Document {
    /// None if there are no references in it.
    pub(crate) resolver: Option<Rc<Resolver>>,
    pub(crate) references: Vec<Asked>,
    /// The values, as those of a rule: they are decided upon, and change, together.
    pub(crate) rule: Rc<Rule>,
    /// The JSON text around the values: one more than there are of them.
    around: Vec<String>,
}

impl Document {
    /// Takes a configuration apart. `fields` are the paths of the fields that may hold references.
    pub(crate) fn compile(
        bytes: &[u8],
        fields: &[&str],
        kind: Kind,
        host: &impl Host,
    ) -> Result<Self, ConfigError> {
        let config = DocumentConfig::parse(bytes)?;
        let place = ["/", OWN_MEMBER].concat();
        let resolver = match config.resolver {
            Some(own) => Some(resolver(&place, own, kind, host)?),
            None => None,
        };
        let is_function = |resolver: &Resolver| resolver.target == Target::HostFunction;
        if kind == Kind::Nginx && resolver.as_ref().is_some_and(is_function) {
            let message = "nginx has no such function, and ends a filter that looks for it; \
                           give 'upstream'";
            return Err(ConfigError::new(place + "/host_function", message));
        }
        let mut references = References::new(kind);
        let rule = RuleConfig::default();
        let mut rule = compile_rule(NAME.to_owned(), rule, kind, &mut references)?;
        let mut writer = Writer {
            text: String::new(),
            around: Vec::new(),
            rule: &mut rule,
            references: &mut references,
            place: String::new(),
        };
        let named = Named {
            rest: fields.to_vec(),
            depth: None,
        };
        writer.object(config.members, &named)?;
        let around = writer.finish();
        // With parameters there is none: they are refused where they stand.
        let (of_rule, _) = references.finish_rule(&mut rule.values);
        rule.references = of_rule;
        if resolver.is_none() && !references.asked.is_empty() {
            let message = "there are references, so it must be said who resolves them";
            return Err(ConfigError::new(place, message));
        }
        let resolver = resolver.filter(|_| !references.asked.is_empty());
        Ok(Self {
            resolver: resolver.map(Rc::new),
            references: references.asked,
            rule: Rc::new(rule),
            around,
        })
    }

    /// The whole configuration, as JSON.
    pub(crate) fn render(&self, fields: &[Field]) -> Secret {
        let values = fields.iter().map(|field| match field {
            Field::Omit => &[],
            Field::Value(value) => value.expose(),
        });
        let texts = self.around.iter().map(String::len);
        let length = texts.chain(values.clone().map(<[u8]>::len)).sum();
        // All of it at once: a buffer that grows leaves pieces of a secret behind.
        let mut whole = Vec::with_capacity(length);
        let mut values = values;
        for text in &self.around {
            whole.extend_from_slice(text.as_bytes());
            whole.extend_from_slice(values.next().unwrap_or_default());
        }
        Secret::new(whole)
    }
}

/// What the filter's fields are, seen from a value.
#[derive(Default)]
struct Named<'a> {
    /// What is left of the paths that lead through it.
    rest: Vec<&'a str>,
    /// It is a field (0) or so many maps deep in one.
    depth: Option<usize>,
}

impl<'a> Named<'a> {
    /// As seen from a member of it.
    fn member(&self, name: &str) -> Self {
        let mut inner = Self {
            rest: Vec::new(),
            depth: self.depth.map(|depth| depth.saturating_add(1)),
        };
        for path in &self.rest {
            match path.split_once('.') {
                Some((first, rest)) if first == name => inner.rest.push(rest),
                None if *path == name => inner.depth = Some(0),
                _ => {}
            }
        }
        inner
    }
}

/// Writes a configuration anew, and stops wherever a value is to stand.
struct Writer<'a> {
    text: String,
    around: Vec<String>,
    rule: &'a mut Rule,
    references: &'a mut References,
    place: String,
}

/// Recursion is bounded, as the parsers' is.
impl Writer<'_> {
    fn value(&mut self, value: Json, named: &Named<'_>) -> Result<(), ConfigError> {
        match value {
            Json::Bool(yes) => self.text.push_str(if yes { "true" } else { "false" }),
            Json::Fraction(number) if !number.is_finite() => {
                let message = "JSON has no such number";
                return Err(ConfigError::new(self.place.clone(), message));
            }
            Json::Fraction(number) => self.json(&number),
            Json::List(items) => self.list(items, named)?,
            Json::Negative(number) => self.json(&number),
            Json::Null => self.text.push_str("null"),
            Json::Number(number) => self.json(&number),
            Json::Object(members) => self.object(members, named)?,
            Json::Text(text) => match named.depth {
                None => self.json(&text),
                Some(0 | 1) => self.field(&text)?,
                Some(_) => self.too_deep(&text)?,
            },
        }
        Ok(())
    }

    /// Lists are gone through as if they were not there.
    fn list(&mut self, items: Vec<Json>, named: &Named<'_>) -> Result<(), ConfigError> {
        self.text.push('[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            let length = self.place.len();
            push_member(&mut self.place, &index.to_string());
            self.value(item, named)?;
            self.place.truncate(length);
        }
        self.text.push(']');
        Ok(())
    }

    fn object(
        &mut self,
        members: Vec<(String, Json)>,
        named: &Named<'_>,
    ) -> Result<(), ConfigError> {
        if let Some(name) = repeated(&members) {
            let message = format!("'{name}' stands here twice");
            return Err(ConfigError::new(self.place.clone(), message));
        }
        self.text.push('{');
        for (index, (name, value)) in members.into_iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            self.json(&name);
            self.text.push(':');
            let length = self.place.len();
            push_member(&mut self.place, &name);
            self.value(value, &named.member(&name))?;
            self.place.truncate(length);
        }
        self.text.push('}');
        Ok(())
    }

    /// A text that may hold references.
    fn field(&mut self, text: &str) -> Result<(), ConfigError> {
        let has_parameters = |template: Template| {
            let mut references = template.references();
            references.any(|reference| reference.as_str().contains("$("))
        };
        if Template::parse(text).is_ok_and(has_parameters) {
            let message = "a reference has parameters of a request only in a rule";
            return Err(ConfigError::new(self.place.clone(), message));
        }
        let value = self.references.value(&self.place, text, Encoding::Json)?;
        self.rule.values.push(value);
        self.around.push(std::mem::take(&mut self.text));
        Ok(())
    }

    /// A text in a field that is more than a map of texts. If a reference stood there it would go on as
    /// it is, while whoever wrote it expects a secret.
    fn too_deep(&mut self, text: &str) -> Result<(), ConfigError> {
        if Template::parse(text).map_or(true, |template| template.has_references()) {
            let message = "a reference cannot stand here: of the field, a text, a list of texts or \
                           a map of texts is resolved";
            return Err(ConfigError::new(self.place.clone(), message));
        }
        self.json(text);
        Ok(())
    }

    fn json(&mut self, value: &(impl serde::Serialize + ?Sized)) {
        // Texts and numbers can always be written.
        self.text
            .push_str(&serde_json::to_string(value).unwrap_or_default());
    }

    fn finish(mut self) -> Vec<String> {
        self.around.push(self.text);
        self.around
    }
}
