use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const CONFIGURATION: &str = r#"{"resolver":{"upstream":"r"},"rules":[
    {"request":{"set":{"headers":{"x-key":"a {vault://a/b}"},"querystring":{"k":"{vault://a/b}"}},
                "add":{"headers":{"x-added":"{vault://a/b}"}},
                "append":{"headers":{"x-more":"{vault://a/b}"}},
                "replace":{"headers":{"x-there":"{vault://a/b}"}}}},
    {"basic_auth":{"username":"u","password":"{vault://a/b}"},"on_error":{"without_field":true}},
    {"request":{"set":{"headers":{"x-key":"{vault://c/d}"}}},"on_error":{"default":"none","body":"away"}}]}"#;

/// A resolver that has given one value for each of two references, and these values.
fn given() -> (Resolver, String, String) {
    let mut resolver = Resolver::default();
    let question = br#"{"references":["{vault://a/b}","{vault://c/d}"],"known":[null,null]}"#;
    let answer: Value = serde_json::from_slice(&resolver.answer(question, "ok")).expect("JSON");
    let value = |at: usize| {
        let value = &answer["results"][at]["secret"]["value"]["text"];
        value.as_str().expect("a text").to_owned()
    };
    let (one, two) = (value(0), value(1));
    (resolver, one, two)
}

fn oracle() -> Oracle {
    let mut oracle = Oracle::default();
    let labelled = oracle.label(CONFIGURATION.as_bytes(), true);
    let labelled: Value = serde_json::from_slice(&labelled).expect("JSON");
    let label = |at: usize| labelled["rules"][at]["request"]["set"]["headers"][LABEL].clone();
    assert_eq!([label(0), label(3)], ["c1-r0", "c1-r3"]);
    oracle
}

fn judge(headers: &[(&str, &str)], path: &str) -> Result<(), String> {
    let sent = Request::get("/?k=0WN-q")
        .header("x-key", "0WN-1")
        .header("x-more", "0WN-2")
        .header("x-there", "0WN-3");
    let headers = headers.iter();
    let got = UpstreamRequest {
        path: path.as_bytes().to_vec(),
        headers: headers
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect(),
        ..UpstreamRequest::default()
    };
    oracle().judge(&sent, &got, &given().0, true)
}

#[test]
fn a_request_with_the_right_secrets_is_right() {
    let (_, one, two) = given();
    let key = format!("a {one}");
    let right = [
        (LABEL, "c1-r0"),
        ("x-key", key.as_str()),
        ("x-added", &one),
        ("x-more", "0WN-2"),
        ("x-more", &one),
        ("x-there", &one),
    ];
    let path = format!("/?k={one}");
    assert_eq!(judge(&right, &path), Ok(()));
    let basic = format!("Basic {}", STANDARD.encode(format!("u:{one}")));
    assert_eq!(
        judge(&[(LABEL, "c1-r1"), ("authorization", &basic)], "/"),
        Ok(())
    );
    assert_eq!(judge(&[(LABEL, "c1-r1")], "/"), Ok(()));
    for value in [two.as_str(), "none"] {
        assert_eq!(judge(&[(LABEL, "c1-r2"), ("x-key", value)], "/"), Ok(()));
    }
    assert_eq!(judge(&[(LABEL, "c1-r3"), ("x-key", "0WN-1")], "/"), Ok(()));
}

#[test]
fn a_request_that_was_let_through_is_wrong() {
    for headers in [&[][..], &[(LABEL, "")], &[(LABEL, "other")]] {
        assert!(judge(headers, "/").is_err(), "{headers:?}");
    }
}

#[test]
fn whatever_else_stands_in_a_field_is_wrong() {
    let (_, one, two) = given();
    let key = format!("a {one}");
    let path = format!("/?k={one}");
    let right = [
        (LABEL, "c1-r0"),
        ("x-key", key.as_str()),
        ("x-added", &one),
        ("x-more", "0WN-2"),
        ("x-more", &one),
        ("x-there", &one),
    ];
    for at in 1..right.len() {
        for wrong in ["0WN-1", "a {vault://a/b}", "", "a ", two.as_str()] {
            let mut headers = right;
            headers[at].1 = wrong;
            assert!(judge(&headers, &path).is_err(), "{headers:?}");
        }
        let mut without = right.to_vec();
        without.remove(at);
        assert!(judge(&without, &path).is_err(), "{without:?}");
    }
    let twice = format!("/?k={one}&k=0WN-q");
    let divided = format!("/?x;k=0WN-q&k={one}");
    let wrong = [
        "/?k=0WN-q",
        "/",
        "/?k=",
        "/?k=%7Bvault://a/b%7D",
        &twice,
        &divided,
    ];
    for path in wrong {
        assert!(judge(&right, path).is_err(), "{path}");
    }
    // A secret of another rule, wherever it stands.
    let elsewhere = [&right[..], &[("x-other", two.as_str())]].concat();
    assert!(judge(&elsewhere, &path).is_err());
}

#[test]
fn an_answer_says_nothing_but_what_the_rule_says() {
    let oracle = oracle();
    let answer = |body: &str| oracle.judge_answer(&Response::new(503, [], body));
    assert_eq!(answer("away"), Ok(()));
    assert_eq!(answer(r#"{"error":"not available"}"#), Ok(()));
    for body in ["{vault://a/b}", "0WN-1", &given().1, TOKEN] {
        assert!(answer(body).is_err(), "{body}");
    }
}
