//! The MongoDB tier as others see it: the documents in the database, the commands on the wire, the
//! settings. What happens when the database fails is in mongodb_failure.rs; what does not depend on
//! the store is in api.rs, paging.rs, import.rs, order.rs, concurrency.rs and durability.rs, which
//! run over MongoDB as well.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use ::mongodb::sync::Collection;
use bson::{Document, RawDocumentBuf, doc, rawdoc};
use serde_json::{Value, json};
use support::mongodb::{ENCODED_PASSWORD, PASSWORD, database_of};
use support::proxy::{Fate, Proxy};
use support::tools::mongosh;
use support::{Connection, Directory, Mongodb, Server, at_once, run, two_tier, wait_for};

const CLIENTS: usize = 200;

/// A server over a database of its own, which is given as well.
fn start(mongodb: &Mongodb, settings: &[(&str, &str)]) -> (Server, String) {
    let directory = Arc::new(Directory::new());
    let database = database_of(&directory);
    let uri = mongodb.uri(&database);
    let server =
        Server::start_in(directory, &[&[("MONGODB_URI", uri.as_str())], settings].concat());
    (server, database)
}

fn collection(mongodb: &Mongodb, database: &str, name: &str) -> Collection<RawDocumentBuf> {
    mongodb.client().database(database).collection(name)
}

#[test]
fn documents_go_to_configured_database_and_collection() {
    let Some(mongodb) = Mongodb::shared() else { return };
    let (server, database) = start(mongodb, &[("COLLECTION", "orders")]);
    assert!(server.log()[0].contains(&format!("{database}.orders")), "{:?}", server.log());
    let posted =
        server.post(r#"{"z":1,"_id":7,"a":{"y":[true,null],"b":2147483648},"when":{"$date":"2024-02-29T00:00:00Z"}}"#);
    assert_eq!(posted.status, 201, "{}", posted.text());
    let stored = collection(mongodb, &database, "orders").find_one(doc! {}).run().unwrap().unwrap();
    let when = bson::DateTime::from_millis(1_709_164_800_000);
    let expected = rawdoc! { "_id": 7, "z": 1, "a": { "y": [true, null], "b": 2_147_483_648_i64 }, "when": when };
    assert_eq!(stored, expected, "the same bytes, the _id first");

    // And what another program stores there is served.
    collection(mongodb, &database, "orders")
        .insert_one(rawdoc! { "_id": 8, "by": "another" })
        .run()
        .unwrap();
    assert_eq!(server.get("/data/8").json(), json!({"_id": 8, "by": "another"}));
    assert_eq!(server.get("/data?after=7").json(), json!([{"_id": 8, "by": "another"}]));
}

#[test]
fn generated_id_is_object_id_in_database() {
    let Some(mongodb) = Mongodb::shared() else { return };
    let (server, database) = start(mongodb, &[]);
    let posted = server.post("{}");
    let id = posted.json()["ids"][0]["$oid"].as_str().unwrap().to_owned();
    let stored = collection(mongodb, &database, "data").find_one(doc! {}).run().unwrap().unwrap();
    assert_eq!(stored.get_object_id("_id").unwrap().to_hex(), id);
}

#[test]
fn uri_takes_older_name_and_files() {
    let Some(mongodb) = Mongodb::shared() else { return };
    let directory = Arc::new(Directory::new());
    let uri = mongodb.uri(&database_of(&directory));
    let file = directory.join("uri");
    std::fs::write(&file, format!("{uri}\n")).unwrap();
    let file = file.to_str().unwrap();
    for (n, setting) in
        [("MONOGODB_URI", uri.as_str()), ("MONGODB_URI_FILE", file), ("MONOGODB_URI_FILE", file)]
            .into_iter()
            .enumerate()
    {
        let server = Server::start_in(directory.clone(), &[setting]);
        assert_eq!(server.post(&format!("{{\"_id\":{n}}}")).status, 201, "{setting:?}");
        assert_eq!(server.get("/data").json().as_array().unwrap().len(), n + 1);
    }
    // The right name goes first.
    let settings = [("MONGODB_URI", uri.as_str()), ("MONOGODB_URI", "mongodb://127.0.0.1:1/other")];
    let server = Server::start_in(directory.clone(), &settings);
    assert_eq!(server.get("/data").json().as_array().unwrap().len(), 3);
}

#[test]
fn start_fails_on_bad_uri_without_password() {
    let host = format!("tests:{ENCODED_PASSWORD}@127.0.0.1:27017");
    for uri in [
        format!("mongodb://{host}"),
        format!("mongodb://{host}/"),
        format!("mongodb://{host}/?authSource=admin"),
        format!("http://{host}/db"),
        format!("{host}/db"),
        format!("mongodb://tests:{PASSWORD}@127.0.0.1/db"),
        format!("mongodb://tests:{ENCODED_PASSWORD}@/db"),
        format!("mongodb://tests:{ENCODED_PASSWORD}@127.0.0.1:port/db"),
        format!("mongodb://tests:{ENCODED_PASSWORD}@127.0.0.1:99999/db"),
        format!("mongodb://{host}/db?w=-1"),
        format!("mongodb://{host}/db?w=0"),
        format!("mongodb://{host}/db?w=0&journal=false"),
        format!("mongodb://{host}/db?authMechanism=none"),
        format!("mongodb://{host}/db?password={ENCODED_PASSWORD}"),
        format!("mongodb+srv://{host}/db"),
        format!("mongodb://tests:{ENCODED_PASSWORD}%zz@127.0.0.1/db"),
        format!("mongodb://{host}/d b"),
        "mongodb://".to_owned(),
        "nonsense".to_owned(),
    ] {
        for name in ["MONGODB_URI", "MONOGODB_URI"] {
            let mut command = two_tier();
            command.envs([("PORT", "0"), ("OPS_PORT", "0"), (name, uri.as_str())]);
            let output = run(command);
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(2), "{uri}: {text}");
            assert!(text.starts_with(&format!("two-tier: {name}: ")), "{uri}: {text}");
            assert_eq!(text.lines().count(), 1, "{uri}: {text}");
            assert!(!text.contains("hush"), "{uri}: {text}");
        }
    }
}

#[test]
fn unauthorized_user_gets_500() {
    let Some(mongodb) = Mongodb::shared() else { return };
    let directory = Arc::new(Directory::new());
    let uri = mongodb.uri(&database_of(&directory));
    let (user, rest) = uri.split_once('@').unwrap();
    let nobody = format!("{}{}", user.split_once("//").unwrap().0.to_owned() + "//", rest);
    let nobody = nobody.split('?').next().unwrap().to_owned();
    let server = Server::start_in(directory, &[("MONGODB_URI", &nobody)]);
    for answer in [server.post("{}"), server.get("/data"), server.get("/data/1")] {
        let detail = answer.problem(500);
        assert!(detail.contains("readWrite"), "{detail}");
        assert_eq!(answer.header("retry-after"), None);
    }
}

#[test]
fn concurrent_requests_share_commands() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[("LOG", "off")]);
    assert_eq!(server.post("{\"_id\":\"first\"}").status, 201);
    at_once(CLIENTS, |number| {
        let mut connection = Connection::open(server.address);
        for turn in 0..5 {
            let document = format!("{{\"_id\":\"{number}-{turn}\"}}");
            let headers = [("Content-Type", "application/json")];
            assert_eq!(
                connection.request("POST", "/data", &headers, document.as_bytes()).status,
                201
            );
            assert_eq!(connection.request("GET", "/data?limit=10", &[], b"").status, 200);
        }
    });
    let inserts = proxy.commands("insert").len() as f64;
    // A query that found fewer than it asked for is followed by one that skips those and looks
    // whether there are more, and where there are by now, by one that begins after those.
    let is_first = |find: &&Document| {
        let filter = find.get_document("filter");
        !find.contains_key("skip") && filter.map_or(true, Document::is_empty)
    };
    let finds = proxy.commands("find").iter().filter(is_first).count() as f64;
    let documents = server.metric("two_tier_insert_documents_sum");
    let readers = server.metric("two_tier_query_readers_sum");
    assert_eq!((documents, readers), (1.0 + 5.0 * CLIENTS as f64, 5.0 * CLIENTS as f64));
    // The metrics say what is on the wire.
    assert_eq!(server.metric("two_tier_insert_documents_count"), inserts);
    assert_eq!(server.metric("two_tier_query_readers_count"), finds);
    assert!(documents / inserts > 4.0, "{documents} documents in {inserts} inserts");
    assert!(readers / finds > 4.0, "{readers} readers of {finds} queries");
    let pool = server.metric("two_tier_database_connections");
    assert!((1.0..20.0).contains(&pool), "{pool} connections");
}

#[test]
fn write_concern_defaults_to_durable() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    for (options, write_concern) in [
        ("", doc! { "w": "majority", "j": true }),
        ("&w=1", doc! { "w": 1 }),
        ("&journal=false&w=1", doc! { "w": 1, "j": false }),
    ] {
        let proxy = Proxy::start(mongodb.port());
        let server = mongodb.start_behind(&proxy, options, &[("LOG", "off")]);
        assert_eq!(server.post("{\"_id\":1}").status, 201);
        let insert = &proxy.commands("insert")[0];
        assert_eq!(insert.get_document("writeConcern").unwrap(), &write_concern, "{options}");
        assert!(!insert.get_bool("ordered").unwrap());
        let greeting = [proxy.commands("hello"), proxy.commands("isMaster")].concat();
        let client =
            greeting.iter().find_map(|greeting| greeting.get_document("client").ok()).unwrap();
        assert_eq!(client.get_document("application").unwrap(), &doc! { "name": "two-tier" });
    }
}

#[test]
fn write_sent_twice_is_stored_once() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[("LOG", "off")]);
    proxy.set_for("insert", Fate::Repeat);
    // The _id is the server's own, so that the document that is there already can only be this one.
    for body in ["{\"n\":1}", "[{\"n\":2},{\"n\":3}]"] {
        let posted = server.post(body);
        assert_eq!(posted.status, 201, "{}", posted.text());
    }
    assert_eq!(server.import("{\"n\":4}\n").text(), "{\"inserted\":1}\n");
    // The client's is not: somebody else may have stored it.
    server.post("{\"_id\":1,\"n\":5}").problem(409);
    let mut numbers: Vec<u64> = server
        .get("/data")
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["n"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[test]
fn pages_use_index_of_id() {
    let Some(mongodb) = Mongodb::shared_own() else { return };
    if mongodb.lacks("explain names the index") {
        return;
    }
    let proxy = Proxy::start(mongodb.port());
    let server = mongodb.start_behind(&proxy, "", &[("LOG", "off")]);
    let ids = [
        "null",
        "1",
        "\"a\"",
        "{\"a\":1}",
        "{\"$oid\":\"0123456789abcdef01234567\"}",
        "true",
        "{\"$date\":\"2024-02-29T00:00:00Z\"}",
    ];
    for id in ids {
        assert_eq!(server.post(&format!("{{\"_id\":{id}}}")).status, 201);
    }
    for order in ["asc", "desc"] {
        let mut next = Some(format!("/data?limit=1&order={order}"));
        while let Some(target) = next {
            next = server.get(&target).next_link();
        }
    }
    for find in proxy.commands("find") {
        let database = find.get_str("$db").unwrap().to_owned();
        let find: Document =
            find.into_iter().filter(|(key, _)| !key.starts_with('$') && key != "lsid").collect();
        let plan = mongodb
            .client()
            .database(&database)
            .run_command(doc! { "explain": &find })
            .run()
            .unwrap()
            .to_string();
        assert!(
            plan.contains("IXSCAN") && !plan.contains("COLLSCAN") && !plan.contains("\"SORT\""),
            "{find}: {plan}"
        );
    }
}

/// Stores a document with an `_id` of its own, again where the database was too slow to say that it
/// did.
#[track_caller]
fn store(server: &Server, document: &str) {
    wait_for("the document to be stored", || match server.post(document) {
        answer if matches!(answer.status, 201 | 409) => Some(()),
        answer if answer.status == 503 => None,
        answer => panic!("{}", answer.text()),
    });
}

#[test]
fn large_documents_hinder_no_others() {
    let Some(mongodb) = Mongodb::shared() else { return };
    let (server, database) = start(mongodb, &[("MAX_BODY", "16MiB"), ("BODY_TIMEOUT", "60s")]);
    let large =
        |id: &str, bytes: usize| format!("{{\"_id\":\"{id}\",\"a\":\"{}\"}}", "x".repeat(bytes));
    // With 16 MiB less 60 bytes of text the BSON is just below the limit, and so is the JSON below
    // MAX_BODY.
    let largest = large("largest", 16 * 1024 * 1024 - 60);
    // In BSON each of these takes the room of its key as well.
    let too_large = format!("{{\"a\":[{}1]}}", "1,".repeat(3_000_000));
    thread::scope(|scope| {
        let small: Vec<_> = (0..20)
            .map(|n| {
                scope.spawn({
                    let server = &server;
                    move || store(server, &format!("{{\"_id\":{n}}}"))
                })
            })
            .collect();
        let largest = scope.spawn(|| store(&server, &largest));
        let too_large = scope.spawn(|| server.post(&too_large));
        let detail = too_large.join().unwrap().problem(413);
        assert!(detail.contains("16"), "{detail}");
        largest.join().unwrap();
        small.into_iter().for_each(|small| small.join().unwrap());
    });
    assert_eq!(server.get("/data/largest").text().trim_end(), largest);
    let documents = collection(mongodb, &database, "data");
    assert_eq!(documents.count_documents(doc! {}).run().unwrap(), 21);
    // Two that one answer of the database cannot hold are pages of their own, and none is left out.
    store(&server, &large("later", 9_000_000));
    // Sorting that much can take longer than a request may where it is done without an index.
    let page_of_one = |target: &str, id: &str| {
        let page =
            wait_for("a page", || Some(server.get(target)).filter(|answer| answer.status == 200));
        let documents = page.json();
        assert_eq!(
            (documents.as_array().unwrap().len(), &documents[0]["_id"]),
            (1, &id.into()),
            "{target}"
        );
        page.next_link()
    };
    let next = page_of_one("/data?after=19&limit=2", "largest").unwrap();
    assert_eq!(page_of_one(&next, "later"), None);
}

#[test]
fn id_is_never_query_operator() {
    let Some(mongodb) = Mongodb::shared() else { return };
    let (server, database) = start(mongodb, &[]);
    for n in 0..3 {
        server.post(&format!("{{\"_id\":{n}}}"));
    }
    for hostile in [
        r#"{"$gt":""}"#,
        r#"{"$gt":null}"#,
        r#"{"$ne":null}"#,
        r#"{"$exists":true}"#,
        r#"{"$in":[0,1,2]}"#,
        r#"{"$nin":[]}"#,
        r#"{"$eq":0}"#,
        r#"{"$type":"number"}"#,
        r#"{"$where":"1"}"#,
        r#"{"$expr":{"$eq":[1,1]}}"#,
        r#"{"$regex":".*"}"#,
        r#"{"$regularExpression":{"pattern":".*","options":""}}"#,
        r#"{"$or":[{},{}]}"#,
        r#"{"a":1,"$gt":0}"#,
        r#"{"$not":{"$eq":9}}"#,
        "[0,1,2]",
    ] {
        let encoded: String = hostile.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answers = [
            server.get(&format!("/data/{encoded}")),
            server.get(&format!("/data?after={encoded}")),
            server.post(&format!("{{\"_id\":{hostile}}}")),
        ];
        for answer in answers {
            answer.problem(400);
        }
    }
    // Behind the first level such keys are only keys.
    for hostile in [r#"{"a":{"$gt":""}}"#, r#"{"":{"$ne":null}}"#] {
        let encoded: String = hostile.bytes().map(|byte| format!("%{byte:02X}")).collect();
        server.get(&format!("/data/{encoded}")).problem(404);
        assert_eq!(server.get(&format!("/data?after={encoded}")).text(), "[]\n");
    }
    for text in ["$gt", "$where", "{\"$gt\":\"\"", "a.b", "$$ROOT"] {
        let document = json!({ "_id": text });
        assert_eq!(server.post(&document.to_string()).status, 201);
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(server.get(&format!("/data/{encoded}")).json(), document);
    }
    assert_eq!(collection(mongodb, &database, "data").count_documents(doc! {}).run().unwrap(), 8);
}

/// Runs a script in `mongosh` and returns what it prints.
fn shell(mongodb: &Mongodb, database: &str, directory: &Directory, script: &str) -> Option<String> {
    let mut command = mongosh()?;
    // Its settings and history belong into a home that goes with the test.
    command.env("HOME", directory.path()).env("DO_NOT_TRACK", "1");
    let uri = mongodb.uri(database);
    let output = run({
        command.args([uri.as_str(), "--quiet", "--norc", "--eval", script]);
        command
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

#[test]
fn mongosh_and_web_tier_exchange_documents() {
    let Some(mongodb) = Mongodb::shared() else { return };
    let (server, database) = start(mongodb, &[]);
    let fields: Vec<&str> = [
        r#""int":2147483647"#,
        r#""long":9223372036854775807"#,
        r#""double":0.1"#,
        r#""whole":3.0"#,
        r#""text":"é😀\u0000\"""#,
        r#""date":{"$date":"2024-02-29T12:34:56.789Z"}"#,
        r#""old":{"$date":{"$numberLong":"-62135596800001"}}"#,
        r#""id":{"$oid":"0123456789abcdef01234567"}"#,
        r#""binary":{"$binary":{"base64":"/+8=","subType":"80"}}"#,
        r#""uuid":{"$binary":{"base64":"ASNFZ4mrze8BI0VniavN7w==","subType":"04"}}"#,
        r#""regex":{"$regularExpression":{"pattern":"^a","options":"i"}}"#,
        r#""timestamp":{"$timestamp":{"t":42,"i":1}}"#,
        r#""nested":{"a":[{"b":null},true]}"#,
        r#""decimal":{"$numberDecimal":"1.10"}"#,
        r#""least":{"$minKey":1}"#,
        r#""most":{"$maxKey":1}"#,
        r#""infinite":{"$numberDouble":"-Infinity"}"#,
        r#""code":{"$code":"f()"}"#,
        r#""arrays":[[1],[]]"#,
    ]
    .into_iter()
    .filter(|field| !mongodb.lacks_value(field))
    .collect();
    let document = format!("{{\"_id\":\"web\",{}}}", fields.join(","));
    store(&server, &document);
    // The shell reads what the web tier stored, stores it again under another _id, and says what it
    // is.
    let script = "const d = db.data.findOne({_id: 'web'}); d._id = 'shell'; db.data.insertOne(d); \
                  print(EJSON.stringify(d, {relaxed: true}))";
    let Some(printed) = shell(mongodb, &database, &server.directory(), script) else { return };
    let copy = document.replace("\"web\"", "\"shell\"");
    let as_json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let last = printed.lines().last().unwrap();
    // JavaScript has one kind of number, so that 3.0 is 3 to it, and a pattern's type is its own.
    for (key, value) in as_json(last).as_object().unwrap() {
        assert_eq!(
            value.as_f64().map_or(value.clone(), Value::from),
            as_json(&copy)[key].as_f64().map_or(as_json(&copy)[key].clone(), Value::from),
            "{key} in {last}"
        );
    }
    let got = as_json(&server.get("/data/shell").text());
    for (key, value) in as_json(&copy).as_object().unwrap() {
        assert_eq!(
            got[key].as_f64().map_or(got[key].clone(), Value::from),
            value.as_f64().map_or(value.clone(), Value::from),
            "{key}"
        );
    }
    assert_eq!(
        got.as_object().unwrap().keys().collect::<BTreeSet<_>>(),
        as_json(&copy).as_object().unwrap().keys().collect()
    );

    // Values of the shell's own making.
    let script = "db.data.insertOne({_id: ObjectId('0123456789abcdef01234567'), long: Long('5'), int: Int32(6), \
                  double: Double(7), date: ISODate('2024-02-29T00:00:00Z'), uuid: UUID('01234567-89ab-cdef-0123-456789abcdef')})";
    shell(mongodb, &database, &server.directory(), script);
    assert_eq!(
        server.get("/data/0123456789abcdef01234567").text(),
        "{\"_id\":{\"$oid\":\"0123456789abcdef01234567\"},\"long\":5,\"int\":6,\"double\":7.0,\
         \"date\":{\"$date\":\"2024-02-29T00:00:00Z\"},\
         \"uuid\":{\"$binary\":{\"base64\":\"ASNFZ4mrze8BI0VniavN7w==\",\"subType\":\"04\"}}}\n"
    );
}

/// Each call is made on its connection's own thread then, where reads are guarded.
#[test]
fn answers_are_same_without_batching() {
    let Some(mongodb) = Mongodb::shared() else { return };
    let (server, _) = start(mongodb, &[("GROUPING", "off")]);
    store(&server, r#"{"_id":1}"#);
    assert_eq!(server.get("/data/1").text(), "{\"_id\":1}\n");
    assert_eq!(server.get("/data").text(), "[{\"_id\":1}]\n");
}
