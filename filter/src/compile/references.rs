//! The references of a configuration: each distinct one once, and values that know theirs by index.

use std::collections::BTreeMap;
use std::rc::Rc;

use vaultref_contract::{Part, Template};

use super::{Asked, Kind};
use crate::config::{ConfigError, push_member};
use crate::dynamic::Parametric;
use crate::render::{Encoding, Piece, Value, ValueKind};

/// What is added to the index of a reference with parameters as long as it is not known how many
/// there are without. No rule has that many.
const WITH_PARAMETERS: usize = 1 << 24;

/// The distinct references, of the configuration and of the rule at hand.
pub(crate) struct References {
    kind: Kind,
    pub(crate) asked: Vec<Asked>,
    by_text: BTreeMap<Rc<str>, usize>,
    of_rule: Vec<usize>,
    parametric: Vec<Parametric>,
}

impl References {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            asked: Vec::new(),
            by_text: BTreeMap::new(),
            of_rule: Vec::new(),
            parametric: Vec::new(),
        }
    }

    /// Takes a text apart; its references become indices into the rule's list.
    #[inline(never)] // once is enough in the module
    fn pieces(&mut self, place: &str, text: &str) -> Result<Vec<Piece>, ConfigError> {
        let template =
            Template::parse(text).map_err(|error| ConfigError::new(place, error.to_string()))?;
        let pieces = template.parts().iter().map(|part| {
            Ok(match part {
                Part::Text(text) => Piece::Text(text.clone()),
                Part::Reference(found) => {
                    Piece::Reference(match Parametric::parse(place, found.as_str(), self.kind)? {
                        None => self.index(Asked::new(found)),
                        Some(parametric) => {
                            self.parametric.push(parametric);
                            let index = self.parametric.len().saturating_sub(1);
                            index.saturating_add(WITH_PARAMETERS)
                        }
                    })
                }
            })
        });
        pieces.collect()
    }

    pub(super) fn begin_rule(&mut self) {
        self.of_rule.clear();
        self.parametric.clear();
    }

    /// The references of the rule that ends, without and with parameters. Its values come to know the
    /// latter by their index behind the former.
    pub(crate) fn finish_rule(&mut self, values: &mut [Value]) -> (Vec<usize>, Vec<Parametric>) {
        let count = self.of_rule.len();
        for piece in values.iter_mut().flat_map(Value::pieces_mut) {
            if let Piece::Reference(index) = piece
                && let Some(behind) = index.checked_sub(WITH_PARAMETERS)
            {
                *index = count.saturating_add(behind);
            }
        }
        let parametric = std::mem::take(&mut self.parametric);
        (std::mem::take(&mut self.of_rule), parametric)
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
