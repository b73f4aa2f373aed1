//! One filter of a gateway's chain.

use crate::module::Module;
use crate::profile::FailurePolicy;

/// One filter of the chain: a root context with its configuration.
#[derive(Clone)]
pub struct Plugin {
    pub(crate) name: String,
    pub(crate) root_id: String,
    pub(crate) vm_id: String,
    pub(crate) configuration: Vec<u8>,
    pub(crate) vm_configuration: Vec<u8>,
    pub(crate) policy: FailurePolicy,
    pub(crate) module: Option<Module>,
}

impl Plugin {
    /// A filter with this name and an empty configuration.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            root_id: String::new(),
            vm_id: String::new(),
            configuration: Vec::new(),
            vm_configuration: Vec::new(),
            policy: FailurePolicy::default(),
            module: None,
        }
    }

    /// Which of a module's filters this is.
    #[must_use]
    pub fn root_id(mut self, root_id: impl Into<String>) -> Self {
        self.root_id = root_id.into();
        self
    }

    /// Envoy: filters with the same `vm_id` share one VM a worker.
    #[must_use]
    pub fn vm_id(mut self, vm_id: impl Into<String>) -> Self {
        self.vm_id = vm_id.into();
        self
    }

    /// The bytes that the filter gets as its configuration, as they are.
    #[must_use]
    pub fn configuration(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.configuration = bytes.into();
        self
    }

    /// The bytes that the filter gets as its VM's configuration.
    #[must_use]
    pub fn vm_configuration(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.vm_configuration = bytes.into();
        self
    }

    /// Envoy: what happens when the VM died.
    #[must_use]
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Another module than the gateway's.
    #[must_use]
    pub fn module(mut self, module: &Module) -> Self {
        self.module = Some(module.clone());
        self
    }
}
