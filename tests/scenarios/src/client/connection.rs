//! A connection on which bytes are sent piece by piece, and answers read.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};

use super::Response;
use super::address::{Address, Stream};
use crate::wait;

/// A connection on which bytes are sent piece by piece.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    received: Vec<u8>,
}

impl Connection {
    /// Connects. A read that gets nothing for [`wait::SOON`] fails.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub fn open(to: &Address) -> Result<Self> {
        let stream = Stream::connect(to).with_context(|| format!("connecting to {to}"))?;
        stream.set_read_timeout(wait::SOON)?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    ///
    /// When the other side has closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")
    }

    /// Says that nothing more will be sent, and goes on reading.
    ///
    /// # Errors
    ///
    /// When the other side has closed.
    pub fn half_close(&mut self) -> Result<()> {
        self.stream
            .shutdown_write()
            .context("closing the sending half")
    }

    /// Reads one whole answer.
    ///
    /// # Errors
    ///
    /// When it does not come, ends early, or is no HTTP.
    pub fn response(&mut self) -> Result<Response> {
        loop {
            let head = self.read_head()?;
            let mut lines = head
                .split(|byte| *byte == b'\n')
                .map(|line| line.trim_ascii_end());
            let status = status_of(lines.next().unwrap_or_default())?;
            let headers = lines
                .filter(|line| !line.is_empty())
                .map(header_of)
                .collect::<Result<Vec<_>>>()?;
            if status / 100 == 1 {
                continue;
            }
            let body = self.read_body(status, &headers)?;
            return Ok(Response {
                status,
                headers,
                body,
            });
        }
    }

    /// Reads until the other side closes, and returns what came.
    ///
    /// # Errors
    ///
    /// When it does not close in time.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        while self.read_more()? {}
        Ok(std::mem::take(&mut self.received))
    }

    fn read_head(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                let head = self.received.drain(..end + 4).collect();
                return Ok(head);
            }
            if !self.read_more()? {
                bail!(
                    "closed before a whole answer, after {:?}",
                    String::from_utf8_lossy(&self.received)
                );
            }
        }
    }

    fn read_body(&mut self, status: u16, headers: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
        let value = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.as_slice())
        };
        if status == 204 || status == 304 {
            return Ok(Vec::new());
        }
        if value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"))
        {
            return self.read_chunks();
        }
        let Some(length) = value("content-length") else {
            return self.rest();
        };
        let length = std::str::from_utf8(length)
            .context("content-length")?
            .parse()
            .context("content-length")?;
        self.read_exactly(length)
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .with_context(|| format!("the size of a chunk: {line:?}"))?;
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.read_exactly(size)?);
            self.read_line()?;
        }
    }

    fn read_line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = find(&self.received, b"\r\n") {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.read_more()? {
                bail!("closed within a chunked body");
            }
        }
    }

    fn read_exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.received.len() < length {
            if !self.read_more()? {
                bail!(
                    "closed after {} of {length} bytes of the body",
                    self.received.len()
                );
            }
        }
        Ok(self.received.drain(..length).collect())
    }

    /// Whether anything came; nothing means that the other side has closed.
    fn read_more(&mut self) -> Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).context("receiving")?;
        self.received.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }
}

fn status_of(line: &[u8]) -> Result<u16> {
    let text = String::from_utf8_lossy(line);
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok());
    status.with_context(|| format!("no status line: {text:?}"))
}

fn header_of(line: &[u8]) -> Result<(String, Vec<u8>)> {
    let colon = line.iter().position(|byte| *byte == b':');
    let colon = colon.with_context(|| format!("no header: {:?}", String::from_utf8_lossy(line)))?;
    let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
    Ok((name, line[colon + 1..].trim_ascii().to_vec()))
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}
