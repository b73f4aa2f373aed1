//! `vaultref flush`: has a running daemon read values anew.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::{ConfigFile, Status, output};
use crate::config::Listen;
use crate::environment::Environment;
use crate::server::FLUSH_PATH;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(super) struct Flush {
    /// The reference whose object is to be read anew
    #[arg(value_name = "REF", conflicts_with = "vault")]
    reference: Option<String>,
    /// All of a vault, by its name in references
    #[arg(long, value_name = "NAME")]
    vault: Option<String>,
    /// Everything
    #[arg(long, conflicts_with_all = ["reference", "vault"], required_unless_present_any = ["reference", "vault"])]
    all: bool,
    /// The daemon's Unix socket [default: the first one in the configuration]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

impl Flush {
    pub(super) async fn run(self, environment: &Arc<Environment>) -> Status {
        let socket = match self.socket(environment) {
            Ok(socket) => socket,
            Err(problem) => {
                output::problem(&problem);
                return Status::Usage;
            }
        };
        let reference = self.reference.as_deref().map(super::get::whole);
        let body = json!({ "reference": reference, "vault": self.vault }).to_string();
        let asked = tokio::time::timeout(PATIENCE, post(&socket, body)).await;
        match asked.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
            Ok((StatusCode::OK, answer)) => {
                let count = answer.get("flushed").and_then(Value::as_u64);
                output::line(&format!("{} objects", count.unwrap_or_default()));
                Status::Ok
            }
            Ok((status, answer)) => {
                let message = answer.pointer("/refusal/message").and_then(Value::as_str);
                output::problem(message.unwrap_or(status.as_str()));
                match status {
                    StatusCode::FORBIDDEN => Status::Denied,
                    _ => Status::Usage,
                }
            }
            Err(cause) => {
                output::problem(&format!("{}: {cause}", socket.display()));
                Status::Unavailable
            }
        }
    }

    fn socket(&self, environment: &Arc<Environment>) -> Result<PathBuf, String> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let config = self.config.load(environment);
        let config = config.map_err(|error| error.to_string())?;
        let mut sockets = config.listen.into_iter().filter_map(|listen| match listen {
            Listen::Tcp(_) => None,
            Listen::Unix { path, .. } => Some(path),
        });
        sockets.next().ok_or_else(|| {
            "the configuration has no Unix socket: say where with --socket".to_owned()
        })
    }
}

async fn post(socket: &std::path::Path, body: String) -> Result<(StatusCode, Value), String> {
    let phrase = |error: &dyn std::error::Error| error.to_string();
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| format!("cannot be reached: {}", error.kind()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| phrase(&error))?;
    tokio::spawn(connection);
    let request = Request::post(FLUSH_PATH)
        .header(header::HOST, "vaultref")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(body))
        .map_err(|error| phrase(&error))?;
    let answer = sender.send_request(request).await;
    let (head, body) = answer.map_err(|error| phrase(&error))?.into_parts();
    let body = body.collect().await.map_err(|error| phrase(&error))?;
    let body = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    Ok((head.status, body))
}
