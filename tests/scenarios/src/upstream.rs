//! The service behind the gateway: a real HTTP server that remembers every request
//! as it came over the wire, so that a scenario can look at what really went out.
//!
//! It can speak TLS, also to a client that comes through a proxy: it takes the `CONNECT` for the
//! proxy's part and then is the server that was meant.
//!
//! Under load it only tallies the values of one header: what counts there is that
//! every single request carried a right one.

mod reply;
mod tally;

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

pub use self::reply::Reply;
pub use self::tally::Tallied;
use self::tally::Tally;
use crate::certificates::Identity;
use crate::wait;

/// A request as it arrived: header names in lower case, in order, with duplicates.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The path with its query string.
    pub path: String,
    /// Names and values in the order in which they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
}

impl Received {
    /// The only value of this header, as text; nothing when it is absent.
    ///
    /// # Panics
    ///
    /// When the header came twice: a test that asks for *the* value would miss the other.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let mut values = self.header_values(name);
        assert!(values.len() < 2, "{name} came more than once: {values:?}");
        values.pop()
    }

    /// All values of this header, as text.
    #[must_use]
    pub fn header_values(&self, name: &str) -> Vec<String> {
        let matching = self
            .headers
            .iter()
            .filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name));
        matching
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// All of it as text, to look for what must not be in it.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut text = format!("{} {}\n", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value)));
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&self.body));
        text
    }
}

type Answer = dyn Fn(&Received) -> Reply + Send + Sync;

/// A running upstream. Dropping it closes its socket and its connections.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Box<Answer>,
    tls: Option<Arc<ServerConfig>>,
    tally: Option<Mutex<Tally>>,
    accepted: AtomicUsize,
    requests: Mutex<Vec<Received>>,
    connections: Mutex<Vec<TcpStream>>,
    closed: AtomicBool,
}

impl Upstream {
    /// Records every request and answers 200.
    ///
    /// # Errors
    ///
    /// When the machine has no free port.
    pub fn start() -> Result<Self> {
        Self::answering(|_| Reply::status(200).body("upstream\n"))
    }

    /// Records every request and answers what `answer` says.
    ///
    /// # Errors
    ///
    /// When the machine has no free port.
    pub fn answering(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::listen(Box::new(answer), None, None)
    }

    /// The same over TLS.
    ///
    /// # Errors
    ///
    /// When the machine has no free port, or the identity cannot be used.
    pub fn answering_tls(
        identity: &Identity,
        answer: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::listen(Box::new(answer), None, Some(identity.server_config()?))
    }

    /// For load: remembers no request, only how often each value of these headers
    /// came; a request without them counts under the empty text, several values
    /// count as one with commas between.
    ///
    /// # Errors
    ///
    /// When the machine has no free port.
    pub fn tallying(headers: &[&str]) -> Result<Self> {
        Self::listen(
            Box::new(|_| Reply::status(200).body("upstream\n")),
            Some(Tally::of(headers)),
            None,
        )
    }

    fn listen(
        answer: Box<Answer>,
        tally: Option<Tally>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for the upstream")?;
        let address = listener.local_addr().context("the upstream's address")?;
        let shared = Arc::new(Shared {
            answer,
            tls,
            tally: tally.map(Mutex::new),
            accepted: AtomicUsize::new(0),
            requests: Mutex::default(),
            connections: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there have been.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        lock(&self.shared.requests).clone()
    }

    /// The last request.
    ///
    /// # Errors
    ///
    /// When there was none.
    pub fn last(&self) -> Result<Received> {
        lock(&self.shared.requests)
            .last()
            .cloned()
            .context("the upstream got no request")
    }

    /// Forgets the requests and the tally so far.
    pub fn clear(&self) {
        lock(&self.shared.requests).clear();
        if let Some(tally) = &self.shared.tally {
            lock(tally).clear();
        }
    }

    /// How often each value of the tallied headers came.
    #[must_use]
    pub fn tally(&self) -> HashMap<String, u64> {
        let Some(tally) = &self.shared.tally else {
            return HashMap::new();
        };
        let tally = lock(tally);
        let values = tally.values().iter();
        values
            .map(|(value, of)| (value.clone(), of.count))
            .collect()
    }

    /// How often a value came, and when.
    #[must_use]
    pub fn tallied(&self, value: &str) -> Option<Tallied> {
        let tally = lock(self.shared.tally.as_ref()?);
        tally.values().get(value).copied()
    }

    /// Closes the connections that there are.
    pub fn hang_up(&self) {
        for connection in lock(&self.shared.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Waits until so many requests are recorded.
    ///
    /// # Errors
    ///
    /// When they do not come in time.
    pub fn wait_for(&self, count: usize) -> Result<()> {
        let what = format!("{count} requests at the upstream");
        wait::until_true(&what, wait::SOON, || {
            lock(&self.shared.requests).len() >= count
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.hang_up();
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Upstream")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            self.accepted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.set_nodelay(true);
            if let Ok(clone) = stream.try_clone() {
                lock(&self.connections).push(clone);
            }
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // A client that goes away, or speaks no HTTP, ends its connection only.
                let _ = shared.greet(&stream);
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    }

    fn greet(&self, stream: &TcpStream) -> Result<()> {
        let Some(tls) = &self.tls else {
            return self.serve(stream);
        };
        let mut first = [0];
        if stream.peek(&mut first)? == 1 && first == *b"C" {
            // The client says nothing more before it has the answer.
            read_request(&mut BufReader::new(stream))?;
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        }
        let connection = ServerConnection::new(Arc::clone(tls))?;
        let mut stream = StreamOwned::new(connection, stream);
        let served = self.serve(&mut stream);
        stream.conn.send_close_notify();
        let _ = stream.flush();
        served
    }

    fn serve(&self, stream: impl Read + Write) -> Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader)? {
            let reply = (self.answer)(&request);
            match &self.tally {
                Some(tally) => lock(tally).note(&request),
                None => lock(&self.requests).push(request),
            }
            if !reply.delay.is_zero() {
                thread::sleep(reply.delay);
            }
            let writer = reader.get_mut();
            writer.write_all(&reply.bytes())?;
            writer.flush()?;
            if reply.stalls {
                // Until the client has had enough of it.
                io::copy(&mut reader, &mut io::sink())?;
            }
            if reply.raw.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn read_request(reader: &mut impl BufRead) -> Result<Option<Received>> {
    let first = read_line(reader)?;
    if first.is_empty() {
        return Ok(None);
    }
    let first = String::from_utf8_lossy(&first).into_owned();
    let mut parts = first.split(' ');
    let (Some(method), Some(path)) = (parts.next(), parts.next()) else {
        bail!("no request line: {first:?}")
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .context("a header line without a colon")?;
        let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
        headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    let body = read_body(reader, &headers)?;
    Ok(Some(Received {
        method: method.to_owned(),
        path: path.to_owned(),
        headers,
        body,
    }))
}

fn read_body(reader: &mut impl BufRead, headers: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let value = |wanted: &str| {
        headers
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_slice())
    };
    if value("transfer-encoding").is_some() {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8_lossy(&read_line(reader)?).into_owned();
            let size = usize::from_str_radix(line.trim(), 16).context("the size of a chunk")?;
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk)?;
            body.extend(chunk);
            read_line(reader)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    let length = match value("content-length") {
        Some(text) => std::str::from_utf8(text)?.parse()?,
        None => 0,
    };
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn read_line(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    Ok(line.trim_ascii_end().to_vec())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
