//! `examples/istio`, and what Istio's control plane makes of its objects for Envoy.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_scenarios::envoy::Envoy;
use vaultref_scenarios::paths;

use crate::{Example, VARIABLE, items, objects, socket};

#[test]
fn the_objects_have_fields_that_their_definitions_know() -> Result<()> {
    let example = Example::new("istio")?;
    for file in ["gateway.yaml", "filter.yaml", "kustomization.yaml"] {
        for object in example.documents(file)? {
            objects::check(&object).with_context(|| file.to_owned())?;
        }
    }
    example.check(&["filter.yaml", "vaultref.yaml"])
}

/// Both containers have the socket's folder, and the resolver alone the secrets.
#[test]
fn the_pod_is_put_together_as_the_files_need_it() -> Result<()> {
    let example = Example::new("istio")?;
    let pod = example.object("gateway.yaml", "Deployment")?;
    objects::check_pod(&pod["spec"]["template"]["spec"], "istio-proxy", &example)?;
    let plugin = example.object("filter.yaml", "WasmPlugin")?;
    let labels = &plugin["spec"]["selector"]["matchLabels"];
    for (name, value) in labels.as_object().into_iter().flatten() {
        assert_eq!(&pod["spec"]["template"]["metadata"]["labels"][name], value);
    }
    let owner = &pod["spec"]["template"]["spec"]["securityContext"]["fsGroup"];
    let peer = example.documents("vaultref.yaml")?[0]["clients"][0]["peer"]["uid"].clone();
    assert_eq!(
        &peer, owner,
        "istio-proxy has this number as user and as group"
    );
    Ok(())
}

#[test]
fn what_istio_makes_of_it_does_in_envoy_what_the_readme_says() -> Result<()> {
    let example = Example::new("istio")?;
    let entry = example.object("filter.yaml", "ServiceEntry")?["spec"].take();
    let plugin = example.object("filter.yaml", "WasmPlugin")?["spec"].take();
    let (port, host) = (&entry["ports"][0]["number"], &entry["hosts"][0]);
    let cluster = format!("outbound|{port}||{}", host.as_str().context("a host")?);
    assert_eq!(plugin["pluginConfig"]["resolver"]["upstream"], *cluster);
    let setup = Envoy::setup()
        .concurrency(2)
        .filter(filter(&plugin)?)
        .cluster(&cluster, socket(&entry["endpoints"][0]["address"])?);
    example.plays_in_envoy(setup)
}

/// The Wasm filter that Istio makes of a plugin: its configuration as JSON text, its variables, and one of
/// Istio's own. (The module comes over the network there, and the agent puts a file in its place.)
fn filter(plugin: &Value) -> Result<Value> {
    let from_host = |variable: &&Value| variable["valueFrom"] == "HOST";
    let keys: Vec<_> = items(&plugin["vmConfig"]["env"])
        .filter(from_host)
        .map(|variable| variable["name"].clone())
        .collect();
    assert_eq!(keys, [VARIABLE]);
    assert_eq!(plugin["failStrategy"], "FAIL_RELOAD");
    let module = paths::module("vaultref-envoy.wasm")?;
    Ok(json!({
        "name": "istio-ingress.vaultref",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "istio-ingress.vaultref",
                "failure_policy": plugin["failStrategy"],
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": plugin["pluginConfig"].to_string(),
                },
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": module } },
                    "environment_variables": {
                        "host_env_keys": keys,
                        "key_values": { "ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION": "1" },
                    },
                },
            },
        },
    }))
}
