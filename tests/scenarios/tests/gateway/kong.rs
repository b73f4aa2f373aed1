//! What only nginx and Kong do with a filter: callouts that fail in silence, time limits that hold for
//! each part of an answer, an instance for each request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use vaultref_harness::{Callback, Isolation, NginxOptions, StreamId};
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Kind, Plan, Seen, World};

use crate::closed::{bearer, own};
use crate::faults::{assert_guarded, harness};

/// Kong up to 3.8 tells nobody that a callout has failed: the request goes on, with every field that
/// the rule writes overwritten.
#[test]
fn a_failed_callout_without_a_callback_leaves_requests_guarded_until_the_resolver_is_up()
-> Result<()> {
    let mut world = Plan::new(Kind::HarnessNginx, bearer())
        .nginx(NginxOptions::kong_38())
        .file("token", "ours")
        .without_daemon()
        .start()?;
    // More than may wait at one time: none of them stays behind in the filter.
    for round in 0..1_100 {
        let seen = world.send(&own())?;
        assert!(matches!(seen, Seen::Upstream(_)), "{round}: {seen:?}");
        assert_guarded(&seen);
        if round % 100 == 0 {
            world.pass_time();
        }
    }
    let gateway = harness(&mut world)?.gateway();
    assert!(gateway.calls_of(Callback::HttpCallResponse).is_empty());
    world.daemon().start()?;
    let right = |seen: &Seen| seen.has_authorization("Bearer ours");
    world.eventually("the right credential", &own(), right)?;
    // Down again, later: from memory.
    world.until_every_vm_has_answers()?;
    world.daemon().kill();
    for _ in 0..20 {
        world.pass_time();
        let seen = world.send(&own())?;
        assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    }
    world.write_secret("token", "newer")?;
    world.daemon().start()?;
    let newer = |seen: &Seen| seen.has_authorization("Bearer newer");
    world.eventually("the newer credential", &own(), newer)?;
    assert_eq!(traps(&mut world)?, 0);
    Ok(())
}

/// Every callout has a callback again from 3.9 on, and the same outage is a 503.
#[test]
fn with_the_callback_the_same_outage_is_a_503() -> Result<()> {
    let mut world = Plan::new(Kind::HarnessNginx, bearer())
        .without_daemon()
        .start()?;
    let seen = world.send(&own())?;
    assert!(seen.has_status(503), "{seen:?}");
    Ok(())
}

/// The timeout is a second. Each part of the answer comes in nine tenths of it, all of them in more
/// than six: in nginx such a call goes on, and the request gets its credential; in Envoy it is over.
#[test]
fn a_resolver_that_trickles_is_waited_for_in_nginx_and_not_in_envoy() -> Result<()> {
    let answer = json!({ "results": [{ "secret": {
        "value": { "text": "ours" }, "revision": "1",
        "lifetime": { "fresh_for": 300, "usable_for": 300, "stale": false },
    }}]})
    .to_string();
    let length = format!("content-length: {}\r\n\r\n", answer.len());
    let mut pieces = vec!["HTTP/1.1 200 OK\r\n", "x-vaultref-contract: 1\r\n", &length];
    pieces.extend(answer.split_inclusive(','));
    let last = pieces.pop().context("a last piece")?;
    assert!(
        pieces.len() > 6,
        "longer than any multiple the filter waits for"
    );
    for kind in [Kind::HarnessNginx, Kind::HarnessEnvoy] {
        let server = Trickle::start()?;
        let filter = json!({
            "resolver": { "timeout_ms": 1000 },
            "request": bearer()["request"],
        });
        let mut world = Plan::new(kind, filter)
            .resolver(server.address)
            .workers(1)
            .start()?;
        let stream = harness(&mut world)?.begin(&own());
        server.has_been_asked()?;
        for piece in &pieces {
            pause(&mut world, stream)?;
            server.send(piece)?;
            hear(&mut world, stream)?;
        }
        pause(&mut world, stream)?;
        server.send(last)?;
        let seen = harness(&mut world)?.finish(stream)?;
        match kind.is_nginx() {
            true => assert!(seen.has_authorization("Bearer ours"), "{seen:?}"),
            false => assert!(seen.has_status(503), "{seen:?}"),
        }
    }
    Ok(())
}

/// Lets nine tenths of the timeout pass; what else is asked meanwhile finds nobody.
fn pause(world: &mut World, stream: StreamId) -> Result<()> {
    let gateway = harness(world)?.gateway();
    if gateway.outcome(stream).is_waiting() {
        gateway.advance(Duration::from_millis(900));
    }
    Ok(())
}

/// Waits until the gateway has seen the piece, if it still listens.
fn hear(world: &mut World, stream: StreamId) -> Result<()> {
    let gateway = harness(world)?.gateway();
    let due = |gateway: &mut vaultref_harness::Gateway| {
        let calls = gateway.callouts().into_iter();
        calls
            .filter(|call| call.stream == Some(stream))
            .map(|call| call.due)
            .max()
    };
    let before = due(gateway);
    if world.kind().is_nginx() {
        let gateway = harness(world)?.gateway();
        gateway.run_until(|gateway| due(gateway) > before, wait::SOON)?;
    }
    Ok(())
}

/// A server that answers one connection piece by piece, and no other.
struct Trickle {
    address: SocketAddr,
    pieces: Sender<String>,
    asked: Receiver<()>,
}

impl Trickle {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (pieces, told) = mpsc::channel::<String>();
        let (is_asked, asked) = mpsc::channel();
        thread::spawn(move || -> std::io::Result<()> {
            let (mut socket, _) = listener.accept()?;
            socket.set_nodelay(true)?;
            read_request(&mut socket)?;
            let _ = is_asked.send(());
            for piece in told {
                socket.write_all(piece.as_bytes())?;
            }
            Ok(())
        });
        Ok(Self {
            address,
            pieces,
            asked,
        })
    }

    /// Waits for the request's own call: a poll that came first would be taken for it.
    fn has_been_asked(&self) -> Result<()> {
        Ok(self.asked.recv_timeout(wait::SOON)?)
    }

    fn send(&self, piece: &str) -> Result<()> {
        // Envoy has hung up by then.
        let _ = self.pieces.send(piece.to_owned());
        Ok(())
    }
}

fn read_request(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && socket.read(&mut byte)? == 1 {
        request.push(byte[0]);
    }
    Ok(())
}

/// Under isolation `stream` nothing outlives a request: each asks for itself, and gets its credential.
#[test]
fn with_an_instance_for_each_request_each_asks_for_itself() -> Result<()> {
    let options = NginxOptions {
        isolation: Isolation::Stream,
        ..NginxOptions::kong()
    };
    let mut world = Plan::new(Kind::HarnessNginx, bearer())
        .nginx(options)
        .file("token", "ours")
        .workers(1)
        .start()?;
    for count in 1..=3 {
        let seen = world.send(&own())?;
        assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
        let calls = harness(&mut world)?.gateway().callouts().into_iter();
        let own_calls = calls.filter(|call| call.stream.is_some()).count();
        assert_eq!(own_calls, count);
    }
    world.daemon().kill();
    let seen = world.send(&own())?;
    assert!(seen.has_status(503), "{seen:?}");
    assert_eq!(traps(&mut world)?, 0);
    Ok(())
}

fn traps(world: &mut World) -> Result<usize> {
    let gateway = world.harness().context("the harness")?.gateway();
    Ok(gateway.calls().iter().filter(|call| call.trapped).count())
}
