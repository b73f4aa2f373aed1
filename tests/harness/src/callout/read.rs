//! Reads one HTTP/1.1 response, and says how far it came.

use std::io::{self, BufRead, Read};

use super::CalloutAnswer;
use crate::headers::Headers;

const MAX_HEADER_BYTES: usize = 256 * 1024;

pub(super) fn read_answer(mut reader: impl BufRead, head: bool) -> CalloutAnswer {
    let (status, headers) = loop {
        match read_head(&mut reader) {
            Ok((status, _)) if (100..200).contains(&status) => {}
            Ok(head) => break head,
            Err(answer) => return answer,
        }
    };
    if head || status == 204 || status == 304 {
        return CalloutAnswer::Response {
            status,
            headers,
            body: Vec::new(),
            trailers: Headers::new(),
        };
    }
    let chunked = headers
        .all("transfer-encoding")
        .iter()
        .any(|value| value.to_ascii_lowercase().ends_with(b"chunked"));
    let mut body = Vec::new();
    if chunked {
        return match read_chunks(&mut reader, &mut body) {
            Ok(trailers) => CalloutAnswer::Response {
                status,
                headers,
                body,
                trailers,
            },
            Err(_) => CalloutAnswer::Truncated {
                status,
                headers,
                declared: None,
                body,
            },
        };
    }
    let declared = match headers.first("content-length") {
        None => None,
        Some(text) => match std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
        {
            None => return CalloutAnswer::NotHttp,
            Some(length) => Some(length),
        },
    };
    let limit = declared.map_or(u64::MAX, |length: usize| length as u64);
    let read = reader.take(limit).read_to_end(&mut body);
    if read.is_err() || declared.is_some_and(|length| body.len() < length) {
        return CalloutAnswer::Truncated {
            status,
            headers,
            declared,
            body,
        };
    }
    CalloutAnswer::Response {
        status,
        headers,
        body,
        trailers: Headers::new(),
    }
}

fn read_head(reader: &mut impl BufRead) -> Result<(u16, Headers), CalloutAnswer> {
    let line = match read_line(reader) {
        Ok(Some(line)) => line,
        Ok(None) => return Err(CalloutAnswer::Closed),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(CalloutAnswer::NotHttp);
        }
        Err(_) => return Err(CalloutAnswer::Closed),
    };
    let status = std::str::from_utf8(&line)
        .ok()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or(CalloutAnswer::NotHttp)?;
    match read_fields(reader) {
        Ok(headers) => Ok((status, headers)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(CalloutAnswer::NotHttp),
        Err(_) => Err(CalloutAnswer::Closed),
    }
}

fn read_fields(reader: &mut impl BufRead) -> io::Result<Headers> {
    let mut headers = Headers::new();
    loop {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or(io::ErrorKind::InvalidData)?;
        headers.add(
            line[..colon].to_ascii_lowercase(),
            line[colon + 1..].trim_ascii(),
        );
    }
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<Headers> {
    loop {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size)
            .ok()
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        if size == 0 {
            return read_fields(reader);
        }
        if reader.by_ref().take(size).read_to_end(body)? as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !read_line(reader)?.is_some_and(|line| line.is_empty()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// One line without its end; `None` where the stream ends before one begins.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader
        .by_ref()
        .take(MAX_HEADER_BYTES as u64)
        .read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        let kind = if line.starts_with(b"HTTP/1.") {
            io::ErrorKind::UnexpectedEof
        } else {
            io::ErrorKind::InvalidData
        };
        return Err(kind.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}
