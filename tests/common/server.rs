//! A scripted server, and the generator playing on it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use otelbench::experiment::arrivals::Arrivals;
use otelbench::experiment::generator::Pacing;
use otelbench::experiment::units::Rate;
use otelbench::generator::{Client, Constant, Generator, Load, Target};
use otelbench::record::load::LoadResult;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// The server's response to a request.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    Answer,
    Status503,
    Garbage,
    Silence,
    Close,
    /// It closes every connection and listens no longer.
    Die,
}

/// Has a server do `deed(n)` with the n-th request it reads. Each connection has a thread of its own, so that a deed may take
/// its time and hold up no other.
pub fn serve(deed: impl Fn(u64) -> Deed + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Arc::new((deed, AtomicU64::new(0), AtomicBool::new(false)));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let server = Arc::clone(&server);
            if server.2.load(SeqCst) {
                return;
            }
            thread::spawn(move || {
                let (deed, read, closed) = &*server;
                let ended = converse(stream.unwrap(), || deed(read.fetch_add(1, SeqCst)), closed);
                if ended.is_some() {
                    closed.store(true, SeqCst);
                    // Wakes the listener up, so that it sees that it is dead.
                    drop(TcpStream::connect(addr));
                }
            });
        }
    });
    addr
}

/// Does what it is told with the requests of one connection, until one end closes it; tells when the server is to die.
fn converse(mut stream: TcpStream, next: impl Fn() -> Deed, dead: &AtomicBool) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).is_ok_and(|n| n > 0) && !dead.load(SeqCst) {
        // Requests are small and not pipelined: what is read at once is one of them.
        let answer: &[u8] = match next() {
            Deed::Answer => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            Deed::Status503 => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            Deed::Garbage => b"\x00\x01 this is no HTTP\r\n\r\n",
            Deed::Silence => b"",
            Deed::Close => return None,
            Deed::Die => return Some(()),
        };
        stream.write_all(answer).ok()?;
    }
    None
}

/// How the generator drives it in tests, unless they say otherwise.
pub fn target(addr: SocketAddr, connections: usize) -> Target {
    Target {
        requests: Arc::new(Constant(REQUEST.to_vec())),
        connections,
        shards: 1,
        client: Client::Raw(addr),
        pacing: Pacing::Timer,
        may_spin: false,
        cores: Vec::new(),
        timeout: Duration::from_secs(30),
    }
}

/// Plays constant arrivals.
pub fn played(target: Target, rate: f64, duration: Duration) -> LoadResult {
    play(target, Arrivals::Constant, rate, duration)
}

/// Plays these arrivals.
pub fn play(target: Target, arrivals: Arrivals, rate: f64, duration: Duration) -> LoadResult {
    let rate = Rate::per_second(rate).unwrap();
    let load = Load { arrivals, rate, duration, seed: 1, first_seq: 0 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Generator::start(target).await.unwrap().play(load).await.unwrap() })
}
