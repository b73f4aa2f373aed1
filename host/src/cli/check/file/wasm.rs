//! Where gateways hold the configuration of our filter.

use vaultref_filter::{Callbacks, Kind};

use super::super::filter::Gateway;
use super::super::tree::{self, Tree};

/// A plugin of a gateway that is our filter.
pub(super) struct Plugin<'a> {
    /// Where its configuration stands, from here.
    pub(super) pointer: &'static str,
    pub(super) configuration: &'a Tree,
    pub(super) gateway: Gateway,
}

impl<'a> Plugin<'a> {
    /// The plugin that this is, if it is one of ours: Envoy's `PluginConfig`, the `spec` of Istio's
    /// `WasmPlugin`, an item of Envoy Gateway's `wasm` or of Kong's `filters`, or what looks like a
    /// configuration of the filter wherever it stands.
    pub(super) fn of(tree: &'a Tree, is_kong: bool, usual: &Gateway) -> Option<Self> {
        if !tree.is_mapping() {
            return None;
        }
        if is_configuration(tree) {
            return Some(Self {
                pointer: "",
                configuration: tree,
                gateway: Gateway {
                    kind: if is_kong { Kind::Nginx } else { usual.kind },
                    callbacks: usual.callbacks,
                    variables: None,
                },
            });
        }
        if is_kong {
            Self::of_kong(tree)
        } else {
            Self::of_envoy(tree)
                .or_else(|| Self::of_istio(tree))
                .or_else(|| Self::of_envoy_gateway(tree))
        }
    }

    fn of_envoy(tree: &'a Tree) -> Option<Self> {
        let vm = tree.member("vm_config")?;
        let any = tree.member("configuration")?;
        let (pointer, configuration) = match (any.member("@type"), any.member("value")) {
            (Some(_), Some(value)) => ("/configuration/value", value),
            _ => ("/configuration", any),
        };
        let file = vm.descendant(&["code", "local", "filename"]);
        let names = [tree.member("name"), tree.member("root_id"), file];
        let is_named = names.into_iter().flatten().any(is_called_vaultref);
        let text = configuration.text().unwrap_or_default();
        let is_ours = is_named
            || is_configuration(configuration)
            || configuration_in(text).is_some()
            || has_references(configuration);
        is_ours.then(|| Self {
            pointer,
            configuration,
            gateway: Gateway {
                kind: Kind::Envoy,
                callbacks: callbacks_of(file.into_iter()),
                variables: Some(variables(vm)),
            },
        })
    }

    fn of_istio(tree: &'a Tree) -> Option<Self> {
        let configuration = tree.member("pluginConfig")?;
        let names = [tree.member("url")?].into_iter();
        let names = names.chain(tree.member("pluginName"));
        let variables = tree.descendant(&["vmConfig", "env"]);
        let variables = variables.into_iter().flat_map(Tree::items);
        let variables = variables.filter_map(|variable| variable.member("name"));
        Self::of_kubernetes("/pluginConfig", configuration, names, variables)
    }

    fn of_envoy_gateway(tree: &'a Tree) -> Option<Self> {
        let (code, configuration) = (tree.member("code")?, tree.member("config")?);
        let url = ["http", "image"].map(|kind| code.descendant(&[kind, "url"]));
        let names = [tree.member("name"), tree.member("rootID")];
        let names = names.into_iter().chain(url).flatten();
        let variables = tree.descendant(&["env", "hostKeys"]);
        let variables = variables.into_iter().flat_map(Tree::items);
        Self::of_kubernetes("/config", configuration, names, variables)
    }

    fn of_kubernetes(
        pointer: &'static str,
        configuration: &'a Tree,
        names: impl Iterator<Item = &'a Tree> + Clone,
        variables: impl Iterator<Item = &'a Tree>,
    ) -> Option<Self> {
        let is_ours = names.clone().any(is_called_vaultref)
            || is_configuration(configuration)
            || has_references(configuration);
        let variables = variables.filter_map(Tree::text).map(str::to_owned);
        is_ours.then(|| Self {
            pointer,
            configuration,
            gateway: Gateway {
                kind: Kind::Envoy,
                callbacks: callbacks_of(names),
                variables: Some(variables.collect()),
            },
        })
    }

    fn of_kong(tree: &'a Tree) -> Option<Self> {
        let configuration = tree.member("config")?;
        tree.member("name")
            .filter(|name| is_called_vaultref(name))?;
        Some(Self {
            pointer: "/config",
            configuration,
            gateway: Gateway {
                kind: Kind::Nginx,
                callbacks: Callbacks::Every,
                variables: None,
            },
        })
    }
}

/// JSON text that is a configuration of the filter.
pub(super) fn configuration_in(text: &str) -> Option<Tree> {
    if !text.trim_start().starts_with('{') || !text.contains("\"resolver\"") {
        return None;
    }
    tree::json::parse(text).ok().filter(is_configuration)
}

fn is_configuration(tree: &Tree) -> bool {
    tree.member("resolver").is_some_and(|resolver| {
        resolver.member("upstream").is_some() || resolver.member("host_function").is_some()
    })
}

/// Those of the filter's file, as far as its name tells.
fn callbacks_of<'a>(mut names: impl Iterator<Item = &'a Tree>) -> Callbacks {
    let is_small = |name: &str| name.contains("vaultref-envoy");
    match names.any(|name| name.text().is_some_and(is_small)) {
        true => Callbacks::Headers,
        false => Callbacks::Every,
    }
}

fn is_called_vaultref(tree: &Tree) -> bool {
    tree.text().is_some_and(|text| text.contains("vaultref"))
}

fn has_references(tree: &Tree) -> bool {
    let mut found = false;
    tree.walk(&mut |_, tree| {
        found |= tree.text().is_some_and(|text| text.contains("{vault:"));
    });
    found
}

/// The environment variables that Envoy lets a module see.
fn variables(vm: &Tree) -> Vec<String> {
    let given = vm.descendant(&["environment_variables", "key_values"]);
    let of_host = vm.descendant(&["environment_variables", "host_env_keys"]);
    let given = given.into_iter().flat_map(Tree::members);
    let of_host = of_host.into_iter().flat_map(Tree::items);
    given
        .map(|member| member.name.clone())
        .chain(of_host.filter_map(Tree::text).map(str::to_owned))
        .collect()
}
