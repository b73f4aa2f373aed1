//! Guests that are components, as `make guests` leaves them: core modules, made into components here.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use wit_component::ComponentEncoder;

/// The component of a module that has the WIT of its world in it, as `wit-bindgen` leaves it there.
///
/// # Errors
///
/// When it cannot be read, or imports what its world does not.
pub fn of_module(file: &Path) -> Result<Vec<u8>> {
    let module = fs::read(file)?;
    let mut encoder = ComponentEncoder::default().module(&module)?.validate(true);
    encoder
        .encode()
        .with_context(|| format!("making a component of {}", file.display()))
}
