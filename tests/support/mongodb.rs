//! The MongoDB that the tests use: a real server with authentication on, found in this order: the
//! one at `TEST_MONGODB_URI`; `mongod` on PATH; docker or podman with `mongo:8`; else FerretDB,
//! built once through Go. One server serves all tests of a test binary, each with a database of its
//! own; a test that stops or kills its server starts another for itself. Servers end with the
//! process that started them, however that ends.

mod keeper;
mod own;
mod program;

use std::env;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bson::doc;
use mongodb::sync::Client;

use super::proxy::Proxy;
use super::tools::{say, say_once, test_name};
use super::{Directory, Server};
use own::Own;

const USER: &str = "tests";
/// With every character that a URI has to encode.
pub const PASSWORD: &str = "hush:/?#[]@%41 hush";
pub const ENCODED_PASSWORD: &str = "hush%3A%2F%3F%23%5B%5D%40%2541%20hush";

/// For all tests of this process.
static SHARED: OnceLock<Option<Mongodb>> = OnceLock::new();

/// A server.
pub struct Mongodb {
    /// None: it is somebody else's, at `TEST_MONGODB_URI`.
    own: Option<Own>,
    /// Up to the name of the database, and from behind it.
    uri: (String, String),
    is_ferretdb: bool,
}

impl Mongodb {
    /// The server for all tests of this process; none if there is nothing to run one, which it
    /// says.
    pub fn shared() -> Option<&'static Self> {
        let shared = SHARED.get_or_init(|| match env::var("TEST_MONGODB_URI") {
            Ok(uri) if !uri.is_empty() => Some(Self::at(&uri)),
            _ => Self::start_own(),
        });
        if shared.is_none() {
            say(&format!("skipped, as there is no MongoDB: {}", test_name()));
        }
        shared.as_ref()
    }

    /// A server that the caller may stop and kill.
    pub fn start() -> Option<Self> {
        let own = Self::start_own();
        if own.is_none() {
            say(&format!("skipped, as there is no MongoDB: {}", test_name()));
        }
        own
    }

    /// A server of this process, though not of one test's: what a proxy is put before.
    pub fn shared_own() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Mongodb>> = OnceLock::new();
        let shared = Self::shared()?;
        match shared.own {
            Some(_) => Some(shared),
            None => SHARED.get_or_init(Self::start).as_ref(),
        }
    }

    fn at(uri: &str) -> Self {
        say_once("the tests use the MongoDB at TEST_MONGODB_URI");
        let start = uri.find("://").expect("TEST_MONGODB_URI is a URI") + 3;
        let end = uri[start..].find(['/', '?']).map_or(uri.len(), |index| start + index);
        let (path, query) = uri[end..].split_once('?').unwrap_or((&uri[end..], ""));
        let mut options: Vec<String> =
            query.split('&').filter(|option| !option.is_empty()).map(String::from).collect();
        if uri[..end].contains('@') && !query.contains("authSource=") {
            let source = path.trim_start_matches('/');
            options
                .push(format!("authSource={}", if source.is_empty() { "admin" } else { source }));
        }
        let mut server = Self {
            own: None,
            uri: (format!("{}/", &uri[..end]), format!("?{}", options.join("&"))),
            is_ferretdb: false,
        };
        server.is_ferretdb = server.asks_for_ferretdb();
        server
    }

    fn start_own() -> Option<Self> {
        let own = Own::start_new()?;
        let uri = format!("mongodb://{USER}:{ENCODED_PASSWORD}@127.0.0.1:{}/", own.port);
        let mut server =
            Self { own: Some(own), uri: (uri, "?authSource=admin".to_owned()), is_ferretdb: false };
        server.wait_until_it_answers();
        server.is_ferretdb = server.asks_for_ferretdb();
        Some(server)
    }

    /// What MONGODB_URI takes, with everything that it needs.
    pub fn uri(&self, database: &str) -> String {
        format!("{}{database}{}", self.uri.0, self.uri.1)
    }

    /// As `uri`, through a proxy.
    pub fn uri_through(&self, proxy: &Proxy, database: &str) -> String {
        let own = format!("@127.0.0.1:{}/", self.port());
        self.uri(database).replace(&own, &format!("@{}/", proxy.address))
    }

    /// Starts a two-tier that reaches this database through a proxy; `options` go at the end of its
    /// URI.
    pub fn start_behind(&self, proxy: &Proxy, options: &str, settings: &[(&str, &str)]) -> Server {
        let directory = Arc::new(Directory::new());
        let uri = self.uri_through(proxy, &database_of(&directory)) + options;
        Server::start_in(directory, &[&[("MONGODB_URI", uri.as_str())], settings].concat())
    }

    /// The port on 127.0.0.1 of a server of one's own.
    pub fn port(&self) -> u16 {
        self.own().port
    }

    /// The ecosystem's own view of the server.
    pub fn client(&self) -> Client {
        Client::with_uri_str(self.uri("admin")).unwrap()
    }

    /// Whether it is FerretDB, and so cannot do `what`. Then that is counted among what the tests
    /// leave out.
    pub fn lacks(&self, what: &str) -> bool {
        static SKIPPED: AtomicU32 = AtomicU32::new(0);
        if self.is_ferretdb {
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            say(&format!("skipped on FerretDB ({count}): {what}, in {}", test_name()));
        }
        self.is_ferretdb
    }

    /// As `lacks`, for a value in JSON.
    pub fn lacks_value(&self, json: &str) -> bool {
        const UNKNOWN_TO_FERRETDB: [&str; 15] = [
            "\"$minKey\"",
            "\"$maxKey\"",
            "\"$symbol\"",
            "\"$code\"",
            "\"$dbPointer\"",
            "\"$undefined\"",
            "\"$numberDecimal\"",
            "NaN",
            "Infinity",
            "\"-0.0\"",
            "[[",
            // Keys, not types.
            "\"$ref\"",
            "\"$d\"",
            // The same _id as the number there.
            "{\"$date\":{\"$numberLong\":\"-1\"}}",
            "{\"$date\":{\"$numberLong\":\"9223372036854775807\"}}",
        ];
        UNKNOWN_TO_FERRETDB.iter().any(|text| json.contains(text)) && self.lacks(json)
    }

    /// Sends a signal to a server of one's own, by its name as kill(1) knows it. One that is to
    /// stop has stopped then.
    pub fn signal(&self, name: &str) {
        self.own().signal(name);
    }

    /// Kills a server of one's own (SIGKILL); its documents stay.
    pub fn kill(&self) {
        self.own().kill();
    }

    /// Starts a server of one's own again over its documents, and waits until it answers.
    pub fn restart(&self) {
        assert!(self.own().start(), "the database server does not start again");
        self.wait_until_it_answers();
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("a server of one's own")
    }

    fn wait_until_it_answers(&self) {
        self.client().database("admin").run_command(doc! { "ping": 1 }).run().unwrap();
    }

    fn asks_for_ferretdb(&self) -> bool {
        let answer =
            self.client().database("admin").run_command(doc! { "buildInfo": 1 }).run().unwrap();
        answer.keys().any(|key| key.starts_with("ferretdb"))
    }
}

/// The database for the documents that belong to `directory`.
pub fn database_of(directory: &Directory) -> String {
    // A server outlives the tests, and process ids come again.
    static START: OnceLock<u64> = OnceLock::new();
    let start =
        START.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    format!("{}-{start}", directory.path().file_name().unwrap().display())
}

/// Leaves nothing behind on a server that stays.
pub fn drop_database_of(directory: &Directory) {
    if let Some(Some(server)) = SHARED.get()
        && server.own.is_none()
    {
        let _ = server.client().database(&database_of(directory)).drop().run();
    }
}

/// The password in none of its forms, nor a good part of it, is in anything that the server says.
#[track_caller]
pub fn assert_no_secret(server: &Server) {
    let metrics = server.ops("/metrics").text();
    let everything = [server.log().join("\n"), metrics, server.ops("/readyz").text()].join("\n");
    assert!(!everything.contains("hush"), "{everything}");
}
