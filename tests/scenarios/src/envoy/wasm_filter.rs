//! A Wasm filter as Envoy's configuration names it.

use std::path::PathBuf;

use serde_json::{Value, json};

const STRING_VALUE: &str = "type.googleapis.com/google.protobuf.StringValue";
const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// A Wasm filter as Envoy's configuration names it.
#[derive(Clone, Debug)]
pub struct WasmFilter {
    module: PathBuf,
    configuration: Option<Value>,
    host_env_keys: Vec<String>,
    failure_policy: String,
    stops_iteration: bool,
}

impl WasmFilter {
    /// The module in this file, without a configuration, reloaded when its VM dies.
    #[must_use]
    pub fn new(module: impl Into<PathBuf>) -> Self {
        Self {
            module: module.into(),
            configuration: None,
            host_env_keys: Vec::new(),
            failure_policy: "FAIL_RELOAD".to_owned(),
            stops_iteration: false,
        }
    }

    /// A configuration that arrives as JSON text (`StringValue`).
    #[must_use]
    pub fn json(self, configuration: &Value) -> Self {
        self.text(&configuration.to_string())
    }

    /// A configuration that arrives as these very characters (`StringValue`).
    #[must_use]
    pub fn text(mut self, configuration: &str) -> Self {
        self.configuration = Some(json!({ "@type": STRING_VALUE, "value": configuration }));
        self
    }

    /// A configuration that arrives as a protobuf `Struct`, as a YAML block does.
    #[must_use]
    pub fn structure(mut self, configuration: &Value) -> Self {
        self.configuration = Some(json!({ "@type": STRUCT, "value": configuration }));
        self
    }

    /// A variable of Envoy's own environment (see [`Setup::env`](super::Setup::env)) that the module
    /// gets to see. In the configuration, which Envoy's admin interface shows, stands the name alone.
    #[must_use]
    pub fn host_env(mut self, name: &str) -> Self {
        self.host_env_keys.push(name.to_owned());
        self
    }

    /// Gets the body of a request whose headers it holds.
    #[must_use]
    pub fn stopping_iteration(mut self) -> Self {
        self.stops_iteration = true;
        self
    }

    /// Another policy than `FAIL_RELOAD`.
    #[must_use]
    pub fn failure_policy(mut self, policy: &str) -> Self {
        policy.clone_into(&mut self.failure_policy);
        self
    }
}

impl From<WasmFilter> for Value {
    fn from(filter: WasmFilter) -> Self {
        let mut vm = json!({
            "vm_id": "vaultref",
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": filter.module } },
        });
        if !filter.host_env_keys.is_empty() {
            vm["environment_variables"] = json!({ "host_env_keys": filter.host_env_keys });
        }
        let mut plugin = json!({
            "name": "vaultref",
            "root_id": "vaultref",
            "failure_policy": filter.failure_policy,
            "vm_config": vm,
        });
        if filter.stops_iteration {
            plugin["allow_on_headers_stop_iteration"] = json!(true);
        }
        if let Some(configuration) = filter.configuration {
            plugin["configuration"] = configuration;
        }
        json!({
            "name": "envoy.filters.http.wasm",
            "typed_config": { "@type": WASM, "config": plugin },
        })
    }
}
