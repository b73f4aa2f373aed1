//! What the two halves of Vaultref agree on: how a reference is written, how references stand in
//! longer texts and documents, and what guest and host say to each other.
//!
//! The crate does no I/O and knows no gateway and no backend, so that it runs in the guest as well
//! as in the host. The types of [`wire`] are written by hand after `vaultref.wit` (generated ones
//! would print secrets in `Debug` and clone them); a test reads the WIT and fails when they differ.
//!
//! ```
//! use vaultref_contract::{Part, Template};
//!
//! let template = Template::parse("Bearer {vault://payments/stripe/token}")?;
//! let Part::Reference(found) = &template.parts()[1] else { unreachable!() };
//! assert_eq!(found.reference().vault(), "payments");
//! assert_eq!(found.reference().resource(), "stripe");
//! assert_eq!(found.reference().key(), Some("token"));
//! # Ok::<(), vaultref_contract::TextError>(())
//! ```

#![forbid(unsafe_code)]

mod document;
mod reference;
mod secret;
mod text;
pub mod wire;

pub use document::{DocumentError, Found, Walk, references_in};
pub use reference::{
    MAX_REFERENCE_BYTES, OptionValue, Options, Reference, ReferenceError, ReferenceErrorKind,
};
pub use secret::Secret;
pub use text::{Part, ReferenceText, Scan, Scanned, Template, TextError, TextErrorKind};
