//! Answers that drongo does not give: checksums, and refusals in Google's form.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vaultref_contract::wire::FailureKind;
use vaultref_scenarios::upstream::{Reply, Upstream};

use crate::vault::Vault;

/// What must not be repeated in an error.
const MARK: &str = "hunter2-of-the-server";

fn payload(data: &[u8], checksum: &Value) -> Reply {
    let mut payload = json!({ "data": STANDARD.encode(data) });
    if !checksum.is_null() {
        payload["dataCrc32c"] = checksum.clone();
    }
    let name = "projects/1234567890/secrets/a/versions/7";
    Reply::status(200)
        .header("content-type", "application/json; charset=UTF-8")
        .body(json!({ "name": name, "payload": payload }).to_string())
}

fn vault(upstream: &Upstream) -> Vault {
    Vault::new("gcp", super::at(upstream.address()))
}

#[test]
fn a_payload_is_believed_with_its_checksum_only() -> Result<()> {
    // RFC 3720 has these sums of 32 bytes each (B.4): zeros, ones, ascending.
    let ascending: Vec<u8> = (0..32).collect();
    for (data, sum) in [
        (vec![0; 32], 0x8a91_36aa_u32),
        (vec![0xff; 32], 0x62a8_ab43),
        (ascending, 0x46dd_794e),
        (Vec::new(), 0),
    ] {
        // As JSON writes a 64-bit number, and as some servers do.
        for right in [json!(sum.to_string()), json!(sum)] {
            let reply = payload(&data, &right);
            let upstream = Upstream::answering(move |_| reply.clone())?;
            assert_eq!(vault(&upstream).get("a"), Ok(data.clone()), "{right}");
        }
        let wrong = payload(&data, &json!((sum ^ 1).to_string()));
        let upstream = Upstream::answering(move |_| wrong.clone())?;
        let (kind, cause, _) = vault(&upstream).failure("a");
        assert_eq!(kind, FailureKind::Unavailable);
        assert!(cause.contains("checksum"), "{cause}");
        assert_eq!(
            upstream.requests().len(),
            3,
            "it may have been hurt on its way"
        );
    }
    Ok(())
}

#[test]
fn a_payload_that_was_hurt_once_is_asked_for_again() -> Result<()> {
    let count = std::sync::atomic::AtomicU32::new(0);
    let upstream = Upstream::answering(move |_| {
        let sum = match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => "1",
            _ => "2591144780",
        };
        payload(b"hello", &json!(sum))
    })?;
    let got = vault(&upstream).get("a");
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(got, Ok(b"hello".to_vec()));
    Ok(())
}

#[test]
fn a_request_is_what_the_rest_api_wants() -> Result<()> {
    let upstream = Upstream::answering(|_| payload(b"x", &Value::Null))?;
    let mut config = super::at(upstream.address());
    Vault::new("gcp", config.clone()).get_all(&["My_secret-1", "b#12"]);
    config.fields["location"] = json!("europe-west1");
    config.fields["project_id"] = json!("example.com:legacy");
    Vault::new("gcp", config).get_all(&["c"]);
    let mut asked: Vec<_> = upstream
        .requests()
        .into_iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    asked.sort_unstable();
    let project = "GET /v1/projects/test-project/secrets";
    let regional = "GET /v1/projects/example.com:legacy/locations/europe-west1/secrets";
    let expected = [
        format!("{regional}/c/versions/latest:access"),
        format!("{project}/My_secret-1/versions/latest:access"),
        format!("{project}/b/versions/12:access"),
    ];
    assert_eq!(asked, expected);
    Ok(())
}

#[test]
fn refusals_are_told_apart_and_not_repeated() -> Result<()> {
    let unavailable = FailureKind::Unavailable;
    for (code, status, kind, times) in [
        (400, "FAILED_PRECONDITION", FailureKind::NotFound, 1),
        (400, "INVALID_ARGUMENT", unavailable, 1),
        (403, "PERMISSION_DENIED", FailureKind::Denied, 1),
        (404, "NOT_FOUND", FailureKind::NotFound, 1),
        (429, "RESOURCE_EXHAUSTED", unavailable, 3),
        (500, "INTERNAL", unavailable, 3),
        (503, "UNAVAILABLE", unavailable, 3),
    ] {
        let body = json!({ "error": { "code": code, "message": MARK, "status": status } });
        let upstream = Upstream::answering(move |_| Reply::status(code).body(body.to_string()))?;
        let (got, cause, _) = vault(&upstream).failure("a");
        assert_eq!(got, kind, "{code} {status}: {cause}");
        assert!(!cause.contains(MARK), "{cause}");
        assert_eq!(upstream.requests().len(), times, "{code} {status}");
    }
    Ok(())
}

#[test]
fn a_server_that_says_when_is_left_alone_until_then() -> Result<()> {
    let upstream = Upstream::answering(|_| Reply::status(429).header("retry-after", "120"))?;
    let (kind, _, retry_after) = vault(&upstream).failure("a");
    assert_eq!(kind, FailureKind::Unavailable);
    assert!(retry_after.is_some_and(|after| (100..=120).contains(&after)));
    assert_eq!(upstream.requests().len(), 1);
    Ok(())
}

#[test]
fn answers_that_are_none_are_not_believed() -> Result<()> {
    let whole = r#"{"payload":{"data":"aGVsbG8=","dataCrc32c":"2591144780"}}"#;
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", whole.len());
    let mut replies = vec![
        Reply::raw(cut + &whole[..30]),
        Reply::raw("220 mail.example.com\r\n"),
        Reply::status(302).header("location", "http://127.0.0.1:1/"),
    ];
    replies.extend(
        [
            "",
            "null",
            "[]",
            "{}",
            "<html>",
            &whole[..30],
            r#"{"payload":null}"#,
            r#"{"payload":{"data":"a*"}}"#,
            r#"{"payload":{"data":7}}"#,
            r#"{"payload":{"data":"aGVsbG8=","dataCrc32c":"x"}}"#,
        ]
        .map(|body| Reply::status(200).body(body)),
    );
    for reply in replies {
        let told = format!("{reply:?}");
        let upstream = Upstream::answering(move |_| reply.clone())?;
        let got = vault(&upstream).get("a");
        assert_eq!(got, Err(FailureKind::Unavailable), "{told}");
    }
    Ok(())
}

#[test]
fn the_proxy_leads_to_googles_own_endpoints() -> Result<()> {
    for (location, host) in [
        (None, "secretmanager.googleapis.com:443"),
        (
            Some("us-east4"),
            "secretmanager.us-east4.rep.googleapis.com:443",
        ),
    ] {
        let proxy = Upstream::answering(|_| Reply::status(403))?;
        let mut fields = json!({ "project_id": "test-project" });
        if let Some(location) = location {
            fields["location"] = json!(location);
        }
        let mut config = super::known(fields);
        let address = format!("http://{}", proxy.address());
        config.environment.push(("HTTPS_PROXY".to_owned(), address));
        let vault = Vault::new("gcp", config);
        assert_eq!(vault.get("a"), Err(FailureKind::Unavailable));
        let asked = proxy.requests();
        let first = asked.first().context("the proxy was not asked")?;
        assert_eq!((&*first.method, &*first.path), ("CONNECT", host));
        // The proxy does not see who asks.
        assert!(!first.dump().contains("eyJ"), "{}", first.dump());
    }
    Ok(())
}
