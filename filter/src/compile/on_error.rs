//! What a rule says about requests whose secrets cannot be had. Everything in it is literal: a reference
//! here could fail as well.

use std::rc::Rc;

use serde::de::IgnoredAny;
use vaultref_contract::Template;

use super::{Answer, Body, OnError};
use crate::config::{ConfigError, OnErrorConfig};

const DEFAULT_STATUS: u64 = 503;

/// The largest body of an answer, in bytes.
const MAX_BODY: usize = 8192;

/// Compiles `on_error` of the rule at `rule`.
pub(super) fn compile(rule: &str, config: OnErrorConfig) -> Result<OnError, ConfigError> {
    let place = format!("{rule}/on_error");
    let is_answer = config.status.is_some() || config.body.is_some();
    match (is_answer, config.without_field, config.default) {
        (_, None | Some(false), None) => answer(&place, config.status, config.body),
        (false, Some(true), None) => Ok(OnError::WithoutField),
        (false, None | Some(false), Some(text)) => {
            let place = format!("{place}/default");
            if text.bytes().any(crate::render::is_control) {
                let message = "a control character cannot stand in a header";
                return Err(ConfigError::new(place, message));
            }
            check_literal(&place, &text)?;
            Ok(OnError::Default(text))
        }
        _ => {
            let message = "only one of 'status' (with 'body'), 'without_field' and 'default' may \
                           be given";
            Err(ConfigError::new(place, message))
        }
    }
}

fn answer(place: &str, status: Option<u64>, body: Option<String>) -> Result<OnError, ConfigError> {
    let status = u32::try_from(status.unwrap_or(DEFAULT_STATUS))
        .ok()
        .filter(|status| (400..=599).contains(status));
    let Some(status) = status else {
        let place = format!("{place}/status");
        return Err(ConfigError::new(place, "must be from 400 to 599"));
    };
    let body = body.map(|text| body_of(&format!("{place}/body"), text));
    Ok(OnError::Answer(Rc::new(Answer {
        status,
        body: body.transpose()?,
    })))
}

fn body_of(place: &str, text: String) -> Result<Body, ConfigError> {
    if text.len() > MAX_BODY {
        let message = format!("has more than {MAX_BODY} bytes");
        return Err(ConfigError::new(place, message));
    }
    let is_layout = |byte: u8| matches!(byte, b'\n' | b'\r' | b'\t');
    if text
        .bytes()
        .any(|byte| byte.is_ascii_control() && !is_layout(byte))
    {
        return Err(ConfigError::new(place, "has a control character"));
    }
    check_literal(place, &text)?;
    let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
    Ok(Body {
        text,
        content_type: match is_json {
            true => "application/json",
            false => "text/plain; charset=utf-8",
        },
    })
}

fn check_literal(place: &str, text: &str) -> Result<(), ConfigError> {
    match Template::parse(text) {
        Ok(template) if !template.has_references() => Ok(()),
        _ => {
            let message = "must be a literal: a reference here could fail as well";
            Err(ConfigError::new(place, message))
        }
    }
}
