//! `make demo` and `make demo-envoy`: the main job, before and after. What the client sent, what the
//! upstream got; then the secret changes; then one that cannot be read.
//!
//! It prints secrets, since showing where they arrive is its purpose; they are its own.
#![allow(clippy::print_stdout, reason = "a demonstration prints")]

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::upstream::Received;
use vaultref_scenarios::world::{Kind, Plan, World};

/// Shows a request leave a gateway with its secret.
#[derive(Parser)]
struct Arguments {
    /// Through a real Envoy with secrets from a real OpenBao, in place of the wasmtime harness with
    /// files.
    #[arg(long)]
    envoy: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let stage = if arguments.envoy {
        Stage::with_openbao()?
    } else {
        Stage::with_files()?
    };
    stage.play()
}

/// Where the demonstration's secret is kept, and how it is changed.
struct Stage {
    plan: Plan,
    title: &'static str,
    vaults: &'static str,
    filter: Value,
    token: &'static str,
    bao: Option<OpenBao>,
}

impl Stage {
    fn with_files() -> Result<Self> {
        let filter = filter("files");
        let plan = Plan::new(Kind::HarnessEnvoy, filter.clone())
            .file("stripe", object("sk_live_first"))
            .env("MAPS_KEY", "maps key & more");
        Ok(Self {
            plan,
            title: "the filter in the wasmtime harness, the daemon with `env` and `fs` vaults",
            vaults: "env (environment variables), files (fs: one file a secret, ttl 1 s)",
            filter,
            token: "files/stripe/token",
            bao: None,
        })
    }

    fn with_openbao() -> Result<Self> {
        let bao = OpenBao::start()?;
        bao.put(KV2_MOUNT, "stripe", &json!({ "token": "sk_live_first" }))?;
        let reader = bao.create_reader("edge", &["secret/data"])?;
        let mut config = bao.vault_config(KV2_MOUNT, "v2", &reader);
        config["ttl"] = json!(1);
        let filter = filter("payments");
        let plan = Plan::new(Kind::Envoy, filter.clone())
            .vault(json!({ "name": "hcv", "prefix": "payments", "config": config }))
            .env("MAPS_KEY", "maps key & more");
        Ok(Self {
            plan,
            title: "the filter in a real Envoy with two workers, the daemon with a real OpenBao",
            vaults: "env (environment variables), payments (hcv: OpenBao, KV v2, ttl 1 s)",
            filter,
            token: "payments/stripe/token",
            bao: Some(bao),
        })
    }

    fn play(self) -> Result<()> {
        println!("Vaultref: {}\n", self.title);
        println!("vaults of the daemon:  {}", self.vaults);
        println!("rules of the filter:\n{}\n", rules(&self.filter));
        let Self {
            plan, token, bao, ..
        } = self;
        let mut world = plan.quiet().start()?;

        let request = Request::get("/v1/charges?size=2")
            .header("host", "api.example.com")
            .header("authorization", "Bearer what-the-client-has");
        println!("1. A request\n");
        show_sent(&request);
        let got = world.send(&request)?.upstream()?;
        show_got(&got);
        ensure!(got.header("authorization").as_deref() == Some("Bearer sk_live_first"));

        println!("2. The secret changes; the gateway's configuration does not\n");
        let start = Instant::now();
        if let Some(bao) = &bao {
            bao.put(KV2_MOUNT, "stripe", &json!({ "token": "sk_live_second" }))?;
        } else {
            world.write_secret("stripe", object("sk_live_second"))?;
        }
        let seen = world.eventually("the new secret", &request, |seen| {
            seen.has_authorization("Bearer sk_live_second")
        })?;
        let took = start.elapsed();
        let got = seen.upstream()?;
        show_got(&got);
        let seen_by = match &bao {
            Some(_) => "ttl 1 s",
            None => "the daemon is told of changed files",
        };
        println!(
            "   {:.1} s after the change ({seen_by}, and the filter asks each 0.8 s)\n",
            took.as_secs_f32()
        );

        println!("3. A reference that cannot be resolved\n");
        let request = Request::get("/refunds")
            .header("host", "api.example.com")
            .header("authorization", "Bearer what-the-client-has");
        show_sent(&request);
        let response = world.send(&request)?.local()?;
        println!(
            "   the upstream got   nothing\n   the client got     {} {}",
            response.status,
            response.text().trim()
        );
        ensure!(
            response.status == 503,
            "a request without its secret must be refused"
        );
        ensure!(
            !response.dump().contains("vault"),
            "the answer names no reference"
        );
        println!("   the filter logged  {}\n", last_failure(&world)?);

        for value in ["sk_live", "maps key"] {
            ensure!(
                !world.log().contains(value),
                "a value of {token} was logged"
            );
        }
        println!("None of the values stands in what gateway and daemon have logged.");
        Ok(())
    }
}

fn filter(vault: &str) -> Value {
    let token = |object: &str| format!("Bearer {{vault://{vault}/{object}/token}}");
    json!({ "rules": [
        {
            "match": { "path_prefix": "/v1", "host": ["api.example.com"] },
            "request": {
                "set": { "headers": { "authorization": token("stripe") } },
                "add": { "querystring": { "key": "{vault://env/maps-key}" } },
            },
        },
        {
            "match": { "path_prefix": "/refunds" },
            "request": { "set": { "headers": { "authorization": token("no-such-object") } } },
        },
    ]})
}

fn object(token: &str) -> String {
    json!({ "token": token }).to_string()
}

fn show_sent(request: &Request) {
    let path = String::from_utf8_lossy(request.path());
    println!("   the client sent    {} {path}", request.method());
    for (name, value) in request
        .headers()
        .iter()
        .filter(|(name, _)| name == b"authorization")
    {
        let (name, value) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        println!("                      {name}: {value}");
    }
}

fn show_got(got: &Received) {
    println!("   the upstream got   {} {}", got.method, got.path);
    for value in got.header_values("authorization") {
        println!("                      authorization: {value}");
    }
    println!();
}

fn last_failure(world: &World) -> Result<String> {
    let log = world.log();
    let line = log
        .lines()
        .find(|line| line.contains("no value for"))
        .context("a line in the log")?;
    // Envoy puts time, thread and place before the filter's own text.
    let at = line.find("rule ").unwrap_or_default();
    Ok(line[at..].to_owned())
}

/// A line for what a rule matches on, and a line for each thing that it does.
fn rules(filter: &Value) -> String {
    let mut lines = String::new();
    for rule in filter["rules"].as_array().into_iter().flatten() {
        lines.push_str(&format!("   match    {}\n", rule["match"]));
        for (verb, fields) in rule["request"].as_object().into_iter().flatten() {
            lines.push_str(&format!("   {verb:8} {fields}\n"));
        }
    }
    lines.trim_end().to_owned()
}
