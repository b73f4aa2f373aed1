//! `vaultref get`: one reference, read as the daemon would read it.

use std::borrow::Cow;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use vaultref_contract::wire::{Outcome, SecretValue, encode_reply};

use super::{ConfigFile, Status, output, resolver};
use crate::environment::Environment;
use crate::policy::Access;
use crate::resolver::{MAX_WAIT, Unresolved};

#[derive(Args, Debug)]
pub(super) struct Get {
    /// The reference, such as `{vault://env/test}`, or in short `env/test`
    #[arg(value_name = "REF")]
    reference: String,
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON as the daemon answers it: the value, its revision, its lifetime; or the failure
    #[arg(long)]
    json: bool,
}

impl Get {
    pub(super) async fn run(self, environment: &Arc<Environment>) -> Status {
        let config = match self.config.load(environment) {
            Ok(config) => config,
            Err(error) => {
                output::problem(&error.to_string());
                return Status::Usage;
            }
        };
        let reference = whole(&self.reference);
        let resolver = resolver(config.vaults);
        match resolver.value(&Access::All, &reference, MAX_WAIT).await {
            Ok(value) => self.print(value),
            Err(unresolved) => self.explain(&reference, &unresolved),
        }
    }

    fn print(&self, value: SecretValue) -> Status {
        if self.json {
            return output::bytes(encode_reply(Ok(&[Outcome::Secret(value)])).expose());
        }
        output::bytes(value.value.secret().expose())
    }

    fn explain(&self, reference: &str, unresolved: &Unresolved) -> Status {
        let kind = unresolved.failure.kind;
        output::problem(&format!("{reference}: {kind}: {}", unresolved.cause));
        if self.json {
            output::line(&json!({"results": [{"failure": unresolved.failure}]}).to_string());
        }
        Status::of(kind)
    }
}

/// `env/test` is short for `{vault://env/test}`.
pub(super) fn whole(reference: &str) -> Cow<'_, str> {
    if reference.starts_with('{') {
        return Cow::Borrowed(reference);
    }
    Cow::Owned(format!("{{vault://{reference}}}"))
}
