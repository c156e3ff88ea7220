//! How an export ends for a client of HTTP/1.0, which knows the end of it by the end of the
//! connection: in good order only if it is whole. Proxies may speak HTTP/1.0 to the server, as
//! nginx does by default.

mod support;

use std::io::{self, ErrorKind, Read};

use support::mongodb::database_of;
use support::proxy::{Fate, Proxy};
use support::{Connection, Directory, Mongodb, Server, Store, wait_for};

stores!(complete_export_ends_in_order, unread_export_ends_with_reset, killed_server_resets_export);

const EXPORT: &[u8] = b"GET /data HTTP/1.0\r\nAccept: application/x-ndjson\r\n\r\n";
/// More than the buffers of the two sockets hold, and than one batch.
const DOCUMENTS: usize = 1200;

fn fill(server: &Server) {
    let text = "x".repeat(10_000);
    let documents: String =
        (0..DOCUMENTS).map(|n| format!("{{\"_id\":{n},\"text\":\"{text}\"}}\n")).collect();
    assert_eq!(server.import(&documents).status, 201);
}

/// An export of which nothing has been read but the first byte.
fn begin(server: &Server) -> Connection {
    let mut connection = Connection::open(server.address);
    connection.send(EXPORT);
    wait_for("the answer", || (connection.stream().peek(&mut [0]).ok()? > 0).then_some(()));
    connection
}

/// How many whole documents come, and how the connection ends.
fn rest(connection: &Connection) -> (usize, io::Result<usize>) {
    let mut answer = Vec::new();
    let end = connection.stream().read_to_end(&mut answer);
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |end| end + 4);
    (answer[body..].iter().filter(|&&byte| byte == b'\n').count(), end)
}

#[track_caller]
fn expect_reset(connection: &Connection) {
    let (documents, end) = rest(connection);
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset),
        "after {documents} documents"
    );
    assert!(documents < DOCUMENTS, "{documents} documents");
}

fn complete_export_ends_in_order(store: Store) {
    let server = store.start(&[]);
    fill(&server);
    for _ in 0..3 {
        let (documents, end) = rest(&begin(&server));
        assert_eq!((documents, end.is_ok()), (DOCUMENTS, true));
    }
}

fn unread_export_ends_with_reset(store: Store) {
    let server = store.start(&[("SEND_TIMEOUT", "500ms")]);
    fill(&server);
    let connection = begin(&server);
    server.wait_for_line("(cut off)");
    expect_reset(&connection);
}

fn killed_server_resets_export(store: Store) {
    let server = store.start(&[]);
    fill(&server);
    let connection = begin(&server);
    server.kill();
    expect_reset(&connection);
}

#[test]
fn export_past_shutdown_timeout_is_reset() {
    let mut server = Server::start(&[("SHUTDOWN_TIMEOUT", "500ms")]);
    fill(&server);
    let connection = begin(&server);
    server.signal("TERM");
    assert!(server.wait_for_exit().success());
    expect_reset(&connection);
}

#[test]
fn database_failure_resets_running_export() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let directory = std::sync::Arc::new(Directory::new());
    let uri = mongodb.uri_through(&proxy, &database_of(&directory));
    let server = Server::start_in(directory, &[("MONGODB_URI", &uri)]);
    fill(&server);
    let connection = begin(&server);
    // What is read ahead has been asked for by now, and more is not until the client reads.
    proxy.set_for(
        "find",
        Fate::Answer(bson::doc! { "ok": 0, "code": 13, "errmsg": "not authorized" }),
    );
    let (documents, end) = rest(&connection);
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset),
        "after {documents} documents"
    );
    // In HTTP/1.1 the last chunk is missing.
    proxy.set(|_| Fate::Pass);
    let mut connection = Connection::open(server.address);
    connection.send(b"GET /data HTTP/1.1\r\nHost: test\r\nAccept: application/x-ndjson\r\n\r\n");
    connection.read_head().unwrap();
    proxy.set_for(
        "find",
        Fate::Answer(bson::doc! { "ok": 0, "code": 13, "errmsg": "not authorized" }),
    );
    assert!(!connection.read_to_end().ends_with(b"\r\n0\r\n\r\n"));
    wait_for("both to be in the log", || {
        (server.log().iter().filter(|line| line.contains("(cut off)")).count() == 2).then_some(())
    });
}
