//! What was acknowledged outlives a database that is killed and started again, and so it does where
//! the web tier is killed as well.

mod support;

use std::collections::HashSet;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use support::mongodb::{assert_no_secret, database_of};
use support::watch::Watch;
use support::{Connection, Directory, Mongodb, Server, wait_for};

/// How long any request may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// How long the first request may take that comes when the database is back.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// Writes until the server or the test ends it, and returns the `_id`s that were acknowledged.
fn write(
    address: SocketAddr,
    name: &str,
    acknowledged: &AtomicUsize,
    is_over: &AtomicBool,
) -> Vec<String> {
    let mut stored = Vec::new();
    let mut connection = Connection::open(address);
    for turn in 0.. {
        let id = format!("{name}-{turn}");
        let body = format!("{{\"_id\":\"{id}\"}}");
        let head = "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n\
                    Content-Length:";
        let since = Watch::start();
        if write!(connection.stream(), "{head} {}\r\n\r\n{body}", body.len()).is_err() {
            break;
        }
        let Some(answer) = connection.read_answer() else { break };
        assert!(since.elapsed() < ANSWERED_WITHIN, "{:?}", since.elapsed());
        match answer.status {
            201 => {
                stored.push(id);
                acknowledged.fetch_add(1, SeqCst);
            }
            _ => drop(answer.problem(503)),
        }
        if is_over.load(SeqCst) {
            break;
        }
        if answer.header("connection") == Some("close") {
            connection = Connection::open(address);
        }
    }
    stored
}

/// Waits until some more writes are acknowledged.
fn wait_for_writes(acknowledged: &AtomicUsize) {
    let before = acknowledged.load(SeqCst);
    wait_for("writes to be acknowledged", || {
        (acknowledged.load(SeqCst) > before + 20).then_some(())
    });
}

#[track_caller]
fn assert_stored(server: &Server, ids: &[String]) {
    let export = server.export();
    let there: HashSet<&str> = export.lines().collect();
    for id in ids {
        let line = format!("{{\"_id\":\"{id}\"}}");
        assert!(there.contains(line.as_str()), "{id} was acknowledged and is not there");
    }
    assert_eq!(there.len(), export.lines().count(), "something is there twice");
}

#[test]
fn database_restart_keeps_acknowledged_writes() {
    let Some(mongodb) = Mongodb::start() else { return };
    let directory = Arc::new(Directory::new());
    let uri = mongodb.uri(&database_of(&directory));
    let server = Server::start_in(directory, &[("MONGODB_URI", &uri), ("LOG", "off")]);
    let (acknowledged, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let stored: Vec<String> = thread::scope(|scope| {
        let writers: Vec<_> = (0..20)
            .map(|writer| {
                let (address, acknowledged, is_over) = (server.address, &acknowledged, &is_over);
                scope.spawn(move || write(address, &writer.to_string(), acknowledged, is_over))
            })
            .collect();
        for _ in 0..3 {
            wait_for_writes(&acknowledged);
            mongodb.kill();
            server.get("/data").problem(503);
            mongodb.restart();
            let (since, before) = (Watch::start(), acknowledged.load(SeqCst));
            wait_for("the first write", || (acknowledged.load(SeqCst) > before).then_some(()));
            assert!(since.elapsed() < BACK_WITHIN, "{:?}", since.elapsed());
        }
        is_over.store(true, SeqCst);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert_stored(&server, &stored);
    assert_no_secret(&server);
}

#[test]
fn kills_of_both_tiers_keep_acknowledged_writes() {
    let Some(mongodb) = Mongodb::start() else { return };
    let mut directory = Arc::new(Directory::new());
    let uri = mongodb.uri(&database_of(&directory));
    let mut stored = Vec::new();
    for round in 0..10 {
        let server = Server::start_in(directory.clone(), &[("MONGODB_URI", &uri), ("LOG", "off")]);
        let (address, acknowledged, is_over) =
            (server.address, AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let writers: Vec<_> = (0..10)
                .map(|writer| {
                    let (acknowledged, is_over) = (&acknowledged, &is_over);
                    scope.spawn(move || {
                        write(address, &format!("{round}-{writer}"), acknowledged, is_over)
                    })
                })
                .collect();
            wait_for_writes(&acknowledged);
            if round % 2 == 0 {
                mongodb.kill();
            }
            directory = server.kill();
            if round % 2 == 0 {
                mongodb.restart();
            }
            stored.extend(writers.into_iter().flat_map(|writer| writer.join().unwrap()));
        });
    }
    assert_stored(&Server::start_in(directory, &[("MONGODB_URI", &uri)]), &stored);
}
