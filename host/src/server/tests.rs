//! The daemon through real sockets: who is let in, and what becomes of bad input.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Limits, Server, bind};
use crate::config::{Listen, parse};
use crate::environment::Environment;
use crate::resolver::Resolver;

const DEADLINE: Duration = Duration::from_secs(20);

struct Daemon {
    directory: TempDir,
    tcp: String,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Daemon {
    async fn start(clients: &str) -> Self {
        let limits = Limits {
            head: Duration::from_millis(300),
            body: Duration::from_millis(300),
            ..Limits::default()
        };
        Self::start_with(clients, limits, nix::unistd::geteuid().as_raw()).await
    }

    async fn start_with(clients: &str, limits: Limits, own_uid: u32) -> Self {
        let directory = TempDir::new().expect("a directory");
        std::fs::write(directory.path().join("edge.token"), "from-file\n").expect("written");
        let yaml = format!(
            "{{vaults: [{{name: fs, config: {{prefix: {:?}}}}}], clients: [{clients}],
              listen: [{{unix: {:?}, mode: \"0640\"}}, \"tcp://127.0.0.1:0\"]}}",
            directory.path(),
            directory.path().join("v.sock"),
        );
        let environment = Environment::from([("TEST", "hunter2"), ("AWS_KEY", "aws")]);
        let config = parse(&yaml, &Arc::new(environment)).expect("a configuration");
        let mut listeners = Vec::new();
        for listen in &config.listen {
            listeners.push((listen.clone(), bind(listen).await.expect("bound")));
        }
        let tcp = listeners[1].1.address().replace("tcp://", "");
        let resolver = Resolver::new(config.vaults, 1, tokio::runtime::Handle::current());
        let server = Server::new(resolver, config.clients, own_uid, limits);
        server.warm_up().await;
        let (stop, stopped) = watch::channel(false);
        Self {
            directory,
            tcp,
            stop,
            serving: tokio::spawn(server.run(listeners, stopped)),
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("v.sock")
    }

    async fn unix(&self, request: &[u8]) -> String {
        let stream = UnixStream::connect(self.socket()).await.expect("connected");
        exchange(stream, request).await
    }

    async fn tcp(&self, request: &[u8]) -> String {
        let stream = TcpStream::connect(&self.tcp).await.expect("connected");
        exchange(stream, request).await
    }

    /// It still serves, whatever came before.
    async fn lives(&self) {
        let answer = self.unix(&ask("")).await;
        assert!(answer.contains("hunter2"), "{answer}");
    }

    async fn stop(self) -> TempDir {
        self.stop.send_replace(true);
        timeout(DEADLINE, self.serving)
            .await
            .expect("in time")
            .expect("no panic");
        self.directory
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    // The daemon may have answered and closed before it has all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .expect("in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fn ask(headers: &str) -> Vec<u8> {
    post(
        headers,
        r#"{"references":["{vault://env/test}"],"wait_ms":5000}"#,
    )
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /v1/resolve HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn check(answer: &str, status: u16, holds: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{status}: {answer}"
    );
    assert!(
        answer.contains("x-vaultref-contract: 1\r\n"),
        "no marker: {answer}"
    );
    assert!(
        answer.contains("cache-control: no-store\r\n"),
        "may be stored: {answer}"
    );
    assert!(answer.contains(holds), "no {holds}: {answer}");
    assert_eq!(status == 200, !answer.contains("refusal"), "{answer}");
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn without_clients_our_own_user_alone_is_served() {
    let daemon = Daemon::start("").await;
    check(&daemon.unix(&ask("")).await, 200, "hunter2");
    check(&daemon.tcp(&ask("")).await, 401, "unauthorized");
    check(&daemon.tcp(&ask(&bearer("x"))).await, 401, "unauthorized");
    let uid = nix::unistd::geteuid().as_raw() + 1;
    let of_another = Daemon::start_with("", Limits::default(), uid).await;
    check(&of_another.unix(&ask("")).await, 401, "unauthorized");
}

#[tokio::test]
async fn a_client_is_known_by_peer_token_or_both() {
    let (uid, gid) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let allow = "allow: [\"env/*\"]";
    let only = |fields: String| format!("{{name: c, {fields}, {allow}}}");
    let file = "{vault://fs/edge.token}";
    let none = String::new();
    let (unix, tcp) = (true, false);
    for (client, on_unix, headers, status) in [
        (
            only(format!("peer: {{uid: {uid}}}")),
            unix,
            none.clone(),
            200,
        ),
        (
            only(format!("peer: {{uid: {uid}, gid: {gid}}}")),
            unix,
            none.clone(),
            200,
        ),
        (
            only(format!("peer: {{uid: {}}}", uid + 1)),
            unix,
            none.clone(),
            401,
        ),
        (
            only(format!("peer: {{gid: {}}}", gid + 1)),
            unix,
            none.clone(),
            401,
        ),
        (
            only(format!("peer: {{uid: {uid}}}")),
            tcp,
            none.clone(),
            401,
        ),
        (
            only(format!("peer: {{uid: {uid}}}")),
            unix,
            bearer("junk"),
            401,
        ),
        (only("tokens: [one, two]".into()), tcp, bearer("one"), 200),
        (only("tokens: [one, two]".into()), tcp, bearer("two"), 200),
        (only("tokens: [one, two]".into()), unix, bearer("two"), 200),
        (only("tokens: [one, two]".into()), tcp, bearer("three"), 401),
        (only("tokens: [one, two]".into()), tcp, bearer("on"), 401),
        (only("tokens: [one, two]".into()), tcp, bearer(""), 401),
        (only("tokens: [one, two]".into()), tcp, none.clone(), 401),
        (only("tokens: [one, two]".into()), unix, none.clone(), 401),
        (
            only("tokens: [one]".into()),
            tcp,
            "authorization: Basic one\r\n".into(),
            401,
        ),
        (
            only("tokens: [one]".into()),
            tcp,
            bearer("one").repeat(2),
            401,
        ),
        (
            only(format!("tokens: [\"{file}\"]")),
            tcp,
            bearer("from-file"),
            200,
        ),
        (
            only(format!("tokens: [\"{file}\"]")),
            tcp,
            bearer("from-fil"),
            401,
        ),
        (
            only("tokens: [\"{vault://fs/none}\", two]".into()),
            tcp,
            bearer("two"),
            200,
        ),
        (
            only("tokens: [\"{vault://fs/none}\"]".into()),
            tcp,
            bearer(""),
            401,
        ),
        (
            only(format!("tokens: [one], peer: {{uid: {uid}}}")),
            unix,
            bearer("one"),
            200,
        ),
        (
            only(format!("tokens: [one], peer: {{uid: {uid}}}")),
            unix,
            none.clone(),
            401,
        ),
        (
            only(format!("tokens: [one], peer: {{uid: {uid}}}")),
            tcp,
            bearer("one"),
            401,
        ),
        (
            only(format!("tokens: [one], peer: {{uid: {}}}", uid + 1)),
            unix,
            bearer("one"),
            401,
        ),
    ] {
        let daemon = Daemon::start(&client).await;
        let request = ask(&headers);
        let answer = if on_unix {
            daemon.unix(&request).await
        } else {
            daemon.tcp(&request).await
        };
        let holds = if status == 200 {
            "hunter2"
        } else {
            "unauthorized"
        };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{client} {headers}: {answer}"
        );
        check(&answer, status, holds);
    }
}

#[tokio::test]
async fn of_several_clients_the_one_that_asks_for_most_is_meant() {
    let uid = nix::unistd::geteuid().as_raw();
    let clients = format!(
        "{{name: gateway, peer: {{uid: {uid}}}}}, {{name: filter, tokens: [one, two], allow: [\"env/TEST\"]}},
         {{name: both, peer: {{uid: {uid}}}, tokens: [two], allow: [\"env/*\", \"fs/*\"], deny: [\"env/AWS_*\"]}}"
    );
    let daemon = Daemon::start(&clients).await;
    check(&daemon.unix(&ask("")).await, 200, "\"denied\"");
    check(&daemon.unix(&ask(&bearer("one"))).await, 200, "hunter2");
    let file = r#"{"references":["{vault://fs/edge.token}"],"wait_ms":5000}"#;
    let answer = daemon.unix(&post(&bearer("one"), file)).await;
    check(&answer, 200, "\"denied\"");
    let answer = daemon.unix(&post(&bearer("two"), file)).await;
    check(&answer, 200, "from-file");
    let aws = r#"{"references":["{vault://env/aws-key}","{vault://env/aws-none}","{vault://env/test}"],"wait_ms":5000}"#;
    let answer = daemon.unix(&post(&bearer("two"), aws)).await;
    check(&answer, 200, "hunter2");
    let denied = r#"{"failure":{"kind":"denied","retryable":false,"retry_after":null}}"#;
    assert_eq!(
        answer.matches(denied).count(),
        2,
        "it shows whether it exists: {answer}"
    );
}

#[tokio::test]
async fn what_comes_through_a_proxy_is_refused_on_every_listener() {
    let uid = nix::unistd::geteuid().as_raw();
    let clients = format!(
        "{{name: a, peer: {{uid: {uid}}}, allow: [\"env/*\"]}}, {{name: b, tokens: [one], allow: [\"env/*\"]}}"
    );
    let daemon = Daemon::start(&clients).await;
    for header in [
        "x-forwarded-for: 1.2.3.4\r\n",
        "X-Forwarded-For:\r\n",
        "forwarded: for=x\r\n",
        "Via: 1.1 x\r\n",
    ] {
        check(&daemon.unix(&ask(header)).await, 403, "forbidden");
        check(
            &daemon
                .tcp(&ask(&format!("{header}{}", bearer("one"))))
                .await,
            403,
            "forbidden",
        );
    }
    // What Envoy adds to a callout of its own.
    let envoy = "x-envoy-internal: true\r\nx-envoy-expected-rq-timeout-ms: 1000\r\n";
    check(&daemon.unix(&ask(envoy)).await, 200, "hunter2");
}

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
    let idle = UnixStream::connect(daemon.socket())
        .await
        .expect("connected");
    let mut asking = Box::pin(daemon.lives());
    let early = timeout(Duration::from_millis(100), &mut asking).await;
    assert!(early.is_err(), "there was no place for it");
    check(&daemon.tcp(&ask("")).await, 401, "unauthorized");
    drop(idle);
    timeout(DEADLINE, asking).await.expect("its turn came");
    // One that waits does not keep the daemon from stopping.
    let _idle = UnixStream::connect(daemon.socket())
        .await
        .expect("connected");
    daemon.stop().await;
}

#[tokio::test]
async fn a_socket_is_made_with_its_mode_and_removed_at_the_end() {
    use std::os::unix::fs::MetadataExt as _;
    let daemon = Daemon::start("").await;
    let about = std::fs::metadata(daemon.socket()).expect("a socket");
    assert_eq!(about.mode() & 0o777, 0o640);
    let left: Vec<_> = std::fs::read_dir(daemon.directory.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left.len(), 2, "the socket and the token: {left:?}");
    let path = daemon.socket();
    let directory = daemon.stop().await;
    assert!(directory.path().exists() && !path.exists());
}

fn unix_at(path: &Path, group: Option<&str>) -> Listen {
    Listen::Unix {
        path: path.to_owned(),
        mode: 0o600,
        group: group.map(str::to_owned),
    }
}

#[tokio::test]
async fn what_is_in_the_way_of_a_socket() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("v.sock");
    let error = async |listen: Listen| bind(&listen).await.expect_err("an error").to_string();

    let missing = directory.path().join("none/v.sock");
    assert!(
        error(unix_at(&missing, None))
            .await
            .contains("none does not exist")
    );
    let long = directory.path().join("x".repeat(120));
    assert!(
        error(unix_at(&long, None))
            .await
            .contains("longer than 107 bytes")
    );
    assert!(
        error(unix_at(&path, Some("no-such-group")))
            .await
            .contains("no group 'no-such-group'")
    );
    std::fs::write(&path, "a file").expect("written");
    assert!(error(unix_at(&path, None)).await.contains("no socket"));
    assert_eq!(
        std::fs::read_to_string(&path).expect("still there"),
        "a file"
    );
    std::fs::remove_file(&path).expect("removed");

    let listening = UnixListener::bind(&path).expect("bound");
    assert!(
        error(unix_at(&path, None))
            .await
            .contains("another process is listening")
    );
    drop(listening);
    assert!(path.exists(), "left over");
    let bound = bind(&unix_at(&path, None))
        .await
        .expect("the stale one is replaced");
    drop(bound);
    assert!(!path.exists());
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let address = taken.local_addr().expect("its address");
    assert!(
        error(Listen::Tcp(address))
            .await
            .contains(&address.to_string())
    );
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
