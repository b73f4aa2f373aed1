//! `examples/envoy-gateway`, and what Envoy Gateway makes of its objects for Envoy.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_scenarios::client::Address;
use vaultref_scenarios::envoy::Envoy;
use vaultref_scenarios::paths;

use crate::{Example, VARIABLE, objects};

/// How Envoy Gateway calls the first Wasm filter of the policy.
const FILTER: &str = "envoy.filters.http.wasm/envoyextensionpolicy/default/vaultref/wasm/0";

#[test]
fn the_objects_have_fields_that_their_definitions_know() -> Result<()> {
    let example = Example::new("envoy-gateway")?;
    for file in ["gateway.yaml", "filter.yaml", "kustomization.yaml"] {
        for object in example.documents(file)? {
            objects::check(&object).with_context(|| file.to_owned())?;
        }
    }
    example.check(&["filter.yaml", "vaultref.yaml"])
}

/// Envoy's pod, as far as it is added to, has the socket's folder in both containers.
#[test]
fn the_pod_is_put_together_as_the_files_need_it() -> Result<()> {
    let example = Example::new("envoy-gateway")?;
    let deployment = example
        .object("gateway.yaml", "EnvoyProxy")?
        .pointer_mut("/spec/provider/kubernetes/envoyDeployment")
        .map(Value::take)
        .context("a deployment")?;
    let mut pod = deployment["pod"].clone();
    let mut envoy = deployment["container"].clone();
    envoy["name"] = json!("envoy");
    pod["containers"] =
        deployment["patch"]["value"]["spec"]["template"]["spec"]["containers"].clone();
    pod["containers"]
        .as_array_mut()
        .context("containers")?
        .push(envoy);
    objects::check_pod(&pod, "envoy", &example)?;
    let owner = &pod["securityContext"]["fsGroup"];
    let peer = &example.documents("vaultref.yaml")?[0]["clients"][0]["peer"]["uid"];
    assert_eq!(peer, owner, "Envoy has this number as user and as group");
    Ok(())
}

#[test]
fn what_envoy_gateway_makes_of_it_does_in_envoy_what_the_readme_says() -> Result<()> {
    let example = Example::new("envoy-gateway")?;
    let proxy = example.object("gateway.yaml", "EnvoyProxy")?;
    let bootstrap = proxy["spec"]["bootstrap"]["value"]
        .as_str()
        .context("a bootstrap")?;
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(file.path(), bootstrap)?;
    Envoy::validate_file(file.path())?;
    let bootstrap: Value = serde_yaml_ng::from_str(bootstrap)?;
    let cluster = &bootstrap["static_resources"]["clusters"][0];
    let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    let path = endpoint["address"]["pipe"]["path"]
        .as_str()
        .context("a socket")?;

    let policy = example.object("filter.yaml", "EnvoyExtensionPolicy")?;
    let wasm = &policy["spec"]["wasm"][0];
    let name = cluster["name"].as_str().context("a name")?;
    assert_eq!(wasm["config"]["resolver"]["upstream"], name);
    let setup = Envoy::setup()
        .concurrency(2)
        .filter(filter(wasm)?)
        .cluster(name, Address::Unix(path.into()))
        .adjust_listener(|listener| {
            let route =
                "/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0";
            if let Some(route) = listener.pointer_mut(route) {
                route["typed_per_filter_config"] = json!({ FILTER: {
                    "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
                    "config": {},
                }});
            }
        });
    example.plays_in_envoy(setup)
}

/// The Wasm filter that Envoy Gateway makes of a policy: off by default and on for the routes, its
/// configuration as JSON text. (The module comes from Envoy Gateway there.)
fn filter(wasm: &Value) -> Result<Value> {
    assert_eq!(wasm["env"]["hostKeys"], json!([VARIABLE]));
    let module = paths::module("vaultref-envoy.wasm")?;
    Ok(json!({
        "name": FILTER,
        "disabled": true,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": wasm["name"],
                "root_id": wasm["rootID"],
                "fail_open": wasm["failOpen"],
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": wasm["config"].to_string(),
                },
                "vm_config": {
                    "vm_id": "envoyextensionpolicy/default/vaultref/wasm/0",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": module } },
                    "environment_variables": { "host_env_keys": wasm["env"]["hostKeys"] },
                },
            },
        },
    }))
}
