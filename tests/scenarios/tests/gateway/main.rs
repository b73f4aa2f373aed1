//! What a request carries when it leaves the gateway: the same scenarios in a real Envoy and in the
//! harness as Envoy and as nginx, each with the real daemon beside it.

mod bad_input;
mod bodies;
mod body_references;
mod closed;
mod dynamic;
mod faults;
mod host_function;
mod kong;
mod leaks;
mod life;
mod matching;
mod metrics;
mod other_filters;
mod reconfigured;
mod responses;
mod rules;
mod traps;
mod values;

/// Makes a test of each scenario in each kind of gateway.
macro_rules! in_every_gateway {
    ($($scenario:ident),+ $(,)?) => {
        mod envoy {
            $(#[test]
            fn $scenario() -> anyhow::Result<()> {
                super::$scenario(vaultref_scenarios::world::Kind::Envoy)
            })+
        }
        mod harness_as_envoy {
            $(#[test]
            fn $scenario() -> anyhow::Result<()> {
                super::$scenario(vaultref_scenarios::world::Kind::HarnessEnvoy)
            })+
        }
        mod harness_as_nginx {
            $(#[test]
            fn $scenario() -> anyhow::Result<()> {
                super::$scenario(vaultref_scenarios::world::Kind::HarnessNginx)
            })+
        }
    };
}
pub(crate) use in_every_gateway;

/// Makes a test of each scenario in both profiles of the harness, for what only the harness can do.
macro_rules! in_both_profiles {
    ($($scenario:ident),+ $(,)?) => {
        mod profile_envoy {
            $(#[test]
            fn $scenario() -> anyhow::Result<()> {
                super::$scenario(vaultref_scenarios::world::Kind::HarnessEnvoy)
            })+
        }
        mod profile_nginx {
            $(#[test]
            fn $scenario() -> anyhow::Result<()> {
                super::$scenario(vaultref_scenarios::world::Kind::HarnessNginx)
            })+
        }
    };
}
pub(crate) use in_both_profiles;
