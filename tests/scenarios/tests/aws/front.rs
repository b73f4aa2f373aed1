//! A server in front of moto that counts what is asked, and may answer something by itself.

use std::collections::HashMap;

use anyhow::Result;
use vaultref_scenarios::client::Request;
use vaultref_scenarios::upstream::{Received, Reply, Upstream};

use crate::vault::moto;

/// Sends on what it gets.
pub struct Front(Upstream);

impl Front {
    /// One that only counts.
    pub fn start() -> Result<Self> {
        Self::answering(|_, _| None)
    }

    /// One that answers by itself what `answer` has an answer for; it is given the action.
    pub fn answering(
        answer: impl Fn(&str, &Received) -> Option<Reply> + Send + Sync + 'static,
    ) -> Result<Self> {
        let moto = moto()?.address();
        let upstream = Upstream::answering(move |request| {
            if let Some(reply) = answer(&action(request), request) {
                return reply;
            }
            let mut onward = Request::new(&request.method, &request.path).body(&request.body);
            for (name, value) in &request.headers {
                // The host is signed; the length is set anew.
                if name != "content-length" {
                    onward = onward.header(name, value);
                }
            }
            match onward.send(moto) {
                Ok(answer) => Reply::status(answer.status).body(answer.body),
                Err(_) => Reply::raw(""),
            }
        })?;
        Ok(Self(upstream))
    }

    /// Its address as clients of AWS take it.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address())
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Received> {
        self.0.requests()
    }

    /// How often each action was asked for, since this was asked last.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for request in self.0.requests() {
            *counts.entry(action(&request)).or_default() += 1;
        }
        self.0.clear();
        counts
    }

    /// Exactly this was asked for, since it was looked at last.
    pub fn was_asked(&self, expected: &[(&str, usize)]) -> Result<()> {
        let counts = self.counts();
        let expected: HashMap<String, usize> = expected
            .iter()
            .map(|(action, count)| ((*action).to_owned(), *count))
            .collect();
        anyhow::ensure!(counts == expected, "{counts:?} instead of {expected:?}");
        Ok(())
    }
}

/// `GetSecretValue`, `AssumeRole`, …
pub fn action(request: &Received) -> String {
    if let Some(target) = request.header("x-amz-target") {
        return target.replace("secretsmanager.", "");
    }
    form_field(request, "Action").unwrap_or_else(|| format!("{} {}", request.method, request.path))
}

/// A field of a form, as it is written in it.
pub fn form_field(request: &Received, name: &str) -> Option<String> {
    let body = String::from_utf8_lossy(&request.body);
    let mut fields = body.split('&').filter_map(|field| field.split_once('='));
    let (_, value) = fields.find(|(known, _)| *known == name)?;
    Some(value.to_owned())
}
