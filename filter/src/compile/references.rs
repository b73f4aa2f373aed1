//! The references of a configuration: each distinct one once, and values that know theirs by index.

use std::collections::BTreeMap;
use std::rc::Rc;

use vaultref_contract::{Part, Template};

use super::Asked;
use crate::config::{ConfigError, push_member};
use crate::render::{Encoding, Piece, Value, ValueKind};

/// The distinct references, of the configuration and of the rule at hand.
#[derive(Default)]
pub(crate) struct References {
    pub(crate) asked: Vec<Asked>,
    by_text: BTreeMap<Rc<str>, usize>,
    pub(crate) of_rule: Vec<usize>,
}

impl References {
    /// Takes a text apart; its references become indices into the rule's list.
    fn pieces(&mut self, place: &str, text: &str) -> Result<Vec<Piece>, ConfigError> {
        let template =
            Template::parse(text).map_err(|error| ConfigError::new(place, error.to_string()))?;
        let pieces = template.parts().iter().map(|part| match part {
            Part::Text(text) => Piece::Text(text.clone()),
            Part::Reference(found) => {
                let asked = Asked {
                    text: found.as_str().into(),
                    vault: found.reference().vault().into(),
                };
                Piece::Reference(self.index(asked))
            }
        });
        Ok(pieces.collect())
    }

    fn index(&mut self, asked: Asked) -> usize {
        let whole = match self.by_text.get(&asked.text) {
            Some(known) => *known,
            None => {
                let new = self.asked.len();
                self.by_text.insert(Rc::clone(&asked.text), new);
                self.asked.push(asked);
                new
            }
        };
        match self.of_rule.iter().position(|known| *known == whole) {
            Some(known) => known,
            None => {
                self.of_rule.push(whole);
                self.of_rule.len().saturating_sub(1)
            }
        }
    }

    pub(crate) fn value(
        &mut self,
        place: &str,
        text: &str,
        encoding: Encoding,
    ) -> Result<Value, ConfigError> {
        let pieces = self.pieces(place, text)?;
        if encoding == Encoding::Header && literals_have_controls(&pieces) {
            let message = "a control character cannot stand in a header";
            return Err(ConfigError::new(place, message));
        }
        Ok(Value {
            place: place.to_owned(),
            kind: ValueKind::Text(pieces),
            encoding,
        })
    }

    pub(crate) fn basic(
        &mut self,
        place: &str,
        username: &str,
        password: &str,
    ) -> Result<Value, ConfigError> {
        let mut half = |name: &str, text: &str| {
            let mut place = place.to_owned();
            push_member(&mut place, name);
            let pieces = self.pieces(&place, text)?;
            if literals_have_controls(&pieces) {
                let message = "a control character cannot stand in Basic credentials";
                return Err(ConfigError::new(place, message));
            }
            Ok((place, pieces))
        };
        let (at_username, username) = half("username", username)?;
        let (_, password) = half("password", password)?;
        let colon = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(':'));
        if username.iter().any(colon) {
            let message = "a ':' cannot stand in a username, where it would begin the password";
            return Err(ConfigError::new(at_username, message));
        }
        Ok(Value {
            place: place.to_owned(),
            kind: ValueKind::Basic { username, password },
            encoding: Encoding::Header,
        })
    }
}

fn literals_have_controls(pieces: &[Piece]) -> bool {
    pieces.iter().any(
        |piece| matches!(piece, Piece::Text(text) if text.bytes().any(crate::render::is_control)),
    )
}
