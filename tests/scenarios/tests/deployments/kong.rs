//! `examples/kong`: its configuration against the schema that Kong reads, and in the harness as Kong.

use anyhow::{Context, Result};
use jsonschema::draft4;
use serde_json::Value;
use vaultref_harness::NginxOptions;

use crate::{Example, VARIABLE, nginx};

#[test]
fn kong_s_schema_takes_the_configuration() -> Result<()> {
    let example = Example::new("kong")?;
    let meta: Value = serde_json::from_str(&example.original("vaultref.meta.json")?)?;
    let members: Vec<_> = meta.as_object().context("an object")?.keys().collect();
    assert_eq!(members, ["config_schema"]);
    let schema = draft4::new(&meta["config_schema"])?;
    let mut configuration = configuration(&example)?;
    assert!(schema.is_valid(&configuration), "{configuration}");
    configuration["resolver"]["upstreams"] = "x".into();
    assert!(!schema.is_valid(&configuration));
    example.check(&["kong.conf", "kong.yml", "vaultref.yaml"])
}

#[test]
fn the_settings_fit_the_filter() -> Result<()> {
    let example = Example::new("kong")?;
    let settings = example.original("kong.conf")?;
    let setting = |name: &str| {
        let mut lines = settings.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.find(|(known, _)| known.trim() == name)?;
        Some(value.split('#').next().unwrap_or_default().trim())
    };
    assert_eq!(setting("wasm"), Some("on"));
    assert_eq!(setting("declarative_config"), Some("kong.yml"));
    assert_eq!(setting("nginx_main_env"), Some(VARIABLE));
    let token = configuration(&example)?["resolver"]["token_env"].take();
    assert_eq!(token, VARIABLE);
    // The module's file has the name by which the chain calls it.
    let folder = setting("wasm_filters_path").context("a folder")?;
    let installed =
        format!("install -D -t {folder} dist/vaultref.wasm examples/kong/vaultref.meta.json\n");
    assert!(example.original("README.md")?.contains(&installed));
    Ok(())
}

#[test]
fn in_the_harness_as_kong_it_does_what_the_readme_says() -> Result<()> {
    let example = Example::new("kong")?;
    example.secret("maps-key", "maps-key")?;
    let configuration = configuration(&example)?.to_string();
    let path = |received: &str| received == "/v1/x?a=1&api_key=maps-key";
    nginx::plays(&example, &configuration, NginxOptions::kong(), path)
}

fn configuration(example: &Example) -> Result<Value> {
    let kong = example.documents("kong.yml")?.swap_remove(0);
    let filter = &kong["services"][0]["filter_chains"][0]["filters"][0];
    assert_eq!(filter["name"], "vaultref");
    Ok(filter["config"].clone())
}
