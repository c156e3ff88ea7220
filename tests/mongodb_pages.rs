//! Pages and look-ups on MongoDB: what is asked on the wire, and that nothing is left out whatever the replies are like.
//! What FerretDB cannot store or do, a script answers in its place.

mod support;

use std::sync::Arc;

use bson::{Bson, Document};
use support::mongodb::database_of;
use support::proxy::{Fate, Proxy};
use support::{Connection, Directory, Mongodb, Server};

/// A server that reaches its database through a proxy.
fn start_behind(mongodb: &Mongodb, proxy: &Proxy) -> Server {
    let directory = Arc::new(Directory::new());
    let uri = mongodb.uri_through(proxy, &database_of(&directory));
    Server::start_in(directory, &[("MONGODB_URI", &uri), ("LOG", "off")])
}

/// The `_id`s in each page as JSON, from `target` along the links.
fn walk(server: &Server, target: &str) -> Vec<Vec<String>> {
    let mut connection = Connection::open(server.address);
    let mut next = Some(target.to_owned());
    let mut pages = Vec::new();
    while let Some(target) = next {
        let answer = connection.request("GET", &target, &[], b"");
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        pages.push(answer.json().as_array().unwrap().iter().map(|document| document["_id"].to_string()).collect());
        assert!(pages.len() < 1000, "the links do not come to an end: {target}");
        next = answer.next_link();
    }
    pages
}

fn numbers(range: impl Iterator<Item = i32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn fill(server: &Server, count: i32) {
    let documents: Vec<String> = (0..count).map(|id| format!("{{\"_id\":{id}}}")).collect();
    assert_eq!(server.post(&format!("[{}]", documents.join(","))).status, 201);
}

#[test]
fn a_page_is_asked_for_as_one_batch() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = start_behind(mongodb, &proxy);
    fill(&server, 700);
    assert_eq!(server.get("/data?limit=500").json().as_array().unwrap().len(), 500);
    let [find] = &proxy.commands("find")[..] else { panic!("more than one find") };
    let number = |name: &str| match find.get(name) {
        Some(Bson::Int64(number)) => *number,
        Some(Bson::Int32(number)) => i64::from(*number),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!((number("limit"), number("batchSize")), (501, 501));
    assert!(find.get_bool("singleBatch").unwrap());
    assert!(proxy.commands("getMore").is_empty() && proxy.commands("killCursors").is_empty());
}

/// As MongoDB's where the next document would make it longer than 16 MiB.
fn end_after_three(mut answer: Document) -> Document {
    if let Ok(cursor) = answer.get_document_mut("cursor") {
        cursor.get_array_mut("firstBatch").unwrap().truncate(3);
    }
    answer
}

#[test]
fn a_reply_that_ends_early_ends_nothing() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = start_behind(mongodb, &proxy);
    fill(&server, 20);
    server.post("[{\"_id\":\"a\"},{\"_id\":\"b\"},{\"_id\":\"c\"},{\"_id\":\"d\"},{\"_id\":\"e\"}]");
    proxy.set_for("find", Fate::Edit(end_after_three));
    let texts = ["a", "b", "c", "d", "e"].map(|text| format!("{text:?}"));
    let all = [numbers(0..20), texts.to_vec()].concat();
    let reversed: Vec<String> = all.iter().rev().cloned().collect();
    for limit in [1, 2, 3, 4, 7, 25, 100] {
        let pages = |ids: &[String]| ids.chunks(limit).map(<[String]>::to_vec).collect::<Vec<_>>();
        assert_eq!(walk(&server, &format!("/data?limit={limit}")), pages(&all), "limit={limit}");
        assert_eq!(walk(&server, &format!("/data?limit={limit}&order=desc")), pages(&reversed), "limit={limit}");
    }
    let lines: Vec<String> = all.iter().map(|id| format!("{{\"_id\":{id}}}")).collect();
    assert_eq!(server.export().lines().collect::<Vec<_>>(), lines);
}
