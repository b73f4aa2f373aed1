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
use vaultref_contract::Reference;
use vaultref_contract::wire::FailureKind;
use vaultref_filter::{Callbacks, Kind as GatewayKind};

use self::faults::is_within;
use self::file::{File, Found};
use self::filter::Gateway;
use self::report::{Finding, Kind, Place, Report, Verdict};
use super::{ConfigFile, Status, output, resolver};
use crate::config;
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
            callbacks: Callbacks::Every,
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

    /// The vaults of all files that have some; each such file is checked as the resolver's
    /// configuration, too.
    fn vaults(&self, files: &mut Vec<File>, environment: &Arc<Environment>) -> Vaults {
        let main = self.main(files, environment);
        let mut vaults = Vaults::default();
        for (index, file) in files.iter_mut().enumerate() {
            let Some(document) = &file.vaults else {
                continue;
            };
            let examined = vaults::examine(document, environment, self.offline);
            let faults: Vec<_> = examined
                .faults
                .iter()
                .map(|fault| {
                    let place = file.place_in_vaults(fault);
                    (place, Kind::Vaults, fault.cause.clone())
                })
                .collect();
            file.faults.extend(faults);
            if main == Some(index) || file.is_kong {
                let used = Used {
                    resolver: examined.config.map(|config| resolver(config.vaults)),
                    broken: examined.broken,
                    foreign: examined.foreign,
                };
                vaults.used.insert(Source::File(index), used);
            }
        }
        match main {
            Some(index) => vaults.main = Source::File(index),
            None => vaults.add_environment(environment),
        }
        vaults
    }

    /// The file whose vaults references name: that of `--config`, else the first that is a
    /// `vaultref.yaml`, else the usual one, else Kong's first.
    fn main(&self, files: &mut Vec<File>, environment: &Environment) -> Option<usize> {
        let is_ours = |file: &File| file.vaults.is_some() && !file.is_kong;
        let ours = files.iter().position(is_ours);
        let path = match (&self.config.config, ours) {
            (None, Some(index)) => return Some(index),
            _ => self.config.path(environment),
        };
        let Some(path) = path else {
            return files.iter().position(|file| file.vaults.is_some());
        };
        let real = path.canonicalize().ok();
        let is_it =
            |file: &PathBuf| *file == path || (real.is_some() && file.canonicalize().ok() == real);
        Some(self.files.iter().position(is_it).unwrap_or_else(|| {
            files.push(self.read(&path));
            files.len() - 1
        }))
    }

    async fn findings(&self, files: &[File], mut vaults: Vaults) -> Vec<Finding> {
        let mut wanted: BTreeMap<Source, BTreeSet<&str>> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            for found in file
                .references
                .iter()
                .filter(|found| found.literal.is_none())
            {
                let references = wanted.entry(vaults.source(index, file, found)).or_default();
                references.insert(found.reference.as_str());
            }
        }
        let mut verdicts = BTreeMap::new();
        for (source, references) in &wanted {
            if let Some(used) = vaults.used.get(source) {
                verdicts.insert(*source, self.verdicts(used, references).await);
            }
        }
        let mut findings = std::mem::take(&mut vaults.findings);
        for (index, file) in files.iter().enumerate() {
            let references = file.references.iter().map(|found| {
                let verdict = match found.literal {
                    Some(cause) => Verdict::Fault(Kind::Literal, cause.to_owned()),
                    None => verdicts
                        .get(&vaults.source(index, file, found))
                        .and_then(|verdicts| verdicts.get(found.reference.as_str()).cloned())
                        .unwrap_or_else(|| unusable("the vaults' configuration has faults")),
                };
                Finding {
                    place: found.place.clone(),
                    reference: Some(found.reference.clone()),
                    verdict,
                }
            });
            let mut of_file: Vec<Finding> = references.collect();
            let own = file
                .faults
                .iter()
                .filter(|fault| !is_told(&of_file, &file.faults, fault))
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
        used: &Used,
        references: &BTreeSet<&'a str>,
    ) -> BTreeMap<&'a str, Verdict> {
        let mut verdicts = BTreeMap::new();
        let Some(resolver) = &used.resolver else {
            return verdicts;
        };
        let mut to_read = Vec::new();
        for reference in references {
            let parsed = Reference::parse(reference);
            let vault = parsed.as_ref().map(Reference::vault).unwrap_or_default();
            let verdict = match resolver.examine(&Access::All, reference) {
                _ if used.broken.contains(vault) => {
                    unusable("the vault's own configuration has a fault")
                }
                _ if used.foreign.contains(vault) => Verdict::Unchecked,
                Ok(()) if self.offline => Verdict::Unchecked,
                // What it becomes is known only with a request.
                Ok(()) if reference.contains("$(") => Verdict::Unchecked,
                Ok(()) => {
                    to_read.push(*reference);
                    continue;
                }
                Err(unresolved) => of_failure(unresolved),
            };
            verdicts.insert(*reference, verdict);
        }
        for (index, chunk) in to_read.chunks(AT_ONCE).enumerate() {
            let references = chunk.iter().map(|&text| text.to_owned()).collect();
            let values = resolver.values(&Access::All, references, MAX_WAIT).await;
            for (reference, value) in chunk.iter().zip(values) {
                let verdict = value.map_or_else(of_failure, |_| Verdict::Fine);
                verdicts.insert(*reference, verdict);
            }
            let read = index * AT_ONCE + chunk.len();
            if to_read.len() > AT_ONCE {
                output::progress(&format!("read {read} of {} references", to_read.len()));
            }
        }
        if to_read.len() > AT_ONCE {
            output::progress("");
        }
        verdicts
    }
}

fn unusable(cause: &str) -> Verdict {
    Verdict::Fault(Kind::Vaults, cause.to_owned())
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
            let is_unknown = *kind == Kind::Vaults && cause.contains("unknown");
            let is_about_vault = |finding: &Finding| match finding.verdict {
                Verdict::Fault(kind, _) => kind == unknown || kind == Kind::Vaults,
                Verdict::Fine | Verdict::Unchecked => false,
            };
            let mut here = findings.iter().filter(|finding| is_here(&finding.place));
            is_misread || (is_unknown && here.any(is_about_vault))
        }
        _ => false,
    }
}

/// Where vaults are configured.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
enum Source {
    /// In variables only.
    #[default]
    Environment,
    /// In the file of this index.
    File(usize),
}

/// The vaults of a source.
struct Used {
    /// None if they cannot be used at all.
    resolver: Option<Resolver>,
    /// Those that must not be asked.
    broken: BTreeSet<String>,
    /// Those of which nothing can be said here.
    foreign: BTreeSet<String>,
}

/// The vaults that references can name.
#[derive(Default)]
struct Vaults {
    main: Source,
    used: BTreeMap<Source, Used>,
    /// What is wrong with the variables.
    findings: Vec<Finding>,
}

impl Vaults {
    /// Kong looks into its own file first.
    fn source(&self, index: usize, file: &File, found: &Found) -> Source {
        let name = found.reference.reference().vault();
        let is_listed = |vaults| vaults::lists(vaults, name);
        if file.is_kong && file.vaults.as_ref().is_some_and(is_listed) {
            return Source::File(index);
        }
        self.main
    }

    fn add_environment(&mut self, environment: &Arc<Environment>) {
        let config = match config::without_file(environment) {
            Ok(config) => config,
            Err(error) => {
                let place = Place {
                    file: "environment".to_owned(),
                    line: None,
                    column: None,
                    pointer: format!("/{}", error.place()),
                };
                self.findings.push(Finding {
                    place,
                    reference: None,
                    verdict: unusable(error.problem()),
                });
                return;
            }
        };
        let used = Used {
            resolver: Some(resolver(config.vaults)),
            broken: BTreeSet::new(),
            foreign: BTreeSet::new(),
        };
        self.used.insert(Source::Environment, used);
    }
}
