//! Which variables get what.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use vaultref_contract::{ReferenceText, Secret};

use super::super::Status;
use super::super::text::Text;
use super::super::values::{Report, Values};
use crate::backend::KINDS;
use crate::environment::Environment;

/// What a Kong setting's value is called for Kong's own `env` vault. No backend is called `kong`, so
/// it is no field of a vault of ours; and it does not begin with `KONG_`, so Kong takes it for no
/// setting.
const FOR_KONG: &str = "VAULTREF_";

/// The variables that change.
#[derive(Debug)]
pub(super) struct Plan(Vec<Planned>);

#[derive(Debug)]
struct Planned {
    name: OsString,
    text: Text,
    into: Into,
}

/// Where a value goes.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Into {
    /// Into a file whose path the variable gets.
    File,
    /// Into another variable, to which the variable gets a reference.
    Other { name: String, reference: String },
    /// Into the variable.
    Same,
}

/// The variables and files with their values.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub(super) files: Vec<(OsString, Secret)>,
    pub(super) variables: Vec<(OsString, Secret)>,
}

impl Plan {
    /// Looks for references in all variables, except in those that configure us.
    ///
    /// # Errors
    /// All that cannot be read, and names of files that are no variables.
    pub(super) fn new(
        environment: &Environment,
        files: &[String],
        for_kong: bool,
    ) -> Result<Self, Report> {
        let mut report = Report::default();
        let mut planned = Vec::new();
        for file in files {
            if environment.value(file).is_none() {
                let problem = "there is no such variable, so it cannot be put into a file";
                report.other(file, Status::Usage, problem);
            }
        }
        for (name, value) in environment.iter() {
            let is_file = files.iter().any(|file| name == OsStr::new(file));
            if !is_file && (configures_us(name) || !mentions_references(value)) {
                continue;
            }
            match Text::parse(value.expose()) {
                Ok(text) => {
                    let into = if is_file {
                        Into::File
                    } else if for_kong && is_setting_of_kong(name) {
                        match for_kong_itself(name, &text, environment) {
                            Some(into) => into,
                            None => continue,
                        }
                    } else {
                        Into::Same
                    };
                    if let Into::Other { name: other, .. } = &into
                        && environment.value(other).is_some()
                    {
                        let problem = format!("its value would be put into {other}, which is set");
                        report.other(&name.to_string_lossy(), Status::Usage, &problem);
                    }
                    // (The literal text that doubled braces stand for is a change as well.)
                    planned.push(Planned {
                        name: name.to_owned(),
                        text,
                        into,
                    });
                }
                Err(misread) => {
                    for misread in &misread {
                        report.misread(&name.to_string_lossy(), misread);
                    }
                }
            }
        }
        if report.is_empty() {
            Ok(Self(planned))
        } else {
            Err(report)
        }
    }

    /// The references of all variables.
    pub(super) fn references(&self) -> impl Iterator<Item = &ReferenceText> {
        self.0.iter().flat_map(|planned| planned.text.references())
    }

    /// The variables with their values.
    ///
    /// # Errors
    /// All references that have no value, and values that no variable can hold.
    pub(super) fn filled(&self, values: &Values) -> Result<Filled, Report> {
        let mut report = Report::default();
        let mut filled = Filled::default();
        for planned in &self.0 {
            let name = planned.name.to_string_lossy();
            for reference in planned.text.references() {
                match values.value(reference) {
                    Ok(value) if planned.into != Into::File && value.expose().contains(&0) => {
                        let problem = format!(
                            "{}: wrong-type: the value holds NUL, which no variable can; --file can",
                            reference.as_str()
                        );
                        report.other(&name, Status::NotFound, &problem);
                    }
                    Ok(_) => {}
                    Err(cause) => report.unresolved(&name, reference, &cause),
                }
            }
            let Some(value) = planned
                .text
                .filled(|reference| values.value(reference).ok())
            else {
                continue;
            };
            match &planned.into {
                Into::File => filled.files.push((planned.name.clone(), value)),
                Into::Other {
                    name: other,
                    reference,
                } => {
                    let reference = Secret::from(reference.clone());
                    filled.variables.push((planned.name.clone(), reference));
                    filled.variables.push((other.into(), value));
                }
                Into::Same => filled.variables.push((planned.name.clone(), value)),
            }
        }
        if report.is_empty() {
            Ok(filled)
        } else {
            Err(report)
        }
    }
}

fn mentions_references(value: &Secret) -> bool {
    value.expose().windows(9).any(|bytes| bytes == b"{vault://")
}

/// Fields of vaults stay as they are: what they refer to is for us, not for the command.
fn configures_us(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let rest = name
        .strip_prefix("VAULTREF_")
        .or_else(|| name.strip_prefix("KONG_VAULT_"));
    let of_backend = |rest: &str| {
        KINDS.iter().any(|kind| {
            let upper = kind.name.replace('-', "_").to_ascii_uppercase();
            rest.strip_prefix(&upper)
                .is_some_and(|field| field.starts_with('_'))
        })
    };
    name == "VAULTREF_CONFIG" || rest.is_some_and(of_backend)
}

fn is_setting_of_kong(name: &OsStr) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    name.as_bytes()
        .strip_prefix(b"KONG_")
        .is_some_and(|rest| !rest.is_empty() && rest.iter().all(allowed))
}

/// Kong writes plain settings to its disk but not references, and takes a reference only where it
/// is all there is. One to its own `env` vault is left to it.
fn for_kong_itself(name: &OsStr, text: &Text, environment: &Environment) -> Option<Into> {
    let to_env = |reference: &ReferenceText| reference.reference().vault() == "env";
    if text.whole().is_some_and(to_env) {
        return None;
    }
    if !text.has_references() {
        // Doubled braces: a literal that may be a reference for Kong.
        return Some(Into::Same);
    }
    let setting = name.to_string_lossy();
    let prefix = environment
        .value("KONG_VAULT_ENV_PREFIX")
        .and_then(Secret::expose_text)
        .unwrap_or_default();
    let prefix = prefix.replace('-', "_").to_ascii_uppercase();
    let resource = format!("{FOR_KONG}{setting}")
        .to_ascii_lowercase()
        .replace('_', "-");
    Some(Into::Other {
        name: format!("{prefix}{FOR_KONG}{setting}"),
        reference: format!("{{vault://env/{resource}}}"),
    })
}

#[cfg(test)]
mod tests;
