//! The logins that no real server of ours has (Google's, Azure's, Amazon's), against fakes that hold
//! to what is documented. Those that OpenBao has are in `tests/scenarios/tests/hcv`.

mod aws;
mod azure;
mod fake;
mod fields;
mod gcp;
