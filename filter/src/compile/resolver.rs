//! Whom to ask: what a gateway can reach, and with which token.

use vaultref_contract::Secret;

use super::Variables;
use super::{Kind, Resolver, Target};
use crate::config::{ConfigError, ResolverConfig};

const DEFAULT_TIMEOUT: u32 = 1000;
const LONGEST_TIMEOUT: u64 = 60_000;

/// Makes sense of what stands at `place`.
pub(crate) fn resolver(
    place: &str,
    config: ResolverConfig,
    kind: Kind,
    host: &impl Variables,
) -> Result<Resolver, ConfigError> {
    let at = |name: &str| [place, "/", name].concat();
    let target = match (config.upstream, config.host_function) {
        (Some(upstream), false) => {
            check_upstream(&at("upstream"), &upstream, kind)?;
            Target::Upstream(upstream)
        }
        (None, true) => Target::HostFunction,
        _ => {
            let message = "exactly one of 'upstream' and 'host_function: true' must be given";
            return Err(ConfigError::new(place, message));
        }
    };
    let timeout = match config.timeout_ms {
        None => DEFAULT_TIMEOUT,
        Some(given) => u32::try_from(given)
            .ok()
            .filter(|_| (1..=LONGEST_TIMEOUT).contains(&given))
            .ok_or_else(|| {
                ConfigError::new(at("timeout_ms"), "must be from 1 to 60000 milliseconds")
            })?,
    };
    let authorization = config
        .token_env
        .map(|name| token(&at("token_env"), &name, &target, host))
        .transpose()?;
    Ok(Resolver {
        target,
        timeout,
        authorization,
    })
}

/// nginx ends the worker for some texts that are no address.
fn check_upstream(place: &str, upstream: &str, kind: Kind) -> Result<(), ConfigError> {
    let plain = upstream.bytes().all(|byte| byte.is_ascii_graphic());
    if upstream.is_empty() || !plain {
        return Err(ConfigError::new(place, "must name a cluster or an address"));
    }
    if kind == Kind::Envoy {
        return Ok(());
    }
    if let Some(path) = upstream.strip_prefix("unix:") {
        return if path.starts_with('/') {
            Ok(())
        } else {
            Err(ConfigError::new(
                place,
                "'unix:' is followed by an absolute path",
            ))
        };
    }
    if upstream.contains('/') {
        let message = "nginx takes 'host:port' or 'unix:/path' here, no URL";
        return Err(ConfigError::new(place, message));
    }
    let port = upstream.rsplit_once(':').map(|(_, port)| port);
    let in_brackets = upstream.ends_with(']');
    match port {
        Some(port) if !in_brackets && port.parse::<u16>().is_err() => Err(ConfigError::new(
            place,
            "the port must be a number up to 65535",
        )),
        _ => Ok(()),
    }
}

fn token(
    place: &str,
    name: &str,
    target: &Target,
    host: &impl Variables,
) -> Result<Secret, ConfigError> {
    if *target == Target::HostFunction {
        let message = "a host function takes no token: the host knows who calls";
        return Err(ConfigError::new(place, message));
    }
    let usable = !name.is_empty() && !name.contains(['=', '\0']);
    let value = usable.then(|| host.variable(name)).flatten();
    let Some(value) = value.map(Secret::from) else {
        let message = format!("the environment variable '{name}' is not visible to the filter");
        return Err(ConfigError::new(place, message));
    };
    let text = value.expose().trim_ascii();
    if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
        let message = format!("the environment variable '{name}' does not hold a token");
        return Err(ConfigError::new(place, message));
    }
    Ok(Secret::new([b"Bearer ", text].concat()))
}
