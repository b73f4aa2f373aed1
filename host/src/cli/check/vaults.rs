//! `vaultref.yaml` and the vaults of Kong's declarative file, checked by the code that reads them.

use std::collections::BTreeSet;
use std::sync::Arc;

use vaultref_contract::Scan;
use zeroize::Zeroizing;

use super::faults::{self, Check, Fault, is_within};
use super::tree::{Member, Tree, Value, child, names};
use crate::config::{self, Config};
use crate::environment::Environment;

/// What a configuration is good for.
pub(super) struct Examined {
    pub(super) faults: Vec<Fault>,
    /// As far as it can be used. A vault that has a fault is in it with a field less, and must not be
    /// asked.
    pub(super) config: Option<Config>,
    /// The names of vaults that have a fault.
    pub(super) broken: BTreeSet<String>,
    /// The names of vaults that need files which this machine does not have, where that is no fault.
    pub(super) foreign: BTreeSet<String>,
}

/// Examines a configuration. `offline`: that this machine lacks files which a vault needs is no
/// fault.
pub(super) fn examine(document: &Tree, environment: &Arc<Environment>, offline: bool) -> Examined {
    let (found, config) = faults::all(&Reading(environment), document);
    let (foreign, faults): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|fault| offline && is_of_machine(fault));
    let names = |faults: &[Fault]| {
        let named = faults
            .iter()
            .filter_map(|fault| name_of(document, &fault.pointer));
        let mut names = named.collect();
        spread(document, &mut names);
        names
    };
    Examined {
        broken: names(&faults),
        foreign: names(&foreign),
        faults,
        config,
    }
}

fn is_of_machine(fault: &Fault) -> bool {
    ["cannot be read: ", "cannot be used: "]
        .iter()
        .any(|words| fault.cause.contains(words))
}

/// A vault whose fields need one that has a fault cannot be used either.
fn spread(document: &Tree, broken: &mut BTreeSet<String>) {
    let vaults = document.member("vaults").into_iter().flat_map(Tree::items);
    let vaults: Vec<_> = vaults
        .filter_map(|vault| Some((reference_name(vault)?, needed(vault))))
        .collect();
    loop {
        let before = broken.len();
        for (name, needed) in &vaults {
            if needed.iter().any(|vault| broken.contains(vault)) {
                broken.insert((*name).to_owned());
            }
        }
        if broken.len() == before {
            return;
        }
    }
}

/// The vaults that references below name.
fn needed(tree: &Tree) -> Vec<String> {
    let mut needed = Vec::new();
    tree.walk(&mut |_, tree| {
        let found =
            Scan::new(tree.text().unwrap_or_default()).filter_map(|scanned| scanned.found.ok());
        needed.extend(found.map(|found| found.reference().vault().to_owned()));
    });
    needed
}

/// Whether a document configures a vault that references call so.
pub(super) fn lists(document: &Tree, name: &str) -> bool {
    let vaults = document.member("vaults").into_iter().flat_map(Tree::items);
    vaults.filter_map(reference_name).any(|known| known == name)
}

/// The name of the vault at or around a place.
fn name_of(document: &Tree, pointer: &str) -> Option<String> {
    let vaults = document.member("vaults")?.items();
    let at = |(index, _): &(usize, &Tree)| is_within(pointer, &format!("/vaults/{index}"));
    let (_, vault) = vaults.iter().enumerate().find(at)?;
    reference_name(vault).map(str::to_owned)
}

/// What references call a vault.
fn reference_name(vault: &Tree) -> Option<&str> {
    let name = |field| vault.member(field).and_then(Tree::text);
    name("prefix").or_else(|| name("name"))
}

struct Reading<'a>(&'a Arc<Environment>);

impl Check for Reading<'_> {
    type Good = Config;

    fn check(&self, document: &Tree) -> Result<Config, Fault> {
        config::parse(&document.to_json(), self.0).map_err(|error| {
            let problem = match error.problem().split_once("; there is ") {
                // Some of these are none, but what we have put there.
                Some((problem, _)) => problem,
                None => error.problem(),
            };
            match pointer(document, error.place()) {
                Some(pointer) => Fault::new(pointer, problem),
                // A variable, or nothing.
                None => Fault::new("", error.to_string()),
            }
        })
    }

    fn items(&self, item: &Tree, number: usize) -> Vec<Value> {
        let name = format!("stand-in-{number}");
        // A vault that can be referred to if its name can, any vault, a client, a listener, a
        // pattern, an option, a text.
        let known = reference_name(item).unwrap_or(&name);
        vec![
            mapping([("name", text("env")), ("prefix", text(known))]),
            mapping([("name", text("env")), ("prefix", text(&name))]),
            mapping([
                ("name", text(&name)),
                ("tokens", Value::List(vec![Tree::new(text(&name), 0..0)])),
            ]),
            text("tcp://127.0.0.1:1"),
            text("env/STAND_IN"),
            text("prefix"),
            text(&name),
        ]
    }

    fn members(&self) -> Vec<Value> {
        vec![Value::Number("60".to_owned()), text("stand-in")]
    }
}

/// The JSON pointer of a place as the configuration's errors name it.
fn pointer(document: &Tree, place: &str) -> Option<String> {
    if place.is_empty() {
        return Some(String::new());
    }
    if let Some(name) = place.strip_prefix("vault '") {
        let name = name.strip_suffix('\'')?;
        let vaults = document.member("vaults")?.items().iter();
        let index = vaults
            .map(reference_name)
            .position(|known| known == Some(name))?;
        return Some(format!("/vaults/{index}"));
    }
    let mut found = None;
    document.walk(&mut |pointer, _| {
        if place_of(document, pointer) == place {
            found.get_or_insert_with(|| pointer.to_owned());
        }
    });
    // What is missing has a place all the same.
    found.or_else(|| {
        let (parent, name) = place.rsplit_once('.')?;
        Some(child(&pointer(document, parent)?, name))
    })
}

/// How the configuration's errors name a place.
fn place_of(document: &Tree, pointer: &str) -> String {
    let mut place = String::new();
    let mut tree = document;
    for name in names(pointer) {
        match &tree.value {
            Value::List(_) => place.push_str(&format!("[{name}]")),
            _ if place.is_empty() => place.push_str(&name),
            _ => place.push_str(&format!(".{name}")),
        }
        let next = match &tree.value {
            Value::List(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
            _ => tree.member(&name),
        };
        tree = next.unwrap_or(tree);
    }
    place
}

fn mapping<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.map(|(name, value)| Member {
        name: name.to_owned(),
        at: 0,
        tree: Tree::new(value, 0..0),
    });
    Value::Mapping(members.into())
}

fn text(text: &str) -> Value {
    Value::Text(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::tree::yaml;
    use super::*;

    fn found(yaml: &str, offline: bool) -> (Vec<String>, Vec<String>, Option<Config>) {
        let trees = yaml::parse(yaml).expect(yaml);
        let examined = examine(&trees[0], &Arc::default(), offline);
        let mut faults: Vec<_> = examined
            .faults
            .iter()
            .map(|fault| format!("{}: {}", fault.pointer, fault.cause))
            .collect();
        faults.sort();
        (
            faults,
            examined.broken.into_iter().collect(),
            examined.config,
        )
    }

    #[test]
    fn every_fault_is_found_and_good_vaults_are_good() {
        let yaml = "
            vaults:
              - {name: env, prefix: good, config: {prefix: A_}}
              - {name: env, prefix: Bad, config: {ttl: soon, neg_ttl: -1, colour: red}}
              - {name: fs, prefix: files, config: {prefix: /nonexistent-directory}}
              - {name: nope, prefix: who}
              - {name: env, prefix: good}
              - {name: env, prefix: two, config: {allow_options: [prefix, host, port]}}
              - {name: fs, prefix: three, config: {}}
            listen: [{unix: ''}, 'tcp://8.8.8.8:1', 'tcp://127.0.0.1:1']
            clients:
              - {name: a}
              - {name: b, peer: {uid: x}, allow: ['nope/*', 'good/*', 'all']}
            listn: []
        ";
        let (faults, broken, config) = found(yaml, false);
        let expected = [
            "/clients/0: needs a 'peer'",
            "/clients/1/allow/0: names an unknown vault",
            "/clients/1/allow/2: must be a vault",
            "/clients/1/peer/uid: must be a whole number",
            "/listen/0/unix: must be",
            "/listen/1: is no loopback",
            "/listn: unknown field",
            "/vaults/1/config/colour: unknown field",
            "/vaults/1/config/neg_ttl: must be a whole number",
            "/vaults/1/config/ttl: must be a whole number",
            "/vaults/1/prefix: must be lower-case",
            "/vaults/2/config/prefix: cannot be used: ",
            "/vaults/3/name: unknown backend",
            "/vaults/4: another vault is called 'good' already",
            "/vaults/5/config/allow_options/1: of 'env'",
            "/vaults/5/config/allow_options/2: of 'env'",
            "/vaults/6/config: the field 'prefix' is missing",
        ];
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, start) in faults.iter().zip(expected) {
            assert!(fault.starts_with(start), "{fault}, not {start}");
        }
        assert_eq!(broken, ["Bad", "files", "good", "three", "two", "who"]);
        let vaults = config.expect("as far as it can be used").vaults;
        assert!(vaults.find("good").is_some());
    }

    #[test]
    fn offline_what_this_machine_lacks_is_no_fault() {
        let yaml = "vaults: [{name: fs, prefix: files, config: {prefix: /nonexistent-directory}}]";
        let trees = yaml::parse(yaml).expect(yaml);
        let examined = examine(&trees[0], &Arc::default(), true);
        assert!(examined.faults.is_empty() && examined.broken.is_empty());
        assert!(examined.foreign.contains("files"));
    }

    #[test]
    fn circles_are_named_where_they_are() {
        let yaml = "vaults:
            - {name: env, prefix: fine}
            - {name: env, prefix: one, config: {prefix: '{vault://two/x}'}}
            - {name: env, prefix: two, config: {prefix: '{vault://one/x}'}}
            - {name: env, prefix: three, config: {prefix: '{vault://fine/x}', ttl: x}}";
        let (faults, broken, config) = found(yaml, false);
        assert_eq!(faults.len(), 2, "{faults:#?}");
        assert!(
            faults[0].starts_with("/vaults/1: needs itself"),
            "{faults:#?}"
        );
        assert!(
            faults[1].starts_with("/vaults/3/config/ttl: "),
            "{faults:#?}"
        );
        assert_eq!(broken, ["one", "three", "two"]);
        assert!(config.is_some());
    }

    #[test]
    fn a_fault_in_the_environment_is_named() {
        let environment = Arc::new(Environment::from([("VAULTREF_ENV_TTL", "soon")]));
        let trees = yaml::parse("{vaults: []}").expect("YAML");
        let examined = examine(&trees[0], &environment, false);
        assert!(examined.config.is_none());
        assert!(
            examined.faults[0]
                .cause
                .starts_with("VAULTREF_ENV_TTL: must be")
        );
    }
}
