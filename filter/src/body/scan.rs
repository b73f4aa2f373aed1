//! Finds out where the values of a JSON text begin and end, and whether it is one (RFC 8259).
//!
//! Nothing is converted: a number may have any length, an escape any value. There is no recursion,
//! and what may be nested is bounded, since how deep a text goes is the client's choice.

use std::ops::Range;

use super::BodyError;

/// How deep objects and lists may be nested.
pub(super) const MAX_DEPTH: usize = 128;

/// A place in a JSON text, which goes on by one token after the other.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    /// At the first byte of the text's value; an error if the text is not UTF-8.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, BodyError> {
        std::str::from_utf8(bytes).map_err(|_| BodyError::Malformed)?;
        let mut scanner = Self { bytes, at: 0 };
        scanner.space();
        Ok(scanner)
    }

    /// The bytes between two places.
    pub(super) fn part(&self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Goes on if this byte is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at = self.at.saturating_add(1);
        }
        found
    }

    /// This byte must be next.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), BodyError> {
        self.take(byte).then_some(()).ok_or(BodyError::Malformed)
    }

    pub(super) fn space(&mut self) {
        self.while_any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// Nothing but space may follow.
    pub(super) fn end(&mut self) -> Result<(), BodyError> {
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(BodyError::Malformed),
        }
    }

    /// A member's name and colon; gives where the name stands, with its quotes.
    pub(super) fn name(&mut self) -> Result<Range<usize>, BodyError> {
        let start = self.at;
        self.string()?;
        let name = start..self.at;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(name)
    }

    /// A whole value, which stands at this depth.
    pub(super) fn value(&mut self, depth: usize) -> Result<(), BodyError> {
        // One bit for each object or list that is open, the innermost last.
        let mut objects = 0_u128;
        let mut open = 0_usize;
        loop {
            // Here a value begins.
            match self.peek() {
                Some(byte @ (b'{' | b'[')) => {
                    self.expect(byte)?;
                    if depth.saturating_add(open) >= MAX_DEPTH {
                        return Err(BodyError::TooDeep);
                    }
                    let is_object = byte == b'{';
                    self.space();
                    if !self.take(if is_object { b'}' } else { b']' }) {
                        open = open.saturating_add(1);
                        objects = objects << 1 | u128::from(is_object);
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => self.number()?,
            }
            // Here one has ended, and with it perhaps what it stands in.
            loop {
                if open == 0 {
                    return Ok(());
                }
                let is_object = objects & 1 == 1;
                self.space();
                if self.take(b',') {
                    self.space();
                    if is_object {
                        self.name()?;
                    }
                    break;
                }
                self.expect(if is_object { b'}' } else { b']' })?;
                open = open.saturating_sub(1);
                objects >>= 1;
            }
        }
    }

    fn string(&mut self) -> Result<(), BodyError> {
        self.expect(b'"')?;
        loop {
            self.while_any(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
            if self.take(b'"') {
                return Ok(());
            }
            self.expect(b'\\')?;
            let escaped = self.peek().ok_or(BodyError::Malformed)?;
            self.expect(escaped)?;
            match escaped {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                b'u' => {
                    let digits = self.part(self.at..self.at.saturating_add(4));
                    if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                        return Err(BodyError::Malformed);
                    }
                    self.at = self.at.saturating_add(4);
                }
                _ => return Err(BodyError::Malformed),
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), BodyError> {
        word.iter().try_for_each(|byte| self.expect(*byte))
    }

    fn number(&mut self) -> Result<(), BodyError> {
        let _ = self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), BodyError> {
        let start = self.at;
        self.while_any(|byte| byte.is_ascii_digit());
        (self.at > start).then_some(()).ok_or(BodyError::Malformed)
    }

    fn while_any(&mut self, is_one: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&is_one) {
            self.at = self.at.saturating_add(1);
        }
    }
}
