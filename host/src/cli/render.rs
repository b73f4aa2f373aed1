//! `vaultref render`: a text with values in the place of its references.
//!
//! All of it or nothing: while a reference has no value, nothing is written, neither to stdout nor
//! over a file that is there.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use vaultref_contract::Secret;
use zeroize::Zeroizing;

use super::text::Text;
use super::values::{Report, Values};
use super::{ConfigFile, Status, files, output, resolver};
use crate::environment::Environment;

#[derive(Args, Debug)]
pub(super) struct Render {
    /// The text with references; `-` reads stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write to this file, as a whole or not at all, readable by its owner only [default: stdout]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

impl Render {
    pub(super) async fn run(self, environment: &Arc<Environment>) -> Status {
        let config = match self.config.load(environment) {
            Ok(config) => config,
            Err(error) => {
                output::problem(&error.to_string());
                return Status::Usage;
            }
        };
        let source = match read(&self.file) {
            Ok(source) => source,
            Err(error) => {
                let name = self.file.display();
                output::problem(&format!("{name}: cannot be read: {}", error.kind()));
                return Status::Usage;
            }
        };
        let rendered = match rendered(&source, &self.name(), &resolver(config.vaults)).await {
            Ok(rendered) => rendered,
            Err(report) => return report.print("nothing was rendered"),
        };
        let Some(target) = &self.output else {
            return output::bytes(rendered.expose());
        };
        match files::replace(target, rendered.expose()) {
            Ok(()) => Status::Ok,
            Err(error) => {
                let name = target.display();
                output::problem(&format!("{name}: cannot be written: {}", error.kind()));
                Status::Internal
            }
        }
    }

    fn name(&self) -> String {
        if self.file == Path::new("-") {
            return "stdin".to_owned();
        }
        self.file.display().to_string()
    }
}

fn read(file: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    if file != Path::new("-") {
        return std::fs::read(file).map(Zeroizing::new);
    }
    let mut bytes = Zeroizing::new(Vec::new());
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

async fn rendered(
    source: &[u8],
    name: &str,
    resolver: &crate::resolver::Resolver,
) -> Result<Secret, Report> {
    let mut report = Report::default();
    let text = match Text::parse(source) {
        Ok(text) => text,
        Err(misread) => {
            for misread in &misread {
                let line = line_of(source, misread.offset);
                report.misread(&format!("{name}:{line}"), misread);
            }
            return Err(report);
        }
    };
    let values = Values::read(resolver, text.references()).await;
    for (offset, reference) in text.places() {
        if let Err(cause) = values.value(reference) {
            let place = format!("{name}:{}", line_of(source, offset));
            report.unresolved(&place, reference, &cause);
        }
    }
    text.filled(|reference| values.value(reference).ok())
        .ok_or(report)
}

fn line_of(source: &[u8], offset: usize) -> usize {
    let before = source.iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}
