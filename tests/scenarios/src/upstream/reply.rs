//! What a server in a test answers, right or wrong.

use std::time::Duration;

/// What the upstream answers; by default 200 with a short body.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(super) delay: Duration,
    pub(super) raw: Option<Vec<u8>>,
    pub(super) stalls: bool,
}

impl Reply {
    /// This status with an empty body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            delay: Duration::ZERO,
            raw: None,
            stalls: false,
        }
    }

    /// These bytes as they are, then the connection is closed: an answer that is
    /// cut short, or garbage.
    #[must_use]
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self {
            raw: Some(bytes.as_ref().to_vec()),
            ..Self::status(0)
        }
    }

    /// These bytes, or none, and then nothing more; the connection stays open.
    #[must_use]
    pub fn stall(bytes: impl AsRef<[u8]>) -> Self {
        Self {
            stalls: true,
            ..Self::raw(bytes)
        }
    }

    /// Sends the body's first half only, then closes the connection.
    #[must_use]
    pub fn cut_short(self) -> Self {
        let bytes = self.bytes();
        let kept = bytes.len() - self.body.len().div_ceil(2);
        Self::raw(&bytes[..kept])
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Waits so long before answering, as a slow service does.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// What goes over the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut bytes = format!(
            "HTTP/1.1 {} Status\r\ncontent-length: {}\r\n",
            self.status,
            self.body.len()
        )
        .into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}
