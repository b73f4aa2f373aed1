//! The Kubernetes objects of the examples, as far as their definitions say what may stand in them.
//!
//! Written from the definitions of Istio 1.27 (`extensions.istio.io`, `networking.istio.io`), Envoy
//! Gateway 1.7 (`gateway.envoyproxy.io`), the Gateway API and Kubernetes; only what the examples use, so a
//! field that is not here is to be looked up before it is added.

use anyhow::{Context, Result, bail, ensure};
use jsonschema::draft202012;
use serde_json::{Value, json};

use crate::{Example, SECRETS, SOCKETS, VARIABLE, items};

/// Checks an object of a kind that is known here.
pub(crate) fn check(object: &Value) -> Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let (version, spec) = match kind {
        "Kustomization" => {
            let schema = kustomization();
            return valid(&schema, object);
        }
        "Deployment" => ("apps/v1", deployment()),
        "EnvoyExtensionPolicy" => ("gateway.envoyproxy.io/v1alpha1", extension_policy()),
        "EnvoyProxy" => ("gateway.envoyproxy.io/v1alpha1", envoy_proxy()),
        "Gateway" if object["apiVersion"] == "networking.istio.io/v1" => {
            ("networking.istio.io/v1", istio_gateway())
        }
        "Gateway" => ("gateway.networking.k8s.io/v1", gateway()),
        "HTTPRoute" => ("gateway.networking.k8s.io/v1", http_route()),
        "Service" => ("v1", service()),
        "ServiceEntry" => ("networking.istio.io/v1", service_entry()),
        "VirtualService" => ("networking.istio.io/v1", virtual_service()),
        "WasmPlugin" => ("extensions.istio.io/v1alpha1", wasm_plugin()),
        _ => bail!("no definition here for {kind:?}"),
    };
    let schema = fields(
        &["apiVersion", "kind", "metadata", "spec"],
        json!({
            "apiVersion": { "const": version },
            "kind": {},
            "metadata": fields(&["name", "namespace"], json!({ "name": name(), "namespace": name() })),
            "spec": spec,
        }),
    );
    valid(&schema, object)
}

/// Checks how a pod is put together: the resolver and the gateway share the socket's folder, the token
/// is the same, only the resolver has the secrets, and every volume that is mounted is there.
pub(crate) fn check_pod(pod: &Value, gateway: &str, example: &Example) -> Result<()> {
    let container = |name: &str| {
        let mut found = items(&pod["containers"]).filter(|it| it["name"] == name);
        found.next().with_context(|| format!("no container {name}"))
    };
    let (gateway, resolver) = (container(gateway)?, container("vaultref")?);
    let mounted = |container: &Value, path: &str| {
        let mut mounts = items(&container["volumeMounts"]);
        let mount = mounts.find(|mount| mount["mountPath"] == path)?;
        Some(mount["name"].clone())
    };
    // In the documents the system's folders are the example's own.
    let own = example.dir.path();
    let (sockets, secrets) = (own.to_path_buf(), own.join("secrets"));
    let (sockets, secrets) = (sockets.display().to_string(), secrets.display().to_string());
    ensure!(
        mounted(gateway, &sockets).is_some(),
        "the gateway has no {SOCKETS}"
    );
    ensure!(
        mounted(gateway, &sockets) == mounted(resolver, &sockets),
        "not the same {SOCKETS}"
    );
    ensure!(
        mounted(resolver, &secrets).is_some(),
        "the resolver has no {SECRETS}"
    );
    ensure!(
        mounted(gateway, &secrets).is_none(),
        "the gateway has {SECRETS}"
    );
    let token = |container: &Value| {
        let mut variables = items(&container["env"]);
        let variable = variables.find(|variable| variable["name"] == VARIABLE)?;
        Some(variable["valueFrom"]["secretKeyRef"].clone())
    };
    ensure!(
        token(gateway).is_some() && token(gateway) == token(resolver),
        "not the same token"
    );
    for mount in items(&gateway["volumeMounts"]).chain(items(&resolver["volumeMounts"])) {
        let mut volumes = items(&pod["volumes"]);
        ensure!(
            volumes.any(|volume| volume["name"] == mount["name"]),
            "no volume for {mount}"
        );
    }
    // The ConfigMap, mounted where the command looks for it, is the one that is generated.
    let args: Vec<_> = items(&resolver["args"]).filter_map(Value::as_str).collect();
    let [_, _, file] = args[..] else {
        bail!("{args:?}")
    };
    let (folder, _) = file.rsplit_once('/').context("a path")?;
    let config = mounted(resolver, folder).context("no configuration")?;
    let mut volumes = items(&pod["volumes"]);
    let volume = volumes.find(|volume| volume["name"] == config);
    let generated = example.object("kustomization.yaml", "Kustomization")?;
    let generated = &generated["configMapGenerator"][0]["name"];
    ensure!(volume.is_some_and(|volume| &volume["configMap"]["name"] == generated));
    Ok(())
}

fn valid(schema: &Value, object: &Value) -> Result<()> {
    let validator = draft202012::new(schema)?;
    let errors: Vec<_> = validator
        .iter_errors(object)
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    ensure!(errors.is_empty(), "{errors:#?}");
    Ok(())
}

/// An object with these fields, and no other.
fn fields(required: &[&str], properties: Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
    });
    schema["properties"] = properties;
    schema
}

fn list(items: Value) -> Value {
    let mut schema = json!({ "type": "array", "minItems": 1 });
    schema["items"] = items;
    schema
}

fn one_of(values: &[&str]) -> Value {
    json!({ "enum": values })
}

fn text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn name() -> Value {
    json!({ "type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63 })
}

fn port() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": 65535 })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn texts_by_name() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "string" } })
}

fn kustomization() -> Value {
    let generator = fields(
        &["name", "files"],
        json!({
            "name": name(), "namespace": name(), "files": list(text()),
        }),
    );
    fields(
        &["apiVersion", "kind", "resources"],
        json!({
            "apiVersion": { "const": "kustomize.config.k8s.io/v1beta1" },
            "kind": {},
            "resources": list(text()),
            "configMapGenerator": list(generator),
            "generatorOptions": fields(&[], json!({ "disableNameSuffixHash": flag() })),
        }),
    )
}

fn security_of_pod() -> Value {
    let sysctl = fields(
        &["name", "value"],
        json!({ "name": text(), "value": { "type": "string" } }),
    );
    fields(
        &[],
        json!({ "fsGroup": { "type": "integer" }, "sysctls": list(sysctl) }),
    )
}

fn volumes() -> Value {
    list(json!({ "oneOf": [
        fields(&["name", "emptyDir"], json!({ "name": name(), "emptyDir": fields(&[], json!({})) })),
        fields(&["name", "configMap"], json!({
            "name": name(), "configMap": fields(&["name"], json!({ "name": name() })),
        })),
        fields(&["name", "secret"], json!({
            "name": name(), "secret": fields(&["secretName"], json!({ "secretName": name() })),
        })),
    ]}))
}

fn mounts() -> Value {
    list(fields(
        &["name", "mountPath"],
        json!({
            "name": name(), "mountPath": { "type": "string", "pattern": "^/" }, "readOnly": flag(),
        }),
    ))
}

fn variables() -> Value {
    let reference = fields(&["name", "key"], json!({ "name": name(), "key": text() }));
    let source = fields(&["secretKeyRef"], json!({ "secretKeyRef": reference }));
    list(fields(
        &["name", "valueFrom"],
        json!({ "name": text(), "valueFrom": source }),
    ))
}

fn container() -> Value {
    let id = json!({ "type": "integer", "minimum": 1 });
    let security = fields(
        &[],
        json!({
            "runAsUser": id,
            "runAsGroup": id,
            "runAsNonRoot": flag(),
            "readOnlyRootFilesystem": flag(),
            "allowPrivilegeEscalation": flag(),
            "capabilities": fields(&[], json!({ "drop": list(text()) })),
        }),
    );
    fields(
        &["name", "image"],
        json!({
            "name": name(),
            "image": text(),
            "args": list(text()),
            "env": variables(),
            "securityContext": security,
            "volumeMounts": mounts(),
        }),
    )
}

fn deployment() -> Value {
    let pod = fields(
        &["containers"],
        json!({
            "securityContext": security_of_pod(),
            "containers": list(container()),
            "volumes": volumes(),
        }),
    );
    let template = fields(
        &["metadata", "spec"],
        json!({
            "metadata": fields(&["labels"], json!({ "annotations": texts_by_name(), "labels": texts_by_name() })),
            "spec": pod,
        }),
    );
    fields(
        &["selector", "template"],
        json!({
            "selector": fields(&["matchLabels"], json!({ "matchLabels": texts_by_name() })),
            "template": template,
        }),
    )
}

fn service() -> Value {
    fields(
        &["selector", "ports"],
        json!({
            "type": one_of(&["ClusterIP", "NodePort", "LoadBalancer"]),
            "selector": texts_by_name(),
            "ports": list(fields(&["port"], json!({ "name": name(), "port": port() }))),
        }),
    )
}

fn istio_gateway() -> Value {
    let protocol = one_of(&["HTTP", "HTTPS", "GRPC", "HTTP2", "MONGO", "TCP", "TLS"]);
    let server = fields(
        &["port", "hosts"],
        json!({
            "port": fields(&["number", "protocol", "name"], json!({
                "number": port(), "name": text(), "protocol": protocol,
            })),
            "hosts": list(text()),
        }),
    );
    fields(
        &["servers"],
        json!({ "selector": texts_by_name(), "servers": list(server) }),
    )
}

fn virtual_service() -> Value {
    let destination = fields(
        &["host"],
        json!({
            "host": text(), "port": fields(&["number"], json!({ "number": port() })),
        }),
    );
    let route = fields(&["destination"], json!({ "destination": destination }));
    fields(
        &["hosts"],
        json!({
            "hosts": list(text()),
            "gateways": list(text()),
            "http": list(fields(&["route"], json!({ "route": list(route) }))),
        }),
    )
}

fn service_entry() -> Value {
    // A Unix socket has no ports of its own, and wants the resolution STATIC.
    let endpoint = fields(
        &["address"],
        json!({
            "address": { "type": "string", "pattern": "^unix:///.*[^/]$" },
        }),
    );
    let protocol = one_of(&["HTTP", "HTTPS", "GRPC", "HTTP2", "MONGO", "TCP", "TLS"]);
    fields(
        &["hosts", "ports", "resolution", "endpoints"],
        json!({
            "hosts": list(text()),
            "exportTo": list(text()),
            "location": one_of(&["MESH_EXTERNAL", "MESH_INTERNAL"]),
            "ports": list(fields(&["number", "name"], json!({
                "number": port(), "name": text(), "protocol": protocol,
            }))),
            "resolution": { "const": "STATIC" },
            "endpoints": list(endpoint),
        }),
    )
}

fn wasm_plugin() -> Value {
    let variable = json!({ "oneOf": [
        fields(&["name", "valueFrom"], json!({ "name": text(), "valueFrom": { "const": "HOST" } })),
        fields(&["name", "value"], json!({
            "name": text(), "value": { "type": "string", "maxLength": 2048 }, "valueFrom": { "const": "INLINE" },
        })),
    ]});
    fields(
        &["url"],
        json!({
            "selector": fields(&["matchLabels"], json!({ "matchLabels": texts_by_name() })),
            "url": { "type": "string", "pattern": "^(oci|file|https?)://." },
            "sha256": { "type": "string", "pattern": "^$|^[a-f0-9]{64}$" },
            "imagePullPolicy": one_of(&["UNSPECIFIED_POLICY", "IfNotPresent", "Always"]),
            "type": one_of(&["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"]),
            "phase": one_of(&["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"]),
            // FAIL_OPEN is known as well, and not for us.
            "failStrategy": one_of(&["FAIL_CLOSE", "FAIL_RELOAD"]),
            "vmConfig": fields(&[], json!({ "env": list(variable) })),
            "pluginConfig": { "type": "object" },
        }),
    )
}

fn envoy_proxy() -> Value {
    let patch = fields(
        &["value"],
        json!({
            "type": one_of(&["StrategicMerge", "JSONMerge"]),
            // A part of a Deployment; its containers are held against a whole one's.
            "value": fields(&["spec"], json!({ "spec": fields(&["template"], json!({
                "template": fields(&["spec"], json!({
                    "spec": fields(&["containers"], json!({ "containers": list(container()) })),
                })),
            })) })),
        }),
    );
    let deployment = fields(
        &[],
        json!({
            "container": fields(&[], json!({ "env": variables(), "volumeMounts": mounts() })),
            "pod": fields(&[], json!({ "securityContext": security_of_pod(), "volumes": volumes() })),
            "patch": patch,
        }),
    );
    let provider = fields(
        &["type"],
        json!({
            "type": { "const": "Kubernetes" },
            "kubernetes": fields(&[], json!({ "envoyDeployment": deployment })),
        }),
    );
    let bootstrap = fields(
        &["value"],
        json!({
            "type": one_of(&["Merge", "Replace"]), "value": text(),
        }),
    );
    fields(&[], json!({ "provider": provider, "bootstrap": bootstrap }))
}

fn extension_policy() -> Value {
    let target = fields(
        &["group", "kind", "name"],
        json!({
            "group": { "const": "gateway.networking.k8s.io" },
            "kind": one_of(&["Gateway", "HTTPRoute", "GRPCRoute"]),
            "name": name(),
        }),
    );
    let source = fields(
        &["url"],
        json!({
            "url": text(), "sha256": { "type": "string", "pattern": "^[a-f0-9]{64}$" },
        }),
    );
    let code = json!({ "oneOf": [
        fields(&["type", "image"], json!({ "type": { "const": "Image" }, "image": source })),
        fields(&["type", "http"], json!({ "type": { "const": "HTTP" }, "http": source })),
    ]});
    let wasm = fields(
        &["code"],
        json!({
            "name": text(),
            "rootID": text(),
            "code": code,
            // `true` is possible, and not for us.
            "failOpen": { "const": false },
            "env": fields(&[], json!({ "hostKeys": list(text()) })),
            "config": { "type": "object" },
        }),
    );
    fields(
        &["targetRefs", "wasm"],
        json!({ "targetRefs": list(target), "wasm": list(wasm) }),
    )
}

fn gateway() -> Value {
    let reference = fields(
        &["group", "kind", "name"],
        json!({
            "group": text(), "kind": text(), "name": name(),
        }),
    );
    fields(
        &["gatewayClassName", "listeners"],
        json!({
            "gatewayClassName": name(),
            "infrastructure": fields(&[], json!({ "parametersRef": reference })),
            "listeners": list(fields(&["name", "port", "protocol"], json!({
                "name": name(), "port": port(), "protocol": one_of(&["HTTP", "HTTPS", "TLS", "TCP", "UDP"]),
            }))),
        }),
    )
}

fn http_route() -> Value {
    let backend = fields(&["name", "port"], json!({ "name": name(), "port": port() }));
    fields(
        &["rules"],
        json!({
            "parentRefs": list(fields(&["name"], json!({ "name": name() }))),
            "hostnames": list(text()),
            "rules": list(fields(&[], json!({ "backendRefs": list(backend) }))),
        }),
    )
}
