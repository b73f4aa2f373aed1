//! Which rule a request is for.

use super::Refusal;
use super::roots::Ready;
use crate::Host;
use crate::compile::Kind;
use crate::matching::Facts;
use crate::slot::Slot;

/// The rule for the current request; none if it is for no rule.
pub(super) fn choose<'a, H: Host>(
    host: &H,
    kind: Kind,
    ready: &'a Ready,
) -> Result<Option<&'a Slot>, Refusal> {
    let mut facts = Facts::new(host, kind);
    if kind == Kind::Nginx {
        for name in &ready.matched_headers {
            if facts.is_repeated(name)? {
                return Err(Refusal::Ambiguous);
            }
        }
    }
    if ready.looks_at.path || ready.looks_at.query {
        facts.read_target()?;
        let is_clear = !ready.looks_at.path || facts.judge_path();
        let mut slots = ready.slots.iter();
        if !is_clear || slots.any(|slot| slot.rule.matcher.is_ambiguous(&facts)) {
            return Err(Refusal::Ambiguous);
        }
    }
    for slot in &ready.slots {
        if !slot.rule.matcher.takes_all() && !slot.rule.matcher.matches(&mut facts)? {
            continue;
        }
        if kind == Kind::Nginx {
            // There a header that comes twice is overwritten only once.
            for write in &slot.rule.headers {
                if facts.is_repeated(&write.name)? {
                    return Err(Refusal::Ambiguous);
                }
            }
        }
        return Ok(Some(slot));
    }
    Ok(None)
}
