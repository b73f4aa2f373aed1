//! A `hcv` vault of the resolver, read without its cache.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vaultref_host::backend::{Asked, Backend, ReadError, ReadErrorKind};
use vaultref_host::config;
use vaultref_host::environment::Environment;

pub(crate) struct Vault {
    runtime: Runtime,
    backend: Arc<dyn Backend>,
}

impl Vault {
    /// A vault of the KV2 mount at that address, with these fields besides.
    pub(crate) fn at(address: SocketAddr, fields: &Value) -> Result<Self> {
        let mut config =
            json!({"host": address.ip().to_string(), "port": address.port(), "kv": "v2"});
        let members = fields.as_object().context("fields")?.clone();
        config.as_object_mut().context("fields")?.extend(members);
        let document = json!({"vaults": [{"name": "hcv", "config": config}]});
        let parsed = config::parse(&document.to_string(), &Arc::new(Environment::default()))?;
        let vault = parsed.vaults.find("hcv").context("the vault")?;
        let backend = vault
            .backend()
            .map_err(|error| anyhow::anyhow!(error.cause))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        Ok(Self { runtime, backend })
    }

    /// Reads an object.
    pub(crate) fn read(&self, path: &str) -> Result<Value, ReadError> {
        self.runtime.block_on(read(&*self.backend, path))
    }

    /// What its key `k` is.
    pub(crate) fn value(&self, path: &str) -> Result<String, ReadErrorKind> {
        let read = self.read(path).map_err(|error| error.kind)?;
        Ok(read["k"].as_str().expect("a text").to_owned())
    }

    /// Reads an object so often at the same time.
    pub(crate) fn read_at_once(&self, path: &str, count: usize) -> Vec<Result<Value, ReadError>> {
        let reads = (0..count).map(|_| {
            let (backend, path) = (Arc::clone(&self.backend), path.to_owned());
            self.runtime
                .spawn(async move { read(&*backend, &path).await })
        });
        let reads: Vec<_> = reads.collect();
        let done = reads.into_iter().map(|read| self.runtime.block_on(read));
        done.map(|read| read.expect("no panic")).collect()
    }

    /// Starts to read an object, and gives up as soon as `is_over` says so.
    pub(crate) fn read_and_give_up(&self, path: &str, is_over: impl Fn() -> bool) {
        let (backend, path) = (Arc::clone(&self.backend), path.to_owned());
        let reading = self
            .runtime
            .spawn(async move { read(&*backend, &path).await });
        vaultref_scenarios::wait::until_true(
            "the time to give up",
            vaultref_scenarios::wait::SOON,
            is_over,
        )
        .expect("it comes");
        reading.abort();
    }
}

async fn read(backend: &dyn Backend, path: &str) -> Result<Value, ReadError> {
    let object = backend.object(&Asked::current(path))?;
    let reading = backend.read(&object).await?;
    Ok(serde_json::from_slice(reading.content.expose()).expect("JSON"))
}
