//! The process environment as data that is handed in.
//!
//! It exists so that nothing below `main` reads `std::env`: tests give their own variables, and no
//! library that is called can be steered by a variable that nobody meant. Values are secrets here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;

use vaultref_contract::Secret;

/// Environment variables by name.
#[derive(Debug, Default)]
pub struct Environment(BTreeMap<OsString, Secret>);

impl Environment {
    /// Takes variables as `std::env::vars_os` gives them.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name, Secret::new(value.into_vec())));
        Self(variables.collect())
    }

    /// All variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &Secret)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// The value of one variable.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Secret> {
        self.0.get(OsStr::new(name))
    }

    /// The variables whose names start with `prefix`, in alphabetical order, without the prefix.
    pub fn starting_with<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Secret)> {
        self.0
            .iter()
            .filter_map(move |(name, value)| Some((name.to_str()?.strip_prefix(prefix)?, value)))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self::new(variables.map(|(name, value)| (name.into(), value.into())))
    }
}
