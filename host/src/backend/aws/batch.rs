//! Several secrets in one call.
//!
//! `BatchGetSecretValue` is a permission of its own. Where it is not given, secrets are read one by
//! one, and it is not tried again for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use futures::future::join_all;
use tokio::time::Instant;

use super::version::{Stage, Version};
use super::{Given, SERVICE, Server};
use crate::backend::amazon::answer::{About, Refusal};
use crate::backend::{Object, ReadError, ReadErrorKind, Reading};

/// The most that one call reads.
pub(super) const MOST: usize = 20;

/// How long after a refusal of the call it is not tried again.
const REFUSED_FOR: Duration = Duration::from_secs(15 * 60);

/// Whether the call can be used.
pub(super) struct Batching {
    refused_until: Mutex<Option<Instant>>,
}

impl Batching {
    pub(super) fn new() -> Self {
        Self {
            refused_until: Mutex::new(None),
        }
    }

    fn is_refused(&self) -> bool {
        let until = self.refused_until.lock();
        let until = *until.unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn refuse(&self) {
        let until = self.refused_until.lock();
        *until.unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REFUSED_FOR);
    }
}

/// What one call says of each name.
type Answers = HashMap<String, Result<Given, ReadError>>;

impl Server {
    /// The results are in the order of the objects.
    pub(super) async fn read_many(&self, objects: &[Object]) -> Vec<Result<Reading, ReadError>> {
        let mut answers = match self.in_one_call(objects).await {
            Ok(answers) => answers,
            Err(error) => return objects.iter().map(|_| Err(error.clone())).collect(),
        };
        let results = objects.iter().map(|object| {
            let is_current = Version::of(object.version).stage == Stage::Current;
            let answer = is_current.then(|| answers.remove(&object.path)).flatten();
            async move {
                match answer {
                    Some(given) => self.taken(object, given?),
                    None => self.read_one(object).await,
                }
            }
        });
        join_all(results).await
    }

    /// What the call gives for those that it can read; nothing for all others.
    ///
    /// # Errors
    /// The server cannot be reached, or not by these credentials: it makes no sense to ask for each.
    async fn in_one_call(&self, objects: &[Object]) -> Result<Answers, ReadError> {
        let mut names = Vec::new();
        for object in objects {
            let is_current = Version::of(object.version).stage == Stage::Current;
            if is_current && !names.contains(&object.path) {
                names.push(object.path.clone());
            }
        }
        if names.len() < 2 || self.batching.is_refused() {
            return Ok(Answers::new());
        }
        let refusal = match self.ask(|client| all(client, names.clone())).await {
            Ok(answers) => return Ok(answers),
            Err(refusal) => refusal,
        };
        match (refusal.about, refusal.error.kind) {
            (About::Credentials, _) => Err(refusal.error),
            (About::Operation, _) | (About::Object, ReadErrorKind::Denied) => {
                tracing::info!("BatchGetSecretValue is not allowed: secrets are read one by one");
                self.batching.refuse();
                Ok(Answers::new())
            }
            (About::Object, ReadErrorKind::Unavailable) => Err(refusal.error),
            // It is about one of them; which one, each for itself will say.
            (About::Object, _) => Ok(Answers::new()),
        }
    }
}

async fn all(client: Client, names: Vec<String>) -> Result<Answers, Refusal> {
    let mut answers = Answers::new();
    let mut token = None;
    // An answer that would be too large comes in parts; there cannot be more of them than secrets.
    for _ in &names {
        let part = client
            .batch_get_secret_value()
            .set_secret_id_list(Some(names.clone()))
            .set_next_token(token)
            .send()
            .await
            .map_err(|error| Refusal::of(SERVICE, &error))?;
        for entry in part.secret_values.unwrap_or_default() {
            if let Some(name) = entry.name.clone() {
                let given = Given {
                    arn: entry.arn,
                    name: entry.name,
                    text: entry.secret_string,
                    bytes: entry.secret_binary,
                };
                answers.insert(name, Ok(given));
            }
        }
        for failed in part.errors.unwrap_or_default() {
            if let Some(name) = failed.secret_id {
                let refusal = Refusal::of_code(SERVICE, failed.error_code.as_deref());
                answers.insert(name, Err(refusal.error));
            }
        }
        token = part.next_token;
        if token.is_none() {
            break;
        }
    }
    Ok(answers)
}
