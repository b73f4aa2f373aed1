//! A server that is slow, away, broken, or somebody else.
//!
//! Each fault is the same for all backends, and so is the kind of failure. How often the server was
//! asked is counted: what is transient is asked for again, all else once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vaultref_contract::wire::FailureKind;
use vaultref_scenarios::certificates::Authority;
use vaultref_scenarios::upstream::{Received, Reply, Upstream};
use vaultref_scenarios::wait;

use crate::bench::{Asking, Bench, Got, MARK, Verdict, refusing};
use crate::kit::{Fixture, Server};

/// How often one read asks when it fails in a way that may be over at once.
const ATTEMPTS: usize = 3;

/// The vault's timeout in seconds, where a row is not about it.
const TIMEOUT: u64 = 10;

const NO_SERVER: Verdict = Verdict::LeftOut("no server is asked");

pub fn slow_answer<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    time_out(bench, |_| Reply::stall(""))
}

pub fn stalled_answer<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    time_out(bench, |_| {
        Reply::stall(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"",
        )
    })
}

/// The vault's own timeout ends it, whatever a client library has for one.
fn time_out<F: Fixture>(
    bench: &mut Bench<F>,
    reply: impl Fn(usize) -> Reply + Send + Sync + 'static,
) -> Result<Verdict> {
    let Some(faulty) = Faulty::start(bench, reply)? else {
        return Ok(NO_SERVER);
    };
    let asking = faulty.asking(bench, 1)?;
    let reads = Arc::clone(&faulty.reads);
    let got = asking.get_with_time_up(&faulty.reference, Duration::from_secs(1), move || {
        wait::until_true("a request", wait::SOON, || reads.load(Ordering::SeqCst) > 0)
    })?;
    got.fails(FailureKind::Unavailable)?;
    faulty.was_asked(1)?;
    Ok(Verdict::Shown)
}

pub fn connection_refused<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let (address, _socket) = refusing()?;
    let authority = Authority::new()?;
    let server = Server {
        address,
        ca: is_tls(bench).then(|| authority.file()),
    };
    let Some(config) = bench.fixture.config_at(&server) else {
        return Ok(NO_SERVER);
    };
    let asking = bench.resolver_of(config, &json!({ "timeout": TIMEOUT }))?;
    let got = asking.get(&bench.value_reference(&bench.name("x"), ""))?;
    got.fails(FailureKind::Unavailable)?;
    Ok(Verdict::Shown)
}

pub fn connection_closed<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let reply = Reply::raw("");
    fault(bench, reply, FailureKind::Unavailable, Times::Any)
}

pub fn too_many_requests<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let reply = refusal(429);
    fault(bench, reply, FailureKind::Unavailable, Times::Retried)
}

pub fn too_many_requests_with_seconds<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    come_back_in_two_minutes(bench, refusal(429).header("retry-after", "120"))
}

pub fn too_many_requests_with_a_date<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    // The server's clock is its own.
    let reply = refusal(429)
        .header("date", "Tue, 06 Jan 2026 23:59:00 GMT")
        .header("retry-after", "Wed, 07 Jan 2026 00:01:00 GMT");
    come_back_in_two_minutes(bench, reply)
}

/// Later than the vault's timeout: it is not asked again, and the client is told when to.
fn come_back_in_two_minutes<F: Fixture>(bench: &mut Bench<F>, reply: Reply) -> Result<Verdict> {
    let Some(faulty) = Faulty::start(bench, move |_| reply.clone())? else {
        return Ok(NO_SERVER);
    };
    let got = faulty.get(bench)?;
    let failure = got.fails(FailureKind::Unavailable)?;
    let after = failure.retry_after;
    ensure!(
        after.is_some_and(|after| (100..=120).contains(&after)),
        "{got}"
    );
    faulty.was_asked(1)?;
    Ok(Verdict::Shown)
}

pub fn server_error<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let reply = refusal(500);
    fault(bench, reply, FailureKind::Unavailable, Times::Retried)
}

pub fn server_unavailable<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let reply = refusal(503);
    fault(bench, reply, FailureKind::Unavailable, Times::Retried)
}

pub fn over_after_one_retry<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let content = bench.value_content("one");
    let Some(good) = bench.fixture.good_answer(&bench.name("x"), &content) else {
        return Ok(Verdict::LeftOut("the fixture knows no good answer"));
    };
    let reply = move |before| match before {
        0 => refusal(503),
        _ => good.clone(),
    };
    let Some(faulty) = Faulty::start(bench, reply)? else {
        return Ok(NO_SERVER);
    };
    faulty.get(bench)?.is("one")?;
    faulty.was_asked(2)?;
    Ok(Verdict::Shown)
}

pub fn answers_403<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    fault(bench, refusal(403), FailureKind::Denied, Times::Once)
}

pub fn answers_404<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    fault(bench, refusal(404), FailureKind::NotFound, Times::Once)
}

pub fn malformed_answer<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    if bench.fixture.any_body_is_good() {
        return Ok(Verdict::LeftOut("any body is a secret"));
    }
    let page = format!("<html><body>Sign in, {MARK}</body></html>");
    let bodies = [
        ("text/html", page.clone()),
        ("application/json", page),
        ("application/json", String::new()),
        (
            "application/json",
            format!("{{\"data\":{{\"{MARK}\":\"{MARK}"),
        ),
        ("application/json", format!("[\"{MARK}\"]")),
        ("application/json", format!("\"{MARK}\"")),
        ("application/json", "null".to_owned()),
    ];
    for (content_type, body) in bodies {
        let reply = Reply::status(200).header("content-type", content_type);
        let verdict = fault(
            bench,
            reply.body(&body),
            FailureKind::Unavailable,
            Times::Any,
        );
        match verdict.with_context(|| format!("{content_type}: {body:?}"))? {
            Verdict::Shown => {}
            left_out => return Ok(left_out),
        }
    }
    Ok(Verdict::Shown)
}

pub fn answer_that_is_no_http<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let reply = Reply::raw(format!("220 mail.example.com ESMTP {MARK}\r\n"));
    fault(bench, reply, FailureKind::Unavailable, Times::Any)
}

pub fn truncated_body<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let content = bench.value_content(MARK);
    let good = bench.fixture.good_answer(&bench.name("x"), &content);
    let whole = good.unwrap_or_else(|| {
        Reply::status(200)
            .header("content-type", "application/json")
            .body(json!({ "data": { "data": { "value": MARK } } }).to_string())
    });
    let reply = whole.cut_short();
    fault(bench, reply, FailureKind::Unavailable, Times::Any)
}

pub fn redirect<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    for code in [301, 302, 307, 308] {
        let elsewhere = Upstream::start()?;
        let place = format!("http://{}/v1/elsewhere", elsewhere.address());
        let reply = Reply::status(code).header("location", place);
        let kind = FailureKind::Unavailable;
        match fault(bench, reply, kind, Times::Once).with_context(|| code.to_string())? {
            Verdict::Shown => {}
            left_out => return Ok(left_out),
        }
        ensure!(elsewhere.accepted() == 0, "{code}: it was followed");
    }
    Ok(Verdict::Shown)
}

pub fn tls_with_the_right_ca<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    tls(bench, Tls::Right)
}

pub fn tls_with_a_wrong_ca<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    tls(bench, Tls::WrongCa)
}

pub fn tls_with_a_wrong_name<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    tls(bench, Tls::WrongName)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Tls {
    Right,
    WrongCa,
    WrongName,
}

/// Nothing is said to a server that does not prove who it is.
fn tls<F: Fixture>(bench: &mut Bench<F>, which: Tls) -> Result<Verdict> {
    let gone = |_| refusal(404);
    let Some(faulty) = Faulty::start_with(bench, Some(which), gone)? else {
        return Ok(NO_SERVER);
    };
    let got = faulty.get(bench)?;
    if which == Tls::Right {
        got.fails(FailureKind::NotFound)?;
        faulty.was_asked(1)?;
        return Ok(Verdict::Shown);
    }
    got.fails(FailureKind::Unavailable)?;
    ensure!(faulty.server.accepted() > 0, "it was not even called");
    let heard = faulty.server.requests();
    ensure!(heard.is_empty(), "it was told {} things", heard.len());
    Ok(Verdict::Shown)
}

/// How often the server is asked.
#[derive(Clone, Copy)]
enum Times {
    Any,
    Once,
    Retried,
}

/// The server always answers so.
fn fault<F: Fixture>(
    bench: &mut Bench<F>,
    reply: Reply,
    kind: FailureKind,
    times: Times,
) -> Result<Verdict> {
    let Some(faulty) = Faulty::start(bench, move |_| reply.clone())? else {
        return Ok(NO_SERVER);
    };
    faulty.get(bench)?.fails(kind)?;
    match times {
        Times::Any => {
            let asked = faulty.reads.load(Ordering::SeqCst);
            ensure!((1..=ATTEMPTS).contains(&asked), "asked {asked} times");
        }
        Times::Once => faulty.was_asked(1)?,
        Times::Retried => faulty.was_asked(ATTEMPTS)?,
    }
    Ok(Verdict::Shown)
}

fn refusal(code: u16) -> Reply {
    let body =
        json!({ "errors": [MARK], "message": MARK, "error": { "code": code, "message": MARK } });
    Reply::status(code)
        .header("content-type", "application/json")
        .body(body.to_string())
}

fn is_tls<F: Fixture>(bench: &Bench<F>) -> bool {
    bench.fixture.abilities().tls_only.is_some()
}

/// A server in the place of the vault's.
struct Faulty {
    server: Upstream,
    at: Server,
    reference: String,
    /// The requests that were the read itself.
    reads: Arc<AtomicUsize>,
    _authorities: Vec<Authority>,
}

impl Faulty {
    /// Over TLS if the backend cannot do without; none if it asks no server. `reply` is told how many
    /// reads there were before.
    fn start<F: Fixture>(
        bench: &Bench<F>,
        reply: impl Fn(usize) -> Reply + Send + Sync + 'static,
    ) -> Result<Option<Self>> {
        let tls = is_tls(bench).then_some(Tls::Right);
        Self::start_with(bench, tls, reply)
    }

    fn start_with<F: Fixture>(
        bench: &Bench<F>,
        tls: Option<Tls>,
        reply: impl Fn(usize) -> Reply + Send + Sync + 'static,
    ) -> Result<Option<Self>> {
        let somewhere = Server {
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            ca: None,
        };
        // With a CA that is none of TLS only, a backend may refuse; here only its answer counts.
        if !is_tls(bench) && bench.fixture.config_at(&somewhere).is_none() {
            return Ok(None);
        }
        let side_talk = bench.fixture.side_talk();
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        let answer = move |request: &Received| {
            side_talk(request).unwrap_or_else(|| reply(counted.fetch_add(1, Ordering::SeqCst)))
        };
        let (authority, other) = (Authority::new()?, Authority::new()?);
        let server = match tls {
            None => Upstream::answering(answer)?,
            Some(tls) => {
                let mut names = vec!["localhost", "127.0.0.1"];
                names.extend(bench.fixture.abilities().tls_only.unwrap_or_default());
                if tls == Tls::WrongName {
                    names = vec!["elsewhere.example"];
                }
                let signer = if tls == Tls::WrongCa {
                    &other
                } else {
                    &authority
                };
                Upstream::answering_tls(&signer.issue(&names)?, answer)?
            }
        };
        Ok(Some(Self {
            at: Server {
                address: server.address(),
                ca: tls.is_some().then(|| authority.file()),
            },
            server,
            reference: bench.value_reference(&bench.name("x"), ""),
            reads,
            _authorities: vec![authority, other],
        }))
    }

    fn asking<'a, F: Fixture>(&self, bench: &'a Bench<F>, timeout: u64) -> Result<Asking<'a>> {
        let config = bench.fixture.config_at(&self.at);
        let config = config.context("it can be asked, but not at this server")?;
        bench.resolver_of(config, &json!({ "timeout": timeout }))
    }

    fn get<F: Fixture>(&self, bench: &Bench<F>) -> Result<Got> {
        self.asking(bench, TIMEOUT)?.get(&self.reference)
    }

    fn was_asked(&self, times: usize) -> Result<()> {
        let asked = self.reads.load(Ordering::SeqCst);
        ensure!(asked == times, "asked {asked} times instead of {times}");
        Ok(())
    }
}
