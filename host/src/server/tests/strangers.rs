//! Connections on which nobody has said who it is: they do not take the places of those who have.

use tokio::io::{DuplexStream, duplex};
use tokio::time::{Instant, sleep};

use super::*;
use crate::policy::Origin;
use crate::server::caller::Caller;
use crate::server::serve;

const KEPT: &str =
    "POST /v1/resolve HTTP/1.1\r\nhost: x\r\ncontent-length: 18\r\n\r\n{\"references\":[] }";

/// Sends it and reads one answer, on a connection that stays open unless the answer says otherwise.
async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length: "));
            if length.expect("a length").parse() == Ok(body.len()) {
                return text;
            }
        }
        let mut byte = [0];
        let read = timeout(DEADLINE, stream.read_exact(&mut byte)).await;
        read.expect("in time").expect("an answer");
        answer.push(byte[0]);
    }
}

fn closes(answer: &str) -> bool {
    answer.contains("connection: close\r\n")
}

#[tokio::test]
async fn a_connection_stays_open_for_a_client_and_for_nobody_else() {
    let uid = nix::unistd::geteuid().as_raw();
    let clients = format!(
        "{{name: a, peer: {{uid: {uid}}}, allow: [\"env/*\"]}}, {{name: b, tokens: [one], allow: []}}"
    );
    let limits = Limits::default();
    let daemon = Daemon::start_with(&clients, limits, uid + 1).await;
    let get =
        |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    let wrong = KEPT.replace("host: x\r\n", &format!("host: x\r\n{}", bearer("two")));
    let proxied = KEPT.replace("host: x\r\n", "host: x\r\nvia: 1.1 x\r\n");
    let strange = [
        get("/healthz", ""),
        get("/readyz", ""),
        get("/nothing", ""),
        get("/v1/resolve", ""),
        wrong.clone(),
        proxied.clone(),
    ];
    for request in &strange {
        let stream = UnixStream::connect(daemon.socket()).await;
        let mut stream = stream.expect("connected");
        let answer = say(&mut stream, request).await;
        assert!(closes(&answer), "{request}{answer}");
        let ended = timeout(DEADLINE, stream.read(&mut [0])).await;
        assert!(ended.expect("in time").is_ok_and(|read| read == 0));
    }
    for request in [KEPT, &get("/metrics", &bearer("two"))] {
        let mut stream = TcpStream::connect(&daemon.tcp).await.expect("connected");
        assert!(closes(&say(&mut stream, request).await), "{request}");
    }

    let stream = UnixStream::connect(daemon.socket()).await;
    let mut stream = stream.expect("connected");
    for request in [
        KEPT,
        &get("/healthz", ""),
        &get("/nothing", ""),
        KEPT,
        &proxied,
        KEPT,
    ] {
        let answer = say(&mut stream, request).await;
        assert!(!closes(&answer), "{request}{answer}");
    }
    // Who says that it is somebody else is nobody.
    assert!(closes(&say(&mut stream, &wrong).await));
}

#[tokio::test]
async fn what_a_user_has_too_many_of_is_closed_and_others_are_served() {
    let limits = Limits {
        connections: 6,
        ..Limits::default()
    };
    let daemon = Daemon::start_with("", limits, nix::unistd::geteuid().as_raw()).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let stream = UnixStream::connect(daemon.socket()).await;
        idle.push(stream.expect("connected"));
    }
    // In the order in which they came, as soon as only the share of another is left.
    for stream in &mut idle[4..] {
        let ended = timeout(DEADLINE, stream.read(&mut [0])).await;
        assert!(!ended.expect("in time").is_ok_and(|read| read > 0));
    }
    check(&daemon.tcp(&ask("")).await, 401, "unauthorized");
    // The first ones are served when they speak, and make room.
    let answer = exchange(idle.swap_remove(0), &ask("")).await;
    check(&answer, 200, "hunter2");
}

struct Wired {
    stream: DuplexStream,
    start: Instant,
    /// Whose other end would say that the daemon stops.
    _stop: watch::Sender<bool>,
}

/// A connection to a daemon that serves our own user, on a wire that time cannot wait for.
fn wired(uid: u32) -> Wired {
    let environment = Environment::from([("TEST", "hunter2")]);
    let config = parse("{vaults: [{name: env}]}", &Arc::new(environment)).expect("a configuration");
    let resolver = Resolver::new(config.vaults, 1, tokio::runtime::Handle::current());
    let server = Server::new(resolver, config.clients, 7, Limits::default());
    let (ours, theirs) = duplex(4096);
    let (stop, stopped) = watch::channel(false);
    let caller = Caller::new(Origin::Unix { uid, gid: 7 });
    let state = Arc::clone(&server.state);
    tokio::spawn(serve(theirs, caller, state, server.limits, stopped));
    Wired {
        stream: ours,
        start: Instant::now(),
        _stop: stop,
    }
}

impl Wired {
    /// After how many seconds it is closed.
    async fn ends(mut self) -> u64 {
        let _ = self.stream.read_to_end(&mut Vec::new()).await;
        self.start.elapsed().as_secs()
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_who_it_is_is_cut_off_in_time() {
    let limits = Limits::default();
    let silent = wired(7);
    assert_eq!(silent.ends().await, limits.stranger.as_secs());

    let mut slow = wired(7);
    let dripping = async {
        for byte in KEPT.bytes() {
            sleep(Duration::from_secs(1)).await;
            if slow.stream.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        slow.start.elapsed().as_secs()
    };
    assert_eq!(dripping.await, limits.stranger.as_secs() + 1);

    // A client keeps its connection for as long as gateways keep theirs, and a slow body.
    let mut client = wired(7);
    assert!(!closes(&say(&mut client.stream, KEPT).await));
    assert_eq!(client.ends().await, limits.head.as_secs());
    let mut late = wired(7);
    sleep(Duration::from_secs(10)).await;
    let (first, rest) = KEPT.split_at(KEPT.len() - 1);
    late.stream.write_all(first.as_bytes()).await.expect("sent");
    sleep(limits.body - Duration::from_secs(1)).await;
    assert!(say(&mut late.stream, rest).await.contains("\"results\":[]"));
}
