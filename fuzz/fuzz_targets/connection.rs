//! A whole connection: the input's bytes go over a real socket to the real server, over its embedded store, and what
//! comes back must be answers, strictly: one to each request that the strict reader in support/http.rs understands, in
//! their order, one error at most to what it does not, and nothing else. The process lives, memory stays bounded, and
//! the next connection is served.
//!
//! A byte FF in the input is not sent: what is behind it goes out by itself.
#![no_main]

#[path = "support/http.rs"]
mod http;
#[path = "support/memory.rs"]
mod memory;
#[allow(dead_code)]
#[path = "support/program.rs"]
mod program;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

use http::{Incoming, Request};
use program::modules::*;

use config::{Config, StoreConfig};
use server::{Limits, Server};

const PAUSE: u8 = 0xFF;
const A_WHILE: Duration = Duration::from_secs(5);
/// The store begins anew once so many bytes were sent to be stored, so that its pages stay short.
const MAX_STORED: usize = 512 * 1024;
/// And so does the server after so many inputs, which shows that its threads come to an end.
const MAX_INPUTS: usize = 5000;
/// The heap for a byte of input: an import of the shortest documents comes nearest.
const FACTOR: usize = 128;
/// What a server that serves few connections has: its store's cache and pages, the threads' buffers.
const CONSTANT: usize = 8 * 1024 * 1024;
/// Of all the answers on one connection, in bytes.
const MAX_ANSWERS: usize = 64 * 1024 * 1024;

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
    /// Reserved before memory is counted.
    static ANSWERS: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(MAX_ANSWERS));
}

fuzz_target!(|data: &[u8]| {
    let address = server_address();
    let pieces: Vec<&[u8]> = data.split(|&byte| byte == PAUSE).collect();
    ANSWERS.with_borrow_mut(|answers| {
        memory::bounded(data.len(), FACTOR, CONSTANT, || exchange(address, &pieces, answers));
        check(&pieces.concat(), answers);
        if answers.windows(12).any(|window| window == b"HTTP/1.1 201") {
            note_stored(data.len());
        }
        exchange(address, &[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], answers);
        let (answer, rest) = http::answer(answers, false).expect("an answer");
        assert_eq!((answer.status, rest), (200, &b""[..]));
    });
});

/// Sends the pieces and reads all that comes back.
fn exchange(address: SocketAddr, pieces: &[&[u8]], answers: &mut Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(A_WHILE)).expect("an option");
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        // The server may have had enough before the end.
        if stream.write_all(piece).is_err() {
            break;
        }
        std::thread::yield_now();
    }
    let _ = stream.shutdown(Shutdown::Write);
    answers.clear();
    (&stream).take(MAX_ANSWERS as u64).read_to_end(answers).expect("the server ends the connection");
}

fn check(sent: &[u8], mut answers: &[u8]) {
    let mut rest = sent;
    loop {
        match http::request(rest) {
            Incoming::Nothing => break,
            Incoming::Understood(request, behind) => {
                let (answer, others) = http::answer(answers, request.is_head)
                    .or_else(|error| if request.body_is_whole { Err(error) } else { http::answer(answers, false) })
                    .unwrap_or_else(|error| panic!("{error}: {request:?} {:?}", String::from_utf8_lossy(answers)));
                check_answer(&request, &answer);
                answers = others;
                rest = behind;
                if answer.closes {
                    break;
                }
            }
            Incoming::Broken => {
                let (answer, others) = http::answer(answers, false).expect("an error");
                assert!((400..=505).contains(&answer.status) && answer.closes, "{answer:?}");
                answers = others;
                break;
            }
            Incoming::Unsure => return check_count(rest, answers),
        }
    }
    assert!(answers.is_empty(), "an answer to nothing: {:?}", String::from_utf8_lossy(answers));
}

fn check_answer(request: &Request, answer: &http::Answer) {
    assert!(![500, 503].contains(&answer.status), "{request:?} {answer:?}");
    if request.is_welcome && request.body_is_whole {
        assert_eq!(answer.status, 200, "{request:?}");
    }
    if let Some(id) = &request.id
        && answer.id.is_some()
    {
        assert_eq!(Some(id), answer.id.as_ref(), "{request:?}");
    }
    // Only a request that the server itself refuses has none.
    assert!(answer.id.is_some() || !request.body_is_whole, "{request:?} {answer:?}");
    assert!(answer.interims <= usize::from(request.expects_continue), "{request:?} {answer:?}");
    let must_close = !request.keep_alive || !request.body_is_whole;
    let may_close = must_close || request.is_chunked || request.expects_continue || request.is_http10;
    assert!(may_close || !answer.closes, "{request:?} {answer:?}");
}

/// Of what the strict reader leaves open, each head may have an answer, and so may what is behind the last one.
fn check_count(sent: &[u8], mut answers: &[u8]) {
    let most = sent.windows(4).filter(|window| *window == b"\r\n\r\n").count() + 1;
    for _ in 0..most {
        if answers.is_empty() {
            return;
        }
        let of_get = http::answer(answers, false);
        let of_head = || http::answer(answers, true);
        (_, answers) = of_get.or_else(|_| of_head()).expect("an answer");
    }
    assert!(answers.is_empty(), "more answers than requests: {:?}", String::from_utf8_lossy(answers));
}

struct Running {
    address: SocketAddr,
    server: Server,
    inputs: usize,
    /// In bytes of input.
    stored: usize,
    _directory: TempDir,
}

fn server_address() -> SocketAddr {
    RUNNING.with_borrow_mut(|running| {
        if let Some(old) = running.take_if(|running| running.inputs == MAX_INPUTS || running.stored > MAX_STORED) {
            assert!(old.server.stop(Instant::now() + A_WHILE), "a thread is stuck");
        }
        let running = running.get_or_insert_with(start);
        running.inputs += 1;
        running.address
    })
}

fn note_stored(bytes: usize) {
    RUNNING.with_borrow_mut(|running| running.iter_mut().for_each(|running| running.stored += bytes));
}

fn start() -> Running {
    // In memory, where there is such a place: every document that is stored is synced.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.expect("a directory");
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let incoming = guard::Limits { head: A_WHILE, body: A_WHILE, idle: A_WHILE };
    let config = Config {
        address: any_port,
        ops_address: any_port,
        store: StoreConfig::Local { file: directory.path().join("two-tier.redb") },
        api_token: None,
        limits: Limits { connections: 8, incoming, send: A_WHILE },
        max_body: 2048,
        shutdown_delay: Duration::ZERO,
        shutdown_timeout: A_WHILE,
        grouping: true,
        log: log::Options { format: log::Format::Off, max_requests_per_second: 1 },
    };
    let metrics = Arc::new(metrics::Metrics::new());
    let db = Arc::new(db::Db::open(&config, &metrics).expect("a store"));
    let app = Arc::new(routes::App::new(&config, db, metrics));
    let listener: TcpListener = server::listen(config.address, &config.limits).expect("a port");
    let address = listener.local_addr().expect("a port");
    let server = Server::start("fuzz", listener, config.limits, app).expect("threads");
    Running { address, server, inputs: 0, stored: 0, _directory: directory }
}
