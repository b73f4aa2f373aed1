//! `vaultref schema`: what a configuration of the filter may look like, for editors and control planes.

use clap::Args;
use serde_json::Value;

use super::{Status, output};

#[derive(Args, Debug)]
pub(super) struct Schema {
    /// As Kong wants it beside the module, in vaultref.meta.json
    #[arg(long)]
    kong: bool,
}

impl Schema {
    pub(super) fn run(self) -> Status {
        let schema: Value = if self.kong {
            vaultref_filter::schema::kong()
        } else {
            vaultref_filter::schema::configuration()
        };
        output::line(&format!("{schema:#}"))
    }
}
