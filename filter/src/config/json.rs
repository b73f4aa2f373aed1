//! JSON as it is written: an object keeps its members in order, and a name that stands twice.
//!
//! Which of two credentials is sent must not depend on a parser, so such a name is an error, and
//! whoever reads the object can say where.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Any JSON value.
#[derive(Debug, PartialEq)]
pub(crate) enum Json {
    Bool(bool),
    /// A number that is no whole one, or too large to be sure of that.
    Fraction(f64),
    List(Vec<Json>),
    /// A whole number below zero.
    Negative(i64),
    Null,
    /// A whole number, not negative.
    Number(u64),
    Object(Vec<(String, Json)>),
    Text(String),
}

impl Json {
    /// How the kind of value is called in an error.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Fraction(_) | Self::Negative(_) => "a negative or broken number",
            Self::List(_) => "a list",
            Self::Null => "null",
            Self::Number(_) => "a number",
            Self::Object(_) => "an object",
            Self::Text(_) => "a text",
        }
    }
}

impl From<f64> for Json {
    fn from(number: f64) -> Self {
        const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;
        if number.fract() != 0.0 || !(0.0..=LARGEST_EXACT).contains(&number) {
            return Self::Fraction(number);
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole, within 53 bits
        let whole = number as u64;
        Self::Number(whole)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Json, E> {
        Ok(Json::Bool(yes))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(u64::try_from(number).map_or(Json::Negative(number), Json::Number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}
