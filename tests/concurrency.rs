//! Many clients at once: every answer is its own client's, nothing is lost, nothing is stored
//! twice, and what was acknowledged is seen by whoever asks after that.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::{Value, json};
use support::{Answer, Connection, Server, Store, at_once, wait_for};

stores!(
    concurrent_clients_get_own_answers,
    readers_see_all_acknowledged_writes,
    clients_beyond_connections_are_all_served,
    one_of_equal_ids_wins,
    refused_document_leaves_batch_intact,
);

const CLIENTS: usize = 200;
const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

/// A client that keeps its connection, and opens another when the server has said that it closes
/// this one.
struct Client<'a> {
    server: &'a Server,
    connection: Option<Connection>,
}

impl<'a> Client<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, connection: None }
    }

    #[track_caller]
    fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let kept = self.connection.take();
        let mut connection = kept.unwrap_or_else(|| Connection::open(self.server.address));
        let answer = match connection.try_request(method, target, headers, body) {
            Some(answer) => answer,
            // The server may close an idle connection at any time, even as the next request is on
            // its way. It has not read that one then, so it can be sent again; a document that had
            // been stored all the same would show.
            None => {
                connection = Connection::open(self.server.address);
                connection.request(method, target, headers, body)
            }
        };
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        answer
    }

    #[track_caller]
    fn post(&mut self, document: &Value) -> Answer {
        self.request("POST", "/data", &JSON, document.to_string().as_bytes())
    }
}

/// All documents by `_id`, each of them once.
#[track_caller]
fn stored(server: &Server) -> BTreeMap<String, Value> {
    let mut documents = BTreeMap::new();
    for line in server.export().lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        let id = document["_id"].to_string();
        assert!(documents.insert(id.clone(), document).is_none(), "{id} is there twice");
    }
    documents
}

fn concurrent_clients_get_own_answers(store: Store) {
    // Where a page costs a look at the whole collection, that has to be a small one.
    let is_slow = store.lacks("sorting by an index: fewer documents");
    let each = if is_slow { 1 } else { 10 };
    let server = store.start(&[]);
    at_once(CLIENTS, |number| {
        let mut client = Client::new(&server);
        for turn in 0..each {
            let id = format!("{number}-{turn}");
            let document = json!({"_id": id, "client": number, "text": "x".repeat(number)});
            let name = format!("request-{id}");
            let headers = [JSON[0], ("X-Request-Id", name.as_str())];
            let answer = client.request("POST", "/data", &headers, document.to_string().as_bytes());
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert_eq!(answer.json(), json!({"inserted": 1, "ids": [id]}));
            assert_eq!(answer.header("x-request-id"), Some(name.as_str()));
            let location = answer.header("location").unwrap().to_owned();
            assert_eq!(client.request("GET", &location, &[], b"").json(), document);
            // An array, whose answer must keep its documents' order.
            let pair = json!([{"_id": format!("{id}-a")}, {"_id": format!("{id}-b")}]);
            let answer = client.post(&pair);
            assert_eq!(
                answer.json(),
                json!({"inserted": 2, "ids": [pair[0]["_id"], pair[1]["_id"]]})
            );
            // A page that nobody else asks for. All of them at once can be too much for a database
            // that sorts each time.
            let page = wait_for("the page", || {
                let answer =
                    client.request("GET", &format!("/data?limit=1&after=%22{id}%22"), &[], b"");
                (answer.status != 503 || !is_slow).then(|| answer.json())
            });
            assert_eq!(page, json!([pair[0]]));
        }
    });
    let documents = stored(&server);
    assert_eq!(documents.len(), CLIENTS * each * 3);
    for number in 0..CLIENTS {
        for turn in 0..each {
            assert_eq!(documents[&format!("\"{number}-{turn}\"")]["client"], number);
        }
    }
}

fn readers_see_all_acknowledged_writes(store: Store) {
    const WRITERS: usize = 20;
    const EACH: usize = 40;
    let server = store.start(&[]);
    let acknowledged = AtomicUsize::new(0);
    let seen_while_written = AtomicUsize::new(0);
    at_once(CLIENTS, |number| {
        let mut client = Client::new(&server);
        if number < WRITERS {
            for turn in 0..EACH {
                assert_eq!(client.post(&json!({"_id": number * EACH + turn})).status, 201);
                acknowledged.fetch_add(1, SeqCst);
            }
            return;
        }
        // Most ask the same, and so share the answer; the others are there for variety.
        let target =
            if number % 10 == 0 { "/data?limit=1000&order=desc" } else { "/data?limit=1000" };
        loop {
            let before = acknowledged.load(SeqCst);
            let answer = client.request("GET", target, &[], b"");
            assert_eq!(answer.status, 200);
            let seen = answer.json().as_array().unwrap().len();
            assert!(seen >= before, "saw {seen} of {before} documents");
            if before == WRITERS * EACH {
                return;
            }
            if before > 0 {
                seen_while_written.fetch_add(1, SeqCst);
            }
        }
    });
    assert!(seen_while_written.load(SeqCst) > 0, "no reader came while there were writers");
    assert_eq!(stored(&server).len(), WRITERS * EACH);
}

fn clients_beyond_connections_are_all_served(store: Store) {
    const EACH: usize = 5;
    let server = store.start(&[("MAX_CONNECTIONS", "8")]);
    at_once(CLIENTS, |number| {
        let mut client = Client::new(&server);
        for turn in 0..EACH {
            let id = number * EACH + turn;
            let answer = client.post(&json!({"_id": id}));
            assert_eq!(answer.json(), json!({"inserted": 1, "ids": [id]}));
            assert_eq!(
                client.request("GET", &format!("/data/{id}"), &[], b"").json(),
                json!({"_id": id})
            );
        }
    });
    assert_eq!(stored(&server).len(), CLIENTS * EACH);
}

fn one_of_equal_ids_wins(store: Store) {
    let server = store.start(&[]);
    for id in 0..10 {
        let winners = AtomicUsize::new(0);
        at_once(50, |number| {
            let document = json!({"_id": id, "winner": number});
            let answer = Client::new(&server).post(&document);
            match answer.status {
                201 => {
                    winners.fetch_add(1, SeqCst);
                    // Its own document, not that of another.
                    assert_eq!(server.get(&format!("/data/{id}")).json(), document);
                }
                _ => assert!(answer.problem(409).contains(&id.to_string())),
            }
        });
        assert_eq!(winners.into_inner(), 1, "{id}");
    }
    assert_eq!(stored(&server).len(), 10);
}

fn refused_document_leaves_batch_intact(store: Store) {
    let server = store.start(&[]);
    assert_eq!(server.post("{\"_id\":\"taken\"}").status, 201);
    at_once(CLIENTS, |number| {
        let mut client = Client::new(&server);
        for turn in 0..5 {
            match number % 4 {
                0 => drop(client.post(&json!({"_id": "taken"})).problem(409)),
                1 => drop(client.request("POST", "/data", &JSON, b"{\"_id\":").problem(400)),
                2 => {
                    let id = format!("{number}-{turn}");
                    let answer =
                        client.post(&json!([{"_id": "taken"}, {"_id": id}, {"_id": "taken"}]));
                    answer.problem(409);
                    let answer = answer.json();
                    assert_eq!((&answer["inserted"], &answer["ids"]), (&json!(1), &json!([id])));
                    assert_eq!(
                        (&answer["errors"][0]["index"], &answer["errors"][1]["index"]),
                        (&json!(0), &json!(2))
                    );
                }
                _ => {
                    assert_eq!(client.post(&json!({"_id": format!("{number}-{turn}")})).status, 201)
                }
            }
        }
    });
    assert_eq!(stored(&server).len(), 1 + CLIENTS / 2 * 5);
}
