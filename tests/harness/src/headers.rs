//! Header maps as a gateway keeps them: pairs of bytes in their order.
//!
//! Names are compared without regard to case; values are never decoded, since
//! a client may send any byte and a filter has to survive it.

use std::fmt;

/// Pairs of name and value, in the order in which they were sent.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Headers {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Headers {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// The pairs, in order.
    pub fn pairs(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.pairs
    }

    /// How many pairs there are; a name that occurs twice counts twice.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no pair at all.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The first value of `name`.
    pub fn first(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref();
        let found = self
            .pairs
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_slice())
    }

    /// The first value of `name` as text, lossily; for assertions.
    pub fn text(&self, name: impl AsRef<[u8]>) -> Option<String> {
        self.first(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Every value of `name`, in order.
    pub fn all(&self, name: impl AsRef<[u8]>) -> Vec<Vec<u8>> {
        self.values(name.as_ref()).map(<[u8]>::to_vec).collect()
    }

    /// Every value of `name` joined with a comma, as Envoy hands it over.
    pub fn joined(&self, name: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let values = self.all(name);
        (!values.is_empty()).then(|| values.join(&b","[..]))
    }

    /// Whether any name or value contains `needle`; for 'nothing leaked'.
    pub fn contains_bytes(&self, needle: impl AsRef<[u8]>) -> bool {
        let needle = needle.as_ref();
        self.pairs
            .iter()
            .any(|(name, value)| contains(name, needle) || contains(value, needle))
    }

    /// Puts one more pair at the end.
    pub fn add(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.pairs.push((name.into(), value.into()));
    }

    /// Removes every pair of `name` and says how many there were.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> usize {
        let name = name.as_ref();
        let before = self.pairs.len();
        self.pairs
            .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        before - self.pairs.len()
    }

    /// Makes `value` the only value of `name`; it keeps the first one's place.
    pub fn replace(&mut self, name: impl AsRef<[u8]>, value: impl Into<Vec<u8>>) {
        let name = name.as_ref();
        let mut value = Some(value.into());
        self.pairs.retain_mut(|(key, old)| {
            if !key.eq_ignore_ascii_case(name) {
                return true;
            }
            value.take().map(|new| *old = new).is_some()
        });
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Changes the first value of `name` and leaves further ones alone, as
    /// nginx does; adds the pair where there is none.
    pub fn set_first(&mut self, name: impl AsRef<[u8]>, value: impl Into<Vec<u8>>) {
        let name = name.as_ref();
        match self
            .pairs
            .iter_mut()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
        {
            Some((_, old)) => *old = value.into(),
            None => self.add(name, value),
        }
    }

    /// The same pairs with names in lower case.
    pub fn lowercased(&self) -> Self {
        self.pairs
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect()
    }

    /// The pairs whose name does not begin with a colon.
    pub fn without_pseudo(&self) -> Self {
        self.pairs
            .iter()
            .filter(|(name, _)| !name.starts_with(b":"))
            .cloned()
            .collect()
    }

    /// The map as Proxy-Wasm writes it: count, sizes, then each name and value
    /// with a NUL after it; numbers are 32 bits, little endian.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut wire = Vec::new();
        wire.extend(size32(self.pairs.len()).to_le_bytes());
        for (name, value) in &self.pairs {
            wire.extend(size32(name.len()).to_le_bytes());
            wire.extend(size32(value.len()).to_le_bytes());
        }
        for (name, value) in &self.pairs {
            wire.extend_from_slice(name);
            wire.push(0);
            wire.extend_from_slice(value);
            wire.push(0);
        }
        wire
    }

    /// Reads what a filter wrote; `None` where sizes and bytes do not agree.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        if wire.is_empty() {
            return Some(Self::new());
        }
        let number = |at: usize| -> Option<usize> {
            let bytes = wire.get(at..at.checked_add(4)?)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
        };
        let count = number(0)?;
        let mut at = 4usize.checked_add(count.checked_mul(8)?)?;
        if at > wire.len() {
            return None;
        }
        let mut take = |length: usize| -> Option<Vec<u8>> {
            let end = at.checked_add(length)?;
            let bytes = wire.get(at..end)?.to_vec();
            at = end.checked_add(1)?;
            Some(bytes)
        };
        let mut headers = Self::new();
        for index in 0..count {
            let name = take(number(4 + index * 8)?)?;
            let value = take(number(8 + index * 8)?)?;
            headers.add(name, value);
        }
        Some(headers)
    }

    fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.pairs
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                self.pairs.iter().map(|(name, value)| {
                    format!("{}: {}", name.escape_ascii(), value.escape_ascii())
                }),
            )
            .finish()
    }
}

impl FromIterator<(Vec<u8>, Vec<u8>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, Vec<u8>)>>(pairs: I) -> Self {
        Self {
            pairs: pairs.into_iter().collect(),
        }
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Headers {
    fn from(pairs: [(&str, &str); N]) -> Self {
        pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }
}

/// A size as the ABI's 32 bits; what does not fit is as large as can be said,
/// and no guest has that much memory.
pub(crate) fn size32(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// Whether `needle` occurs in `haystack`; an empty needle never does, since a
/// test that looks for nothing has lost what it looks for.
pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty()
        && haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_is_read_back() {
        let headers = Headers::from([("a", "1"), ("b", ""), ("a", "2")]);
        assert_eq!(Headers::from_wire(&headers.to_wire()), Some(headers));
    }

    #[test]
    fn wire_form_with_wrong_sizes_is_refused() {
        let wire = Headers::from([("a", "1")]).to_wire();
        for length in 1..wire.len() - 1 {
            assert_eq!(Headers::from_wire(&wire[..length]), None, "cut at {length}");
        }
        assert_eq!(Headers::from_wire(&u32::MAX.to_le_bytes()), None);
    }

    #[test]
    fn replace_leaves_one_value_and_set_first_leaves_the_rest() {
        let twice = Headers::from([("K", "1"), ("x", "y"), ("k", "2")]);
        let mut replaced = twice.clone();
        replaced.replace("k", "3");
        assert_eq!(replaced, Headers::from([("K", "3"), ("x", "y")]));
        let mut set = twice;
        set.set_first("k", "3");
        assert_eq!(set, Headers::from([("K", "3"), ("x", "y"), ("k", "2")]));
    }
}
