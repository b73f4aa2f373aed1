//! Servers on loopback for callouts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};

/// A server that answers each connection with the next of `answers`, after it has
/// read a whole request, and then closes it.
pub(crate) fn serve(answers: Vec<&'static [u8]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((mut socket, _)) = listener.accept() else {
                return;
            };
            read_request(&mut socket);
            let _ = socket.write_all(answer);
        }
    });
    address
}

/// A server that answers one connection piece by piece, as it is told, and closes
/// it when this is dropped.
pub(crate) struct Trickle {
    pub(crate) address: SocketAddr,
    pieces: Sender<&'static [u8]>,
}

impl Trickle {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (pieces, told) = mpsc::channel::<&'static [u8]>();
        std::thread::spawn(move || {
            let Ok((mut socket, _)) = listener.accept() else {
                return;
            };
            // Each piece is to arrive by itself.
            let _ = socket.set_nodelay(true);
            read_request(&mut socket);
            for piece in told {
                let _ = socket.write_all(piece);
            }
        });
        Self { address, pieces }
    }

    pub(crate) fn send(&self, piece: &'static [u8]) {
        self.pieces.send(piece).expect("the server runs");
    }
}

fn read_request(socket: &mut TcpStream) {
    let mut request = Vec::new();
    let mut byte = [0; 1];
    while !request.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap_or(0) == 1 {
        request.push(byte[0]);
    }
}
