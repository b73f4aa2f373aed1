//! `vaultref check`: every reference of some files, and what is wrong with it or around it, in one
//! report. It reads secrets as the daemon would, and tells of none.

mod faults;
mod file;
mod filter;
mod lines;
mod report;
mod tree;
mod vaults;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use vaultref_contract::wire::FailureKind;
use vaultref_filter::Kind as GatewayKind;

use self::faults::is_within;
use self::file::{File, Found};
use self::filter::Gateway;
use self::report::{Finding, Kind, Place, Report, Verdict};
use super::{ConfigFile, Status, output, resolver};
use crate::config::{self, Config};
use crate::environment::Environment;
use crate::policy::Access;
use crate::resolver::{MAX_WAIT, Resolver, Unresolved};

/// How many references are read before it is told how far it has come.
const AT_ONCE: usize = 256;

#[derive(Args, Debug)]
pub(super) struct Check {
    /// Configurations of the filter, of Envoy or of Kong (also kong.conf), vaultref.yaml, files of
    /// variables, texts to render
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    /// Check all that needs no vault
    #[arg(long)]
    offline: bool,
    /// The gateway for which a configuration of the filter is meant, where the file does not tell
    #[arg(long, value_enum, default_value_t = GatewayName::Envoy)]
    gateway: GatewayName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GatewayName {
    Envoy,
    Kong,
}

impl Check {
    pub(super) async fn run(self, environment: &Arc<Environment>) -> Status {
        let mut files: Vec<File> = self.files.iter().map(|path| self.read(path)).collect();
        let vaults = self.vaults(&mut files, environment);
        let report = Report(self.findings(&files, vaults).await);
        report.print(self.json)
    }

    fn read(&self, path: &Path) -> File {
        let name = path.display().to_string();
        let usual = Gateway {
            kind: match self.gateway {
                GatewayName::Envoy => GatewayKind::Envoy,
                GatewayName::Kong => GatewayKind::Nginx,
            },
            variables: None,
        };
        match std::fs::read(path) {
            Ok(bytes) => File::read(name, bytes, &usual),
            Err(error) => File::unreadable(name, format!("it cannot be read: {}", error.kind())),
        }
    }

    /// The vaults that references name: those of `--config`, else of the first file that has some,
    /// else the usual ones. A file that configures vaults is checked as such in any case.
    fn vaults(&self, files: &mut Vec<File>, environment: &Arc<Environment>) -> Used {
        let given = self.config.config.as_deref();
        let is_among = |path: &Path| {
            let real = path.canonicalize().ok();
            let mut paths = self.files.iter();
            paths.position(|file| {
                file == path || (real.is_some() && file.canonicalize().ok() == real)
            })
        };
        let usual = || {
            let has_some = files.iter().position(|file| file.vaults.is_some());
            match has_some {
                Some(index) => Some(Ok(index)),
                None => self.config.path(environment).map(Err),
            }
        };
        let chosen = match given {
            Some(path) => Some(is_among(path).ok_or_else(|| path.to_owned())),
            None => usual(),
        };
        let chosen = match chosen {
            Some(Ok(index)) => Some(index),
            Some(Err(path)) => {
                files.push(self.read(&path));
                Some(files.len() - 1)
            }
            None => None,
        };
        let mut used = match chosen {
            None => Used::without_file(environment),
            Some(_) => Used::default(),
        };
        for (index, file) in files.iter_mut().enumerate() {
            let Some(document) = &file.vaults else {
                continue;
            };
            let examined = vaults::examine(document, environment, self.offline);
            let faults = examined.faults.iter().map(|fault| {
                let place = file.place_in_vaults(&fault.pointer);
                (place, Kind::Vaults, fault.cause.clone())
            });
            let faults: Vec<_> = faults.collect();
            file.faults.extend(faults);
            if chosen == Some(index) {
                used.config = examined.config;
                used.broken = examined.broken;
            }
        }
        used
    }

    async fn findings(&self, files: &[File], used: Used) -> Vec<Finding> {
        let mut findings: Vec<Finding> = used.faults;
        let distinct: BTreeSet<&str> = files
            .iter()
            .flat_map(|file| &file.references)
            .filter(|found| found.literal.is_none())
            .map(|found| found.reference.as_str())
            .collect();
        let verdicts = match used.config {
            Some(config) => {
                let resolver = resolver(config.vaults);
                self.verdicts(&resolver, &used.broken, &distinct).await
            }
            None => BTreeMap::new(),
        };
        for file in files {
            let mut of_file: Vec<Finding> = Vec::new();
            for Found {
                place,
                reference,
                literal,
            } in &file.references
            {
                let verdict = match (literal, verdicts.get(reference.as_str())) {
                    (Some(cause), _) => Verdict::Fault(Kind::Literal, (*cause).to_owned()),
                    (None, Some(judged)) => judged.clone(),
                    (None, None) => Verdict::Fault(
                        Kind::Vaults,
                        "the vaults' configuration has faults".to_owned(),
                    ),
                };
                of_file.push(Finding {
                    place: place.clone(),
                    reference: Some(reference.clone()),
                    verdict,
                });
            }
            let (references, faults) = (&of_file, &file.faults);
            let own = faults
                .iter()
                .filter(|fault| !is_told(references, faults, fault))
                .map(|(place, kind, cause)| Finding {
                    place: place.clone(),
                    reference: None,
                    verdict: Verdict::Fault(*kind, cause.clone()),
                });
            let own: Vec<_> = own.collect();
            of_file.extend(own);
            of_file.sort_by_key(|finding| (finding.place.line, finding.place.column));
            findings.append(&mut of_file);
        }
        findings
    }

    async fn verdicts<'a>(
        &self,
        resolver: &Resolver,
        broken: &BTreeSet<String>,
        references: &BTreeSet<&'a str>,
    ) -> BTreeMap<&'a str, Verdict> {
        let mut verdicts = BTreeMap::new();
        let mut to_read = Vec::new();
        for reference in references {
            let vault = vaultref_contract::Reference::parse(reference);
            let is_broken = vault.is_ok_and(|found| broken.contains(found.vault()));
            let judged = if is_broken {
                Verdict::Fault(
                    Kind::Vaults,
                    "the vault's own configuration has a fault".to_owned(),
                )
            } else {
                match resolver.examine(&Access::All, reference) {
                    Ok(()) if self.offline => Verdict::Unchecked,
                    Ok(()) => {
                        to_read.push(*reference);
                        continue;
                    }
                    Err(unresolved) => of_failure(unresolved),
                }
            };
            verdicts.insert(*reference, judged);
        }
        for (index, chunk) in to_read.chunks(AT_ONCE).enumerate() {
            let references = chunk.iter().map(|&text| text.to_owned()).collect();
            let values = resolver.values(&Access::All, references, MAX_WAIT).await;
            for (reference, value) in chunk.iter().zip(values) {
                let judged = value.map_or_else(of_failure, |_| Verdict::Fine);
                verdicts.insert(*reference, judged);
            }
            let read = index * AT_ONCE + chunk.len();
            if to_read.len() > AT_ONCE {
                output::progress(&format!("read {read} of {} references", to_read.len()));
            }
        }
        verdicts
    }
}

fn of_failure(unresolved: Unresolved) -> Verdict {
    Verdict::Fault(
        Kind::Failure(unresolved.failure.kind),
        unresolved.cause.into_owned(),
    )
}

/// Whether a fault of a configuration is only another word for what is told of a reference there.
fn is_told(
    findings: &[Finding],
    faults: &[(Place, Kind, String)],
    (place, kind, cause): &(Place, Kind, String),
) -> bool {
    let is_here = |other: &Place| is_within(&other.pointer, &place.pointer);
    match kind {
        Kind::Configuration | Kind::Vaults if !place.pointer.is_empty() => {
            let misread = Kind::Failure(FailureKind::InvalidReference);
            let mut faults = faults.iter();
            let is_misread = faults
                .any(|(other, kind, words)| *kind == misread && words == cause && is_here(other));
            // A vault that is not there, or not as it should be, is told of where it is referred to.
            let unknown = Kind::Failure(FailureKind::UnknownVault);
            let is_about_vault = |finding: &Finding| match finding.verdict {
                Verdict::Fault(kind, _) => kind == unknown || kind == Kind::Vaults,
                Verdict::Fine | Verdict::Unchecked => false,
            };
            let mut here = findings.iter().filter(|finding| is_here(&finding.place));
            is_misread || (*kind == Kind::Vaults && here.any(is_about_vault))
        }
        _ => false,
    }
}

/// The vaults that are used.
#[derive(Default)]
struct Used {
    config: Option<Config>,
    broken: BTreeSet<String>,
    faults: Vec<Finding>,
}

impl Used {
    fn without_file(environment: &Arc<Environment>) -> Self {
        match config::without_file(environment) {
            Ok(config) => Self {
                config: Some(config),
                ..Self::default()
            },
            Err(error) => {
                let place = Place {
                    file: "environment".to_owned(),
                    line: None,
                    column: None,
                    pointer: format!("/{}", error.place()),
                };
                let cause = error.problem().to_owned();
                let finding = Finding {
                    place,
                    reference: None,
                    verdict: Verdict::Fault(Kind::Vaults, cause),
                };
                Self {
                    faults: vec![finding],
                    ..Self::default()
                }
            }
        }
    }
}
