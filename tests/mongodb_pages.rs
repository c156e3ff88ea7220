//! Pages and look-ups on MongoDB: what is asked on the wire, and that nothing is left out whatever
//! the replies are like. What FerretDB cannot store or do, a script answers in its place.

mod support;

use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::thread;

use bson::{Bson, Decimal128, Document, doc};
use serde_json::Value;
use support::collection::Collection;
use support::mongodb::database_of;
use support::proxy::{Fate, Proxy};
use support::{Connection, Mongodb, Server};

/// A server over a collection that a script plays.
fn start_over(collection: Collection) -> Option<(Server, Proxy)> {
    let proxy = Proxy::start(Mongodb::shared_own()?.port());
    let server = Mongodb::shared_own()?.start_behind(&proxy, "", &[("LOG", "off")]);
    proxy.answer("find", move |command| collection.find(command));
    Some((server, proxy))
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse::<Decimal128>().unwrap())
}

/// The `_id`s in each page as JSON, from `target` along the links.
fn walk(server: &Server, target: &str) -> Vec<Vec<String>> {
    let ids = |page: &Vec<Value>| page.iter().map(|document| document["_id"].to_string()).collect();
    server.pages(target, 1000).iter().map(ids).collect()
}

fn numbers(range: impl Iterator<Item = i32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn fill(server: &Server, count: i32) {
    let documents: Vec<String> = (0..count).map(|id| format!("{{\"_id\":{id}}}")).collect();
    assert_eq!(server.post(&format!("[{}]", documents.join(","))).status, 201);
}

#[test]
fn page_is_read_in_one_batch() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[("LOG", "off")]);
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
fn early_end_of_reply_loses_nothing() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[("LOG", "off")]);
    fill(&server, 20);
    server
        .post("[{\"_id\":\"a\"},{\"_id\":\"b\"},{\"_id\":\"c\"},{\"_id\":\"d\"},{\"_id\":\"e\"}]");
    proxy.set_for("find", Fate::Edit(end_after_three));
    let texts = ["a", "b", "c", "d", "e"].map(|text| format!("{text:?}"));
    let all = [numbers(0..20), texts.to_vec()].concat();
    let reversed: Vec<String> = all.iter().rev().cloned().collect();
    for limit in [1, 2, 3, 4, 7, 25, 100] {
        for (order, expected) in [("asc", &all), ("desc", &reversed)] {
            let pages = walk(&server, &format!("/data?limit={limit}&order={order}"));
            assert_eq!(&pages.concat(), expected, "limit={limit}, {order}");
            assert!(pages.iter().all(|page| page.len() <= limit), "limit={limit}, {order}");
        }
    }
    let lines: Vec<String> = all.iter().map(|id| format!("{{\"_id\":{id}}}")).collect();
    assert_eq!(server.export().lines().collect::<Vec<_>>(), lines);
}

/// Each query finds one document more at the end than the one before.
#[test]
fn page_at_the_end_does_not_chase_writers() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[("LOG", "off")]);
    let next = AtomicI32::new(10);
    proxy.answer("find", move |command| {
        let ids: Vec<Bson> = (0..next.fetch_add(1, SeqCst)).map(Bson::Int32).collect();
        Collection::of_ids(&ids).find(command)
    });
    let page = server.get("/data?limit=1000");
    assert_eq!(page.json().as_array().map(Vec::len), Some(10));
    assert!(page.next_link().is_some(), "there is more");
    assert_eq!(proxy.commands("find").len(), 2);
}

/// As FerretDB 1 does, which refuses a query that names a type which it cannot store.
#[test]
fn pages_go_on_where_server_lacks_types() {
    const LACKING: [&str; 7] =
        ["minKey", "decimal", "symbol", "dbPointer", "javascript", "javascriptWithScope", "maxKey"];
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[("LOG", "off")]);
    let ids = [Bson::Null, 1.into(), 2.into(), "a".into(), "b".into(), false.into(), true.into()];
    let collection = Collection::of_ids(&ids);
    proxy.answer("find", move |command| {
        let condition = command.get_document("filter").unwrap().get_document("_id");
        let types = condition.and_then(|condition| condition.get_array("$type"));
        let names = types.into_iter().flatten().map(|name| name.as_str().unwrap());
        match names.clone().find(|name| LACKING.contains(name)) {
            Some(name) => {
                let message = format!("Unknown type name alias: {name}");
                doc! { "ok": 0, "code": 2, "codeName": "BadValue", "errmsg": message }
            }
            None => collection.find(command),
        }
    });
    for order in ["asc", "desc"] {
        for limit in 1..=ids.len() + 1 {
            let pages = walk(&server, &format!("/data?limit={limit}&order={order}"));
            assert_eq!(pages.concat().len(), ids.len(), "limit={limit}, {order}: {pages:?}");
        }
    }
    // After the last type that there is, nothing is asked that the server does not know.
    assert_eq!(
        server.get("/data?after=%7B%22$timestamp%22:%7B%22t%22:1,%22i%22:1%7D%7D").text(),
        "[]\n"
    );
}

/// Every number that compares unlike it sorts, once of each type that has it.
#[test]
fn mixed_numbers_page_both_ways() {
    let doubles = [f64::NAN, f64::NEG_INFINITY, -0.0, f64::INFINITY].map(Bson::Double);
    let decimals = ["NaN", "-Infinity", "-0", "Infinity"].map(decimal);
    for mixture in 0..16 {
        let special =
            |n: usize| if mixture >> n & 1 == 0 { doubles[n].clone() } else { decimals[n].clone() };
        let ids = [
            Bson::MinKey,
            Bson::Null,
            special(0),
            special(1),
            decimal("-1E+300"),
            Bson::Int64(-5),
            special(2),
            decimal("0.5"),
            Bson::Double(1e300),
            special(3),
            Bson::String("a".into()),
            Bson::Boolean(false),
            Bson::Boolean(true),
            Bson::MaxKey,
        ];
        let Some((server, _proxy)) = start_over(Collection::of_ids(&ids)) else { return };
        let [all] = &walk(&server, "/data")[..] else { panic!("more than one page") };
        assert_eq!(all.len(), ids.len());
        let reversed: Vec<String> = all.iter().rev().cloned().collect();
        for limit in [1, 2, 5] {
            let pages =
                |ids: &[String]| ids.chunks(limit).map(<[String]>::to_vec).collect::<Vec<_>>();
            assert_eq!(
                walk(&server, &format!("/data?limit={limit}")),
                pages(all),
                "mixture {mixture}"
            );
            assert_eq!(
                walk(&server, &format!("/data?limit={limit}&order=desc")),
                pages(&reversed),
                "{mixture}"
            );
        }
    }
}

/// Asks for each of the ids again and again, many at a time.
fn look_up(server: &Server, proxy: &Proxy, targets: &[(&str, u16)]) {
    thread::scope(|scope| {
        for client in 0..32 {
            scope.spawn(move || {
                let mut connection = Connection::open(server.address);
                for turn in 0..40 {
                    let (id, status) = targets[(client + turn) % targets.len()];
                    let answer = connection.request("GET", &format!("/data/{id}"), &[], b"");
                    assert_eq!(answer.status, status, "{id}: {}", answer.text());
                }
            });
        }
    });
    let together =
        proxy.commands("find").iter().filter(|find| find.to_string().contains("$in")).count();
    assert!(together > 0, "none of them were asked for together");
}

#[test]
fn decimal_id_is_found_in_any_read() {
    let ids = [decimal("1.5"), Bson::Int32(7), Bson::Document(doc! { "a": decimal("2") })];
    let Some((server, proxy)) = start_over(Collection::of_ids(&ids)) else { return };
    let targets = [
        ("1.5", 200),
        ("%7B%22%24numberDecimal%22%3A%221.5%22%7D", 200),
        ("%7B%22a%22%3A%7B%22%24numberDecimal%22%3A%222%22%7D%7D", 200),
        ("7", 200),
        ("7.0", 200),
        ("8", 404),
        ("none", 404),
        ("%7B%22%24numberDecimal%22%3A%228%22%7D", 404),
    ];
    look_up(&server, &proxy, &targets);
}

#[test]
fn collation_equals_are_found_in_any_read() {
    let ids = ["ada", "Bob"].map(|name| Bson::String(name.to_owned()));
    let mut collection = Collection::of_ids(&ids);
    collection.ignores_case = true;
    let Some((server, proxy)) = start_over(collection) else { return };
    look_up(
        &server,
        &proxy,
        &[("ada", 200), ("Ada", 200), ("bob", 200), ("BOB", 200), ("carl", 404)],
    );
}

#[test]
fn missing_ids_are_read_in_one_command() {
    let Some((server, proxy)) = start_over(Collection::of_ids(&[Bson::Int32(1)])) else { return };
    look_up(&server, &proxy, &[("1", 200), ("2", 404), ("3", 404), ("4", 404), ("5", 404)]);
    let finds = proxy.commands("find").len();
    assert!(finds < 32 * 40 / 2, "{finds} commands for {} look-ups", 32 * 40);
}

/// Stores documents as another program might.
fn store_as_another(server: &Server, ids: &[Bson]) {
    let mongodb = Mongodb::shared_own().unwrap();
    let database = mongodb.client().database(&database_of(&server.directory()));
    let documents = ids.iter().map(|id| doc! { "_id": id.clone() });
    database.collection("data").insert_many(documents).run().unwrap();
}

#[test]
fn pages_and_export_include_overlong_ids() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let text = |first: &str, length: usize| Bson::String(format!("{first}{}", "x".repeat(length)));
    // Longer than the server itself stores, longer than a URL; first, last, by themselves and in a
    // row.
    let ids = [
        text("a", 20_000),
        text("b", 1),
        text("c", 2_000),
        text("d", 10_000),
        text("e", 20_000),
        text("f", 1),
        text("g", 100_000),
        text("h", 20_000),
        text("i", 300_000),
        text("j", 20_000),
        text("k", 1),
        text("l", 1),
        Bson::Document(doc! { "a": text("", 100_000) }),
        Bson::Boolean(true),
    ];
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[("LOG", "off")]);
    store_as_another(&server, &ids);
    let all: Vec<String> = server.export().lines().map(|line| line.to_owned()).collect();
    assert_eq!(all.len(), ids.len());
    for order in ["asc", "desc"] {
        for limit in [1, 2, 3, 4, 5, 14, 100] {
            let target = format!("/data?limit={limit}&order={order}");
            let mut seen = walk(&server, &target).concat();
            if order == "desc" {
                seen.reverse();
            }
            let seen: Vec<String> = seen.iter().map(|id| format!("{{\"_id\":{id}}}")).collect();
            assert!(seen == all, "{target}: {} of {} documents", seen.len(), all.len());
        }
    }
    // Where nothing is in the way, a page has as many as it was asked for.
    let lengths = |target: &str| walk(&server, target).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths("/data?limit=2")[..2], [2, 2]);
    let page = server.get("/data?limit=3");
    assert_eq!(page.next_link().unwrap().matches('x').count(), 2_000);
    // By its own URL as well, where that has room for it.
    assert_eq!(server.get(&format!("/data/c{}", "x".repeat(2_000))).status, 200);
}

#[test]
fn pages_include_ids_without_json_form() {
    let object = |value: Bson| Bson::Document(doc! { "a": value });
    let ids = [
        Bson::Int32(1),
        object(Bson::Document(doc! { "$date": "some day" })),
        object(Bson::Document(doc! { "$numberInt": "5" })),
        Bson::Boolean(true),
    ];
    let Some((server, _proxy)) = start_over(Collection::of_ids(&ids)) else { return };
    for order in ["asc", "desc"] {
        assert_eq!(
            walk(&server, &format!("/data?limit=1&order={order}")).concat().len(),
            ids.len()
        );
    }
    // What relaxed Extended JSON only writes shorter is no reason for a page to be longer.
    let ids: Vec<Bson> = (0..9)
        .map(|n| object(Bson::Document(doc! { "long": n as i64, "decimal": decimal("1.5") })))
        .collect();
    let Some((server, _proxy)) = start_over(Collection::of_ids(&ids)) else { return };
    assert!(walk(&server, "/data?limit=1").iter().all(|page| page.len() == 1));
}
