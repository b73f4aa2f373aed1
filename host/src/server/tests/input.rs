//! What becomes of bad input, and of clients that are slow or many.

use super::*;

#[tokio::test]
async fn bad_requests_are_refused_and_do_no_harm() {
    let daemon = Daemon::start("").await;
    let many = |count| format!(r#"{{"references":[{}]}}"#, vec!["\"x\""; count].join(","));
    for (request, status, holds) in [
        (
            b"GET /v1/resolve HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
            405,
            "bad-request",
        ),
        (
            b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
            404,
            "bad-request",
        ),
        (
            b"POST /v1/resolve/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
            404,
            "bad-request",
        ),
        (post("", ""), 400, "bad-request"),
        (post("", "hunter3"), 400, "bad-request"),
        (post("", "{}"), 400, "bad-request"),
        (post("", r#"{"references":[1]}"#), 400, "bad-request"),
        (
            post("", r#"{"references":[],"hunter3":1}"#),
            400,
            "bad-request",
        ),
        (
            post("", r#"{"references":["x"],"wait_ms":-1}"#),
            400,
            "bad-request",
        ),
        (
            post("", r#"{"references":["x"],"known":["a","b"]}"#),
            400,
            "'known'",
        ),
        (post("", &"[".repeat(100_000)), 400, "bad-request"),
        (post("", &many(1025)), 400, "more than 1024"),
        (post("", &many(1024)), 200, "invalid-reference"),
        (post("", &many(0)), 200, "\"results\":[]"),
        (
            post(
                "",
                &format!(
                    r#"{{"references":["{{vault://env/{}}}"]}}"#,
                    "x".repeat(5000)
                ),
            ),
            200,
            "invalid-reference",
        ),
        (post("", &"x".repeat(10 * 1024 * 1024)), 413, "too-large"),
    ] {
        let answer = daemon.unix(&request).await;
        check(&answer, status, holds);
        assert!(!answer.contains("hunter3"), "repeats the request: {answer}");
    }
    // Announced, but never sent: refused without waiting for it.
    let announced = "POST /v1/resolve HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 10485760\r\n\r\n";
    check(&daemon.unix(announced.as_bytes()).await, 413, "too-large");
    daemon.lives().await;
}

#[tokio::test]
async fn garbage_half_closed_and_slow_clients_do_no_harm() {
    let daemon = Daemon::start("").await;
    for garbage in [
        &b"\xff\xfe\x00garbage\r\n\r\n"[..],
        b"POST /v1/resolve HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ] {
        daemon.unix(garbage).await;
        daemon.tcp(garbage).await;
    }
    daemon
        .unix(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200_000)).as_bytes())
        .await;
    // Gone in the middle of a body.
    let mut stream = UnixStream::connect(daemon.socket())
        .await
        .expect("connected");
    stream
        .write_all(b"POST /v1/resolve HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        .await
        .expect("sent");
    drop(stream);
    // Half closed: nothing more will come, an answer is still awaited.
    let mut stream = UnixStream::connect(daemon.socket())
        .await
        .expect("connected");
    stream
        .write_all(b"POST /v1/resolve HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        .await
        .expect("sent");
    stream.shutdown().await.expect("half closed");
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .expect("closed in time");
    // A head, and a body, that never end.
    let answer = daemon.unix(b"POST /v1/resolve HTTP/1.1\r\nhost:").await;
    assert!(!answer.contains(" 200 "), "{answer}");
    let slow = b"POST /v1/resolve HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    check(&daemon.unix(slow).await, 400, "took too long");
    daemon.lives().await;
}

#[tokio::test]
async fn more_connections_than_are_allowed_wait_their_turn() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let uid = nix::unistd::geteuid().as_raw();
    let daemon = Daemon::start_with("", limits, uid).await;
    // One that comes later has no places of its own either.
    let later = Listen::Unix {
        path: daemon.directory.path().join("later.sock"),
        mode: 0o600,
        group: None,
    };
    let wanted = [&daemon.listen[..], &[later]].concat();
    let listening = daemon.handle.listen(&daemon.listen, &wanted);
    listening.await.expect("bound");
    let idle = TcpStream::connect(&daemon.tcp).await.expect("connected");
    let stream = UnixStream::connect(daemon.directory.path().join("later.sock"));
    let request = ask("");
    let mut asking = Box::pin(exchange(stream.await.expect("connected"), &request));
    let early = timeout(Duration::from_millis(100), &mut asking).await;
    assert!(early.is_err(), "there was no place for it");
    drop(idle);
    let answer = timeout(DEADLINE, asking).await.expect("its turn came");
    check(&answer, 200, "hunter2");
    // One that waits does not keep the daemon from stopping.
    let _idle = UnixStream::connect(daemon.socket())
        .await
        .expect("connected");
    daemon.stop().await;
}

/// One that asks and never reads would keep its place, and a few of them the daemon, for ever.
#[tokio::test]
async fn a_client_that_does_not_read_its_answer_loses_its_place() {
    let limits = Limits {
        answer: Duration::from_millis(300),
        connections: 1,
        ..Limits::default()
    };
    let uid = nix::unistd::geteuid().as_raw();
    let daemon = Daemon::start_with("", limits, uid).await;
    // Far more than the buffers of two sockets hold.
    std::fs::write(daemon.directory.path().join("large"), "x".repeat(8192)).expect("written");
    let references = vec!["\"{vault://fs/large}\""; 1024].join(",");
    let body = format!(r#"{{"references":[{references}],"wait_ms":5000}}"#);
    let mut deaf = UnixStream::connect(daemon.socket())
        .await
        .expect("connected");
    deaf.write_all(&post("", &body)).await.expect("sent");
    let others = timeout(DEADLINE, daemon.tcp(&ask(""))).await;
    check(
        &others.expect("its place is free again"),
        401,
        "unauthorized",
    );
    drop(deaf);
}

#[tokio::test]
async fn an_open_request_is_answered_when_the_daemon_stops() {
    let limits = Limits {
        body: Duration::from_secs(10),
        ..Limits::default()
    };
    let daemon = Daemon::start_with("", limits, nix::unistd::geteuid().as_raw()).await;
    let request = String::from_utf8(ask("")).expect("text");
    let (first, rest) = request.split_at(request.len() - 10);
    let mut stream = UnixStream::connect(daemon.socket())
        .await
        .expect("connected");
    stream.write_all(first.as_bytes()).await.expect("sent");
    // Seen by the daemon once it answers another on a later connection.
    daemon.lives().await;
    daemon.stop.send_replace(true);
    stream.write_all(rest.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .expect("in time")
        .expect("read");
    check(&answer, 200, "hunter2");
    daemon.stop().await;
}
