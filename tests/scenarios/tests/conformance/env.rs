//! `env`: variables of the daemon's environment, which are handed in. There is no server.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use anyhow::Result;
use serde_json::json;

use crate::kit::{Abilities, Config, Fixture, Server};

#[derive(Default)]
struct Variables(BTreeMap<String, Vec<u8>>);

fn fixture() -> Variables {
    Variables::default()
}

impl Fixture for Variables {
    fn backend(&self) -> &'static str {
        "env"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            bytes: true,
            slash: true,
            non_ascii: true,
            versions: true,
            most_bytes: None,
            tls_only: None,
        }
    }

    fn config(&self) -> Config {
        Config {
            fields: json!({ "prefix": "app-" }),
            environment: Vec::new(),
        }
    }

    fn odd_variables(&self) -> Vec<(OsString, OsString)> {
        let variables = self.0.iter();
        let variables = variables.map(|(name, value)| {
            let value = OsString::from_vec(value.clone());
            (name.into(), value)
        });
        variables.collect()
    }

    fn config_at(&self, _server: &Server) -> Option<Config> {
        None
    }

    fn put(&mut self, name: &str, content: &[u8]) -> Result<Option<u64>> {
        if let Some(before) = self.0.insert(variable(name), content.to_vec()) {
            self.0.insert(variable(name) + "_PREVIOUS", before);
        }
        Ok(None)
    }

    fn delete(&mut self, name: &str) -> Result<()> {
        self.0.remove(&variable(name));
        Ok(())
    }

    fn forbid(&mut self, _name: &str) -> Result<bool> {
        Ok(false)
    }

    fn is_live(&self) -> bool {
        false
    }
}

fn variable(name: &str) -> String {
    format!("APP_{}", name.replace('-', "_").to_ascii_uppercase())
}

every_row!(rows: Ok(fixture()), no server);
