//! What is read, and what is made of it.

use super::read::read_answer;
use super::*;

fn read(bytes: &[u8]) -> CalloutAnswer {
    read_answer(bytes, false)
}

#[test]
fn answers_are_told_apart() {
    let none = [];
    let table: [(&[u8], CalloutAnswer); 8] = [
        (b"", CalloutAnswer::Closed),
        (b"garbage\r\n\r\n", CalloutAnswer::NotHttp),
        (b"garbage without an end", CalloutAnswer::NotHttp),
        (b"HTTP/1.1 200 OK\r\ncontent-le", CalloutAnswer::NotHttp),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokmore",
            CalloutAnswer::response(200, [("content-length", "2")], "ok"),
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            CalloutAnswer::response(200, [("transfer-encoding", "chunked")], "ok"),
        ),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
            CalloutAnswer::response(204, none, ""),
        ),
        (
            b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
            CalloutAnswer::response(200, [], "until the end"),
        ),
    ];
    for (bytes, expected) in table {
        assert_eq!(read(bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn less_body_than_promised_is_truncated() {
    let answer = read(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    let CalloutAnswer::Truncated { declared, body, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((declared, body.as_slice()), (Some(9), &b"half"[..]));
    assert!(matches!(
        read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf"),
        CalloutAnswer::Truncated { .. }
    ));
}
