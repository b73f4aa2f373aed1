//! The daemon through real sockets: who is let in, and what becomes of bad input.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Handle, Limits, Server, bind};
use crate::config::{Listen, parse};
use crate::environment::Environment;
use crate::resolver::Resolver;

mod clients;
mod input;
mod sockets;
mod strangers;

const DEADLINE: Duration = Duration::from_secs(20);

struct Daemon {
    directory: TempDir,
    tcp: String,
    listen: Vec<Listen>,
    handle: Handle,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Daemon {
    async fn start(clients: &str) -> Self {
        let limits = Limits {
            answer: Duration::from_millis(300),
            head: Duration::from_millis(300),
            body: Duration::from_millis(300),
            ..Limits::default()
        };
        Self::start_with(clients, limits, nix::unistd::geteuid().as_raw()).await
    }

    async fn start_with(clients: &str, limits: Limits, own_uid: u32) -> Self {
        let directory = TempDir::new().expect("a directory");
        std::fs::write(directory.path().join("edge.token"), "from-file\n").expect("written");
        // Nobody listens where the vault `away` is.
        let yaml = format!(
            "{{vaults: [{{name: fs, config: {{prefix: {0:?}}}}}, {{name: fs, prefix: again, config: {{prefix: {0:?}}}}},
               {{name: env, prefix: app}}, {{name: env, prefix: cloud, config: {{prefix: AWS_}}}},
               {{name: hcv, prefix: away, config: {{host: 127.0.0.1, port: 1, token: t}}}}],
              clients: [{clients}],
              listen: [{{unix: {1:?}, mode: \"0640\"}}, \"tcp://127.0.0.1:0\"]}}",
            directory.path(),
            directory.path().join("v.sock"),
        );
        let environment = Environment::from([
            ("TEST", "hunter2"),
            ("AWS_KEY", "aws-key"),
            ("AWS_KEY_PREVIOUS", "aws-key-before"),
            ("TOKEN", "a-token"),
            ("TOKEN_PREVIOUS", "a-token-before"),
        ]);
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
            listen: config.listen,
            handle: server.handle(),
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
