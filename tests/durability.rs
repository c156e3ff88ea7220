//! What was answered 201 is there after a kill -9, and what was not answered is there whole or not
//! at all.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use support::{Connection, Directory, Server, Store, two_tier, wait_for};

stores!(acknowledged_writes_survive_repeated_kills, acknowledged_writes_survive_orderly_end,);

const ROUNDS: usize = 20;
const WRITERS: usize = 8;
/// Several batches of an import, so that a kill hits it between two of them as well.
const LINES: usize = 2500;

/// A few numbers that differ from run to run; the test says which, so that a failure can be looked
/// into.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        eprintln!("seed {seed}");
        Self(seed)
    }

    /// A number below `bound` (splitmix64).
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What all writers have sent, by `_id`, and whether it was acknowledged.
type Sent = Mutex<BTreeMap<String, bool>>;

/// What a document with this `_id` must look like.
fn document(id: &str) -> Value {
    json!({"_id": id, "text": id.repeat(1 + id.len() % 7 * 10)})
}

/// Sends these documents in one request, as the writer of this kind does; false when the server is
/// gone.
fn write(connection: &mut Connection, kind: usize, ids: &[String], sent: &Sent) -> bool {
    let documents: Vec<Value> = ids.iter().map(|id| document(id)).collect();
    let (content_type, body) = match kind {
        0 => ("application/json", documents[0].to_string()),
        1 => ("application/json", Value::from(documents).to_string()),
        _ => (
            "application/x-ndjson",
            documents.iter().map(|document| format!("{document}\n")).collect(),
        ),
    };
    sent.lock().unwrap().extend(ids.iter().map(|id| (id.clone(), false)));
    let length = body.len();
    let head = format!(
        "POST /data HTTP/1.1\r\nHost: test\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    if connection.stream().write_all(format!("{head}{body}").as_bytes()).is_err() {
        return false;
    }
    let Some(answer) = connection.read_answer() else {
        return false;
    };
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.json()["inserted"], ids.len());
    sent.lock().unwrap().extend(ids.iter().map(|id| (id.clone(), true)));
    true
}

/// Writes until the server is killed, after `moment` from the first acknowledgement.
fn write_and_kill(
    server: Server,
    round: usize,
    moment: Duration,
    sent: &Arc<Sent>,
) -> Arc<Directory> {
    let address = server.address;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (sent, acknowledged) = (sent.clone(), acknowledged.clone());
            thread::spawn(move || {
                let kind = writer % 3;
                let count = [1, 5, LINES][kind];
                // One that comes after the kill has nothing to write to.
                let Ok(mut connection) = Connection::try_open(address) else { return };
                for turn in 0.. {
                    let ids: Vec<String> = (0..count)
                        .map(|index| format!("{round}-{writer}-{turn}-{index}"))
                        .collect();
                    if !write(&mut connection, kind, &ids, &sent) {
                        return;
                    }
                    acknowledged.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    wait_for("an acknowledgement", || (acknowledged.load(SeqCst) > 0).then_some(()));
    // The one sleep that is meant: the kill comes at a moment that nothing determines.
    thread::sleep(moment);
    let directory = server.kill();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    directory
}

/// Every acknowledged document is there, and whatever is there was sent just so.
#[track_caller]
fn expect_sent(server: &Server, sent: &Sent) {
    let mut missing = sent.lock().unwrap().clone();
    for line in server.export().lines() {
        let stored: Value = serde_json::from_str(line).unwrap();
        let id = stored["_id"].as_str().unwrap();
        assert_eq!(stored, document(id));
        assert!(missing.remove(id).is_some(), "{id} was never sent, or is there twice");
    }
    missing.retain(|_, acknowledged| *acknowledged);
    assert!(missing.is_empty(), "acknowledged and not there: {:?}", missing.keys());
}

fn acknowledged_writes_survive_repeated_kills(store: Store) {
    let mut dice = Dice::new();
    let sent = Arc::new(Sent::default());
    let mut directory = Arc::new(Directory::new());
    // As in concurrency.rs; mongodb_restart.rs has a storm of its own.
    let rounds = if store.lacks("sorting by an index: fewer rounds") { 4 } else { ROUNDS };
    for round in 0..rounds {
        let server = store.start_in(directory, &[("LOG", "off")]);
        expect_sent(&server, &sent);
        let moment = Duration::from_micros(dice.roll(100_000));
        directory = write_and_kill(server, round, moment, &sent);
    }
    expect_sent(&store.start_in(directory, &[]), &sent);
    let sent = sent.lock().unwrap();
    assert!(
        sent.values().any(|acknowledged| !acknowledged),
        "no kill hit a request that was not answered"
    );
}

#[test]
fn start_recovers_from_kill_during_creation() {
    let mut dice = Dice::new();
    for _ in 0..ROUNDS {
        let directory = Arc::new(Directory::new());
        let mut command = two_tier();
        command.envs([
            ("PORT", "0"),
            ("OPS_PORT", "0"),
            ("DATA_FILE", "two-tier.redb"),
            ("LOG", "off"),
        ]);
        let mut starting = command.current_dir(directory.path()).spawn().unwrap();
        thread::sleep(Duration::from_micros(dice.roll(20_000)));
        starting.kill().unwrap();
        starting.wait().unwrap();
        let server = Server::start_in(directory, &[]);
        assert_eq!(server.post("{\"_id\":1}").status, 201);
        assert_eq!(server.export(), "{\"_id\":1}\n");
    }
}

fn acknowledged_writes_survive_orderly_end(store: Store) {
    let sent = Sent::default();
    let mut directory = Arc::new(Directory::new());
    for round in 0..3 {
        let server = store.start_in(directory, &[]);
        expect_sent(&server, &sent);
        let mut connection = Connection::open(server.address);
        for kind in 0..3 {
            let ids: Vec<String> =
                (0..[1, 5, LINES][kind]).map(|index| format!("{round}-{kind}-{index}")).collect();
            assert!(write(&mut connection, kind, &ids, &sent));
        }
        let (status, stopped) = server.terminate();
        assert!(status.success(), "{status}");
        directory = stopped;
    }
    expect_sent(&store.start_in(directory, &[]), &sent);
}
