//! The life of a value with a real gateway under load: outages, refusals, rotations, restarts and
//! limits; what requests carry meanwhile, and that none is lost while there is a value that may be
//! used.
//!
//! With `--nocapture` each scenario prints what it saw: the table in host/docs/life.md.

mod bed;
mod gateways;
mod limits;
mod machine;
mod outages;
mod refusals;
mod restarts;
mod rotation;
mod stop;
mod wiped;
