//! One file: what it is, the references in it, and its own faults.
//!
//! | what it is | is known by |
//! | --- | --- |
//! | Kong's declarative file | `_format_version` |
//! | Envoy's configuration | `static_resources`, `dynamic_resources`, or `@type` at the top |
//! | `vaultref.yaml` | `vaults`, `listen` or `clients` at the top |
//! | the filter's configuration | `resolver`, `rules`, `request` or `basic_auth` at the top |
//! | another document | it is YAML or JSON |
//! | `nginx.conf` | a name that ends with `.conf`, and `proxy_wasm` in it |
//! | `kong.conf` | any other name that ends with `.conf` |
//! | variables | a name that ends with `.env`, or `NAME=value` lines only |
//! | a text | all else |
//!
//! The filter's configuration is also found inside other documents, as a block or as JSON text.

mod nginx;
mod wasm;

use std::path::Path;

use vaultref_contract::wire::FailureKind;
use vaultref_contract::{ReferenceText, Scan};
use zeroize::Zeroizing;

use super::faults::{Fault, is_within, take_repeated};
use super::filter::{self, Gateway};
use super::lines::{self, Line};
use super::report::{Kind, Place};
use super::tree::{self, Tree, Unreadable, Value, child, offset_in_source};

/// What was found in a file.
pub(super) struct File {
    /// As it was given.
    pub(super) name: String,
    pub(super) references: Vec<Found>,
    pub(super) faults: Vec<(Place, Kind, String)>,
    /// The vaults that it configures, if it does.
    pub(super) vaults: Option<Tree>,
    /// Its vaults are Kong's.
    pub(super) is_kong: bool,
    source: Zeroizing<String>,
}

/// A reference in a file.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) reference: ReferenceText,
    /// Why nobody would resolve it.
    pub(super) literal: Option<&'static str>,
}

/// What a file is, as far as it matters for what is in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Document,
    Envoy,
    Filter,
    Kong,
    Vaultref,
}

const IN_ENVOY: &str =
    "it stands outside of a Vaultref filter's configuration, where Envoy takes it as it is written";
const IN_NGINX: &str =
    "it stands outside of a Vaultref filter's configuration, where nginx takes it as it is written";
const IN_KONG: &str = "it is not all of the value, so Kong takes the value as it is written";

impl File {
    /// Takes a file apart. `usual` is the gateway of a filter's configuration that stands alone.
    pub(super) fn read(name: String, bytes: Vec<u8>, usual: &Gateway) -> Self {
        let bytes = Zeroizing::new(bytes);
        let source = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
        let mut file = Self {
            name,
            references: Vec::new(),
            faults: Vec::new(),
            vaults: None,
            is_kong: false,
            source: Zeroizing::new(String::new()),
        };
        match documents(Path::new(&file.name), &source) {
            Some(Ok(trees)) => {
                for tree in &trees {
                    Reader::new(&mut file, &source, usual).document(tree);
                }
            }
            Some(Err(unreadable)) => {
                let place = file.place(&source, Some(unreadable.at), "");
                file.fault(place, Kind::Syntax, unreadable.problem);
            }
            None => file.lines(&source),
        }
        file.source = source;
        file
    }

    /// A file that could not be read at all.
    pub(super) fn unreadable(name: String, problem: String) -> Self {
        let mut file = Self {
            name,
            references: Vec::new(),
            faults: Vec::new(),
            vaults: None,
            is_kong: false,
            source: Zeroizing::new(String::new()),
        };
        let place = file.place("", None, "");
        file.fault(place, Kind::Unreadable, problem);
        file
    }

    /// The place of a fault of its vaults.
    pub(super) fn place_in_vaults(&self, fault: &Fault) -> Place {
        let at = self.vaults.as_ref().map(|vaults| fault.place(vaults));
        self.place(&self.source, at, &fault.pointer)
    }

    fn lines(&mut self, source: &str) {
        let name = Path::new(&self.name);
        let has_end = |end: &str| name.to_string_lossy().ends_with(end);
        let is_conf = has_end(".conf");
        if is_conf && let Some(directives) = nginx::directives(source) {
            return self.nginx(source, &directives);
        }
        let lines = if is_conf {
            lines::kong(source)
        } else if has_end(".env") || lines::is_environment(source) {
            lines::environment(source)
        } else {
            lines::plain(source)
        };
        for Line { name, at, value } in lines {
            let pointer = match name {
                "" => String::new(),
                name => child("", name),
            };
            let literal = (is_conf && !is_list_of_references(&value)).then_some(IN_KONG);
            self.scan(source, &value, &pointer, literal, |offset| at + offset);
        }
    }

    fn nginx(&mut self, source: &str, directives: &[nginx::Directive<'_>]) {
        let gateway = nginx::gateway(directives);
        for directive in directives {
            let configuration = directive.configuration();
            let ours = configuration.map(|it| it.range.clone());
            for parameter in directive.parameters() {
                if ours.as_ref() != Some(&parameter.range) {
                    self.scan(source, &parameter.text, "", Some(IN_NGINX), |at| {
                        parameter.in_file(at)
                    });
                }
            }
            if let Some(configuration) = configuration {
                self.parameter(source, configuration, &gateway);
            }
        }
    }

    fn parameter(&mut self, source: &str, found: &nginx::Parameter<'_>, gateway: &Gateway) {
        if found.range.len() > nginx::LONGEST_PARAMETER {
            let place = self.place(source, Some(found.range.start), "");
            let cause = "nginx reads no parameter of more than 4,095 bytes, as it is written";
            self.fault(place, Kind::Configuration, cause);
        }
        match tree::json::parse(&found.text) {
            Ok(tree) => {
                let layer = Layer {
                    text: &found.text,
                    outer: Outer::Parameter(found),
                };
                Reader::new(self, source, gateway).filter(&layer, "", &tree, gateway);
            }
            Err(Unreadable { at, problem }) => {
                let place = self.place(source, Some(found.in_file(at)), "");
                self.fault(place, Kind::Syntax, problem);
            }
        }
    }

    /// Takes in the references of a text; `at` gives the byte of the file for one of the text.
    fn scan(
        &mut self,
        source: &str,
        text: &str,
        pointer: &str,
        literal: Option<&'static str>,
        at: impl Fn(usize) -> usize,
    ) {
        for scanned in Scan::new(text) {
            let place = self.place(source, Some(at(scanned.range.start)), pointer);
            match scanned.found {
                Ok(reference) => self.references.push(Found {
                    place,
                    reference,
                    literal,
                }),
                Err(error) => {
                    let kind = Kind::Failure(FailureKind::InvalidReference);
                    self.fault(place, kind, error.to_string());
                }
            }
        }
    }

    fn fault(&mut self, place: Place, kind: Kind, cause: impl Into<String>) {
        self.faults.push((place, kind, cause.into()));
    }

    fn place(&self, source: &str, at: Option<usize>, pointer: &str) -> Place {
        let before = at.and_then(|at| source.get(..at));
        let last = before.and_then(|before| before.rsplit('\n').next());
        Place {
            file: self.name.clone(),
            line: before.map(|before| 1 + before.matches('\n').count()),
            column: last.map(|last| 1 + last.chars().count()),
            pointer: pointer.to_owned(),
        }
    }
}

/// The documents of a file, if it is one of documents.
fn documents(name: &Path, source: &str) -> Option<Result<Vec<Tree>, Unreadable>> {
    let extension = name.extension().unwrap_or_default().to_string_lossy();
    match &*extension {
        "json" => return Some(tree::json::parse(source).map(|tree| vec![tree])),
        "yaml" | "yml" => {
            // Some of what is called so is JSON, whose escapes YAML does not know.
            return Some(match tree::json::parse(source) {
                Ok(tree) => Ok(vec![tree]),
                Err(_) => tree::yaml::parse(source),
            });
        }
        "conf" | "env" => return None,
        _ => {}
    }
    if lines::is_environment(source) {
        return None;
    }
    if source.trim_start().starts_with('{')
        && let Ok(tree) = tree::json::parse(source)
    {
        return Some(Ok(vec![tree]));
    }
    let trees = tree::yaml::parse(source).ok()?;
    let is_known = trees.iter().any(|tree| form(tree) != Form::Document);
    is_known.then_some(Ok(trees))
}

fn form(tree: &Tree) -> Form {
    let has = |names: &[&str]| names.iter().any(|name| tree.member(name).is_some());
    if has(&["_format_version"]) {
        Form::Kong
    } else if has(&["static_resources", "dynamic_resources", "@type"]) {
        Form::Envoy
    } else if has(&["vaults", "listen", "clients"]) {
        Form::Vaultref
    } else if has(&["resolver", "rules", "request", "basic_auth"]) {
        Form::Filter
    } else {
        Form::Document
    }
}

/// `{vault://a/b}, {vault://c/d}`, as lists of settings are written.
fn is_list_of_references(value: &str) -> bool {
    let mut rest = value.to_owned();
    let ranges: Vec<_> = Scan::new(value).map(|scanned| scanned.range).collect();
    for range in ranges.into_iter().rev() {
        rest.replace_range(range, "");
    }
    rest.chars()
        .all(|c| c.is_whitespace() || matches!(c, ',' | '"' | '\''))
}

/// A text that the positions of a document are bytes of.
#[derive(Clone, Copy)]
struct Layer<'a> {
    text: &'a str,
    outer: Outer<'a>,
}

/// What the text of a layer is.
#[derive(Clone, Copy)]
enum Outer<'a> {
    File,
    Parameter(&'a nginx::Parameter<'a>),
    /// A text in a document.
    Scalar(&'a Layer<'a>, &'a Tree),
}

impl Layer<'_> {
    /// The byte of the file.
    fn in_file(&self, at: usize) -> usize {
        match self.outer {
            Outer::File => at,
            Outer::Parameter(parameter) => parameter.in_file(at),
            Outer::Scalar(outer, scalar) => outer.in_text(scalar, self.text, at),
        }
    }

    /// The byte of the file for a byte of a text in this document.
    fn in_text(&self, scalar: &Tree, text: &str, offset: usize) -> usize {
        let raw = self.text.get(scalar.span.clone()).unwrap_or_default();
        self.in_file(scalar.span.start + offset_in_source(raw, text, offset))
    }
}

/// Goes through a document.
struct Reader<'a> {
    file: &'a mut File,
    source: &'a str,
    usual: &'a Gateway,
    form: Form,
}

impl<'a> Reader<'a> {
    fn new(file: &'a mut File, source: &'a str, usual: &'a Gateway) -> Self {
        Self {
            file,
            source,
            usual,
            form: Form::Document,
        }
    }

    fn document(&mut self, tree: &Tree) {
        self.form = form(tree);
        let layer = Layer {
            text: self.source,
            outer: Outer::File,
        };
        if self.form == Form::Filter {
            let gateway = self.usual.clone();
            return self.filter(&layer, "", tree, &gateway);
        }
        if matches!(self.form, Form::Kong | Form::Vaultref) {
            self.take_vaults(tree);
        } else {
            for fault in take_repeated(&mut tree.clone()) {
                self.own_fault(&layer, tree, "", &fault);
            }
        }
        self.visit(&layer, "", tree);
    }

    /// Notes the vaults that are configured here; they are checked when it is known how.
    fn take_vaults(&mut self, tree: &Tree) {
        let mut vaults = tree.clone();
        if let Value::Mapping(members) = &mut vaults.value
            && self.form == Form::Kong
        {
            let ours = ["_format_version", "vaults"];
            members.retain(|member| ours.contains(&&*member.name));
            if members.len() < ours.len() {
                return;
            }
        }
        self.file.vaults = Some(vaults);
        self.file.is_kong = self.form == Form::Kong;
    }

    fn visit(&mut self, layer: &Layer<'_>, pointer: &str, tree: &Tree) {
        if let Some(plugin) = wasm::Plugin::of(tree, self.form == Form::Kong, self.usual) {
            let at = format!("{pointer}{}", plugin.pointer);
            // What stands beside the configuration is looked at as well.
            let is_beside = |name: &str| {
                !plugin.pointer.is_empty() && !is_within(plugin.pointer, &child("", name))
            };
            for member in tree.members() {
                if is_beside(&member.name) {
                    self.visit(layer, &child(pointer, &member.name), &member.tree);
                }
            }
            return self.plugin(layer, &at, plugin.configuration, &plugin.gateway);
        }
        match &tree.value {
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.visit(layer, &format!("{pointer}/{index}"), item);
                }
            }
            Value::Mapping(members) => {
                for member in members {
                    self.visit(layer, &child(pointer, &member.name), &member.tree);
                }
            }
            Value::Text(text) => self.text(layer, pointer, tree, text),
            Value::Bool(_) | Value::Null | Value::Number(_) => {}
        }
    }

    fn text(&mut self, layer: &Layer<'_>, pointer: &str, tree: &Tree, text: &str) {
        if let Some(inner) = wasm::configuration_in(text) {
            let gateway = self.usual.clone();
            let within = Layer {
                text,
                outer: Outer::Scalar(layer, tree),
            };
            return self.filter(&within, pointer, &inner, &gateway);
        }
        let is_of_vaults = tree::names(pointer).next().as_deref() == Some("vaults");
        let mut scan = Scan::new(text);
        let is_whole = scan
            .next()
            .is_some_and(|first| first.range == (0..text.len()));
        let literal = match self.form {
            Form::Envoy => Some(IN_ENVOY),
            Form::Kong if !is_whole && !is_of_vaults => Some(IN_KONG),
            _ => None,
        };
        self.file
            .scan(self.source, text, pointer, literal, |offset| {
                layer.in_text(tree, text, offset)
            });
    }

    /// What a plugin is configured with: a block, or JSON text.
    fn plugin(&mut self, layer: &Layer<'_>, pointer: &str, tree: &Tree, gateway: &Gateway) {
        let Some(text) = tree.text() else {
            return self.filter(layer, pointer, tree, gateway);
        };
        let within = Layer {
            text,
            outer: Outer::Scalar(layer, tree),
        };
        match tree::json::parse(text) {
            Ok(inner) => self.filter(&within, pointer, &inner, gateway),
            Err(Unreadable { at, problem }) => {
                let place = self
                    .file
                    .place(self.source, Some(within.in_file(at)), pointer);
                self.file.fault(place, Kind::Syntax, problem);
            }
        }
    }

    /// A configuration of the filter, whose own root is at `pointer`.
    fn filter(&mut self, layer: &Layer<'_>, pointer: &str, tree: &Tree, gateway: &Gateway) {
        tree.walk(&mut |within, node| {
            if let Some(text) = node.text() {
                let place = format!("{pointer}{within}");
                self.file.scan(self.source, text, &place, None, |offset| {
                    layer.in_text(node, text, offset)
                });
            }
        });
        for fault in filter::faults(tree, gateway) {
            self.own_fault(layer, tree, pointer, &fault);
        }
    }

    fn own_fault(&mut self, layer: &Layer<'_>, tree: &Tree, pointer: &str, fault: &Fault) {
        let at = layer.in_file(fault.place(tree));
        let pointer = format!("{pointer}{}", fault.pointer);
        let place = self.file.place(self.source, Some(at), &pointer);
        self.file
            .fault(place, Kind::Configuration, fault.cause.clone());
    }
}

#[cfg(test)]
mod tests;
