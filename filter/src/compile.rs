//! Turns a configuration into what requests are served from: matchers, writes, and values that know
//! their references by index.
//!
//! This happens once a configuration, so that a request parses nothing. Whatever can be refused is
//! refused here, with its place; a rule that was compiled has no cases left that make no sense.

use std::rc::Rc;

use vaultref_contract::{ReferenceText, Secret};

use crate::config::{Config, ConfigError, RuleConfig};
use crate::dynamic::Dynamic;
use crate::matching::{self, Matcher};
use crate::render::Value;
use crate::table::{Age, MILLISECOND};
use crate::{Callbacks, Host};

mod body;
mod dynamic;
mod fields;
mod on_error;
mod references;
mod resolver;

pub(crate) use references::References;
pub(crate) use resolver::resolver;

pub(crate) use body::{BodyName, BodyRule, BodyWrites, JsonVerb, JsonWrite};
pub(crate) use fields::{HeaderVerb, HeaderWrite, QueryVerb, QueryWrite, header_name};

/// What a gateway can and cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Envoy, or a host that behaves like it.
    Envoy,
    /// nginx with ngx_wasm_module; what is not known to be Envoy is treated as it.
    Nginx,
}

impl Kind {
    /// The kind of gateway that this is: of all that are known, only Envoy has the property.
    pub(crate) fn of(host: &impl Host) -> Self {
        match host.property(&["plugin_vm_id"]) {
            Ok(_) => Self::Envoy,
            Err(_) => Self::Nginx,
        }
    }
}

/// A configuration ready for use.
pub(crate) struct Compiled {
    pub(crate) resolver: Resolver,
    pub(crate) rules: Vec<Rule>,
    /// The distinct references of all rules, as they are written.
    pub(crate) references: Vec<Asked>,
    pub(crate) looks_at: LooksAt,
    /// The headers that some rule matches on.
    pub(crate) matched_headers: Vec<String>,
}

impl Compiled {
    /// Whether a module with these callbacks can do it.
    pub(crate) fn check(&self, callbacks: Callbacks) -> Result<(), ConfigError> {
        match (callbacks, self.needs_every_callback()) {
            (Callbacks::Headers, Some(place)) => {
                let message = "this file of the filter has no callback for it: use vaultref.wasm";
                Err(ConfigError::new(place, message))
            }
            _ => Ok(()),
        }
    }

    /// The place of something that only a module with every callback can do.
    fn needs_every_callback(&self) -> Option<String> {
        if self.rules.iter().any(|rule| rule.is_redacted) {
            return Some("/response/redact_headers".to_owned());
        }
        let places = self.rules.iter().filter_map(|rule| match &rule.body {
            Some(body) => Some(body.place.clone()),
            None if rule.refresh_on_status.is_empty() => None,
            None => Some(format!("{}/refresh_on_status", rule.place)),
        });
        places.into_iter().next()
    }
}

/// What some rule looks at, so that what is ambiguous there is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LooksAt {
    pub(crate) path: bool,
    pub(crate) query: bool,
}

/// One distinct reference.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// As it is written, which is what the resolver is asked.
    pub(crate) text: Rc<str>,
    /// Its vault, the only part of it that is logged.
    pub(crate) vault: Rc<str>,
    /// The vault and the resource, which all keys of an object have in common.
    pub(crate) object: Rc<str>,
}

impl Asked {
    pub(crate) fn new(written: &ReferenceText) -> Self {
        let reference = written.reference();
        Self {
            text: written.as_str().into(),
            vault: reference.vault().into(),
            object: [reference.vault(), "/", reference.resource()]
                .concat()
                .into(),
        }
    }
}

/// Whom to ask, and how. Two that are equal share one poller.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) target: Target,
    /// How long a request waits, in milliseconds.
    pub(crate) timeout: u32,
    /// `Bearer …`, ready to be sent.
    pub(crate) authorization: Option<Secret>,
}

/// Where the resolver is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The host has the function.
    HostFunction,
    /// Behind an upstream of the gateway.
    Upstream(String),
}

impl Resolver {
    /// How long a request waits, in the VM's own time.
    pub(crate) fn timeout_age(&self) -> Age {
        Age::from(self.timeout).saturating_mul(MILLISECOND)
    }

    /// How long a call is waited for, in the VM's own time. nginx applies the timeout to connecting,
    /// to sending and to each read, and an answer takes two of them or so.
    pub(crate) fn patience(&self, kind: Kind) -> Age {
        let times = match kind {
            Kind::Envoy => 1,
            Kind::Nginx => 4,
        };
        self.timeout_age().saturating_mul(times)
    }
}

impl PartialEq for Resolver {
    fn eq(&self, other: &Self) -> bool {
        let same_token = match (&self.authorization, &other.authorization) {
            (None, None) => true,
            (Some(own), Some(others)) => own.same_as(others.expose()),
            _ => false,
        };
        same_token && self.target == other.target && self.timeout == other.timeout
    }
}

/// One rule ready for use.
pub(crate) struct Rule {
    /// Its place in the configuration, for the log.
    pub(crate) place: String,
    pub(crate) matcher: Matcher,
    pub(crate) headers: Vec<HeaderWrite>,
    pub(crate) query: Vec<QueryWrite>,
    /// What it does with bodies; boxed, since most rules do nothing.
    pub(crate) body: Option<Box<BodyRule>>,
    /// The values that the writes name by index.
    pub(crate) values: Vec<Value>,
    pub(crate) on_error: OnError,
    /// If the upstream answers with one of these, its secrets are asked for anew.
    pub(crate) refresh_on_status: Vec<u16>,
    /// Its secrets are masked in responses.
    pub(crate) is_redacted: bool,
    /// Its responses are looked at.
    pub(crate) is_remembered: bool,
    /// Which of [`Compiled::references`] this rule uses. Values name them by their index in here.
    pub(crate) references: Vec<usize>,
    /// What it asks for with each request; boxed, since most rules do not.
    pub(crate) dynamic: Option<Box<Dynamic>>,
}

impl Rule {
    /// Whether references may stand in the bodies of its requests.
    pub(crate) fn resolves_body(&self) -> bool {
        let body = self.body.as_ref();
        body.is_some_and(|body| !body.resolved.is_empty())
    }

    /// How it is called in the log.
    pub(crate) fn name(&self) -> &str {
        if self.place.is_empty() {
            "/"
        } else {
            &self.place
        }
    }
}

/// What happens to a request whose secrets cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    /// It is answered with this.
    Answer(Rc<Answer>),
    /// The fields concerned get this instead.
    Default(String),
    /// The fields concerned are left out.
    WithoutField,
}

/// An answer in the upstream's place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    /// In place of the usual one.
    pub(crate) body: Option<Body>,
}

/// The body of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) text: String,
    pub(crate) content_type: &'static str,
}

/// The environment variables that a gateway lets the module see.
pub(crate) trait Variables {
    fn variable(&self, name: &str) -> Option<String>;
}

impl<H: Host> Variables for H {
    fn variable(&self, name: &str) -> Option<String> {
        self.environment(name)
    }
}

/// Compiles a configuration for a kind of gateway.
pub(crate) fn compile(
    config: Config,
    kind: Kind,
    host: &impl Variables,
) -> Result<Compiled, ConfigError> {
    let resolver = resolver("/resolver", config.resolver, kind, host)?;
    let single = config.request.is_some()
        || config.basic_auth.is_some()
        || config.on_error.is_some()
        || config.body.is_some()
        || config.refresh_on_status.is_some()
        || config.resolve.is_some();
    let rules = match (config.rules, single) {
        (Some(_), true) => {
            let message = "'request', 'basic_auth', 'body', 'on_error', 'refresh_on_status' and \
                           'resolve' are one rule for everything; beside 'rules' they belong inside \
                           a rule";
            return Err(ConfigError::new("", message));
        }
        (Some(rules), false) => {
            let numbered = rules.into_iter().enumerate();
            numbered
                .map(|(index, rule)| (format!("/rules/{index}"), rule))
                .collect()
        }
        (None, true) => vec![(
            String::new(),
            RuleConfig {
                request: config.request.unwrap_or_default(),
                basic_auth: config.basic_auth,
                on_error: config.on_error.unwrap_or_default(),
                refresh_on_status: config.refresh_on_status.unwrap_or_default(),
                body: config.body.unwrap_or_default(),
                resolve: config.resolve.unwrap_or_default(),
                ..RuleConfig::default()
            },
        )],
        (None, false) => {
            let message =
                "there is nothing to do: give 'rules', or 'request', 'basic_auth' or 'resolve'";
            return Err(ConfigError::new("", message));
        }
    };
    let is_redacted = config.response.redact_headers;
    if is_redacted && kind == Kind::Nginx {
        let message = "not on this gateway: how nginx sets a response header that stands more than \
                       once has not been seen, and what is left of it would show the secret";
        return Err(ConfigError::new("/response/redact_headers", message));
    }
    let mut references = References::new(kind);
    let mut rules = rules
        .into_iter()
        .map(|(place, rule)| compile_rule(place, rule, kind, &mut references))
        .collect::<Result<Vec<_>, _>>()?;
    for rule in rules.iter_mut().filter(|_| is_redacted) {
        (rule.is_redacted, rule.is_remembered) = (true, true);
    }
    let mut matched_headers: Vec<String> = Vec::new();
    for rule in &rules {
        let host = rule.matcher.looks_at_host().then_some("host");
        for name in rule.matcher.header_names().chain(host) {
            if matched_headers.iter().all(|known| known != name) {
                matched_headers.push(name.to_owned());
            }
        }
    }
    Ok(Compiled {
        resolver,
        looks_at: LooksAt {
            path: rules.iter().any(|rule| rule.matcher.looks_at_path()),
            query: rules.iter().any(|rule| rule.matcher.looks_at_query()),
        },
        matched_headers,
        rules,
        references: references.asked,
    })
}

pub(crate) fn compile_rule(
    place: String,
    config: RuleConfig,
    kind: Kind,
    references: &mut References,
) -> Result<Rule, ConfigError> {
    let matcher = matching::compile(&place, config.matches, kind)?;
    let on_error = on_error::compile(&place, config.on_error)?;
    let refresh_on_status = statuses(&place, config.refresh_on_status)?;
    references.begin_rule();
    let mut draft = fields::Draft::new(&place, kind, &on_error, references);
    draft.request(config.request)?;
    if let Some(basic) = config.basic_auth {
        draft.basic_auth(&basic)?;
    }
    let fields = draft.resolve(&config.resolve)?;
    let mut writes = draft.finish(&config.body)?;
    let (references, parametric) = references.finish_rule(&mut writes.values);
    let dynamic = dynamic::compile(&place, &config.resolve, fields, parametric)?;
    Ok(Rule {
        place,
        matcher,
        headers: writes.headers,
        query: writes.query,
        body: writes.body,
        values: writes.values,
        on_error,
        is_remembered: !refresh_on_status.is_empty(),
        refresh_on_status,
        is_redacted: false,
        references,
        dynamic,
    })
}

/// The statuses under `refresh_on_status` of the rule at `rule`.
fn statuses(rule: &str, given: Vec<u64>) -> Result<Vec<u16>, ConfigError> {
    let place = |index: usize| format!("{rule}/refresh_on_status/{index}");
    let statuses = given.into_iter().enumerate().map(|(index, given)| {
        let status = u16::try_from(given).ok();
        status
            .filter(|status| (400..=599).contains(status))
            .ok_or_else(|| ConfigError::new(place(index), "must be from 400 to 599"))
    });
    statuses.collect()
}

#[cfg(test)]
mod tests;
