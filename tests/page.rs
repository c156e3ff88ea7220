//! The page that a browser gets at `/`, as bytes. What it does in a browser is tested by
//! tests/browser.sh.

mod support;

use std::net::TcpListener;

use ring::digest::{SHA256, digest};
use support::{Answer, Connection, Server, base64};

/// What Firefox sends.
const BROWSER: (&str, &str) =
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");

fn page(server: &Server) -> Answer {
    let page = server.request("GET", "/", &[BROWSER], b"");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    page
}

/// What the page has between the first two of these.
fn between(page: &str, start: &str, end: &str) -> String {
    let (_, rest) = page.split_once(start).unwrap();
    rest.split_once(end).unwrap().0.to_owned()
}

#[test]
fn browser_gets_small_page_with_time() {
    let server = Server::start(&[]);
    let before = chrono::Utc::now().timestamp_millis();
    let page = page(&server);
    let after = chrono::Utc::now().timestamp_millis();
    assert!(page.body.len() <= 8 * 1024, "{} bytes", page.body.len());
    let text = page.text();
    assert!(text.contains("<h1>Welcome to the two-tier app!</h1>"), "{text}");
    let time = between(&text, "<time>", "</time>");
    let time = chrono::DateTime::parse_from_rfc3339(&time).unwrap().timestamp_millis();
    assert!((before..=after).contains(&time), "{text}");
}

#[test]
fn page_loads_no_external_resources() {
    let server = Server::start(&[]);
    let page = page(&server);
    let text = page.text();
    let hash = |tag: &str| {
        let content = between(&text, &format!("<{tag}>"), &format!("</{tag}>"));
        format!("'sha256-{}'", base64(digest(&SHA256, content.as_bytes()).as_ref()))
    };
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    );
    assert_eq!(page.header("content-security-policy"), Some(policy.as_str()));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(page.header("vary"), Some("Accept"));
    for (tag, count) in
        [("<script", 1), ("<style", 1), ("<link", 1), ("src=", 0), ("@import", 0), ("url(", 0)]
    {
        assert_eq!(text.matches(tag).count(), count, "{tag}");
    }
}

#[test]
fn head_of_page_matches_get() {
    let server = Server::start(&[]);
    let get = page(&server);
    let mut connection = Connection::open(server.address);
    let head = connection.request("HEAD", "/", &[BROWSER], b"");
    let comparable = |answer: &Answer| {
        let headers =
            answer.headers.iter().filter(|(name, _)| name != "date" && name != "x-request-id");
        (answer.status, headers.cloned().collect::<Vec<_>>())
    };
    assert_eq!(comparable(&head), comparable(&get));
    // A body would be taken for the next answer.
    assert_eq!(connection.request("GET", "/", &[], b"").status, 200);
}

#[test]
fn page_names_file_without_directory() {
    let directory = std::sync::Arc::new(support::Directory::new());
    let name = "<script>alert(1)<!--&amp;{{time}}{{store}}\".redb";
    let file = directory.join(name).display().to_string();
    let server = Server::start_in(directory.clone(), &[("DATA_FILE", &file)]);
    let text = page(&server).text();
    assert_eq!(
        between(&text, "<bdi>", "</bdi>"),
        "the file &lt;script&gt;alert(1)&lt;!--&amp;amp;{{time}}{{store}}\".redb"
    );
    assert!(!text.contains(directory.path().to_str().unwrap()));
}

/// A database that takes connections and never answers: the page asks it nothing.
#[test]
fn page_works_without_database_or_address() {
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = database.local_addr().unwrap().port();
    let uri = format!("mongodb://ada:hush@127.0.0.1:{port}/shop?authSource=admin");
    let server = Server::start(&[("MONGODB_URI", &uri), ("COLLECTION", "<b>&c</b>")]);
    let text = page(&server).text();
    assert_eq!(between(&text, "<bdi>", "</bdi>"), "MongoDB, shop.&lt;b&gt;&amp;c&lt;/b&gt;");
    for secret in ["ada", "hush", "127.0.0.1", &port.to_string()] {
        assert!(!text.replace("Ada", "").contains(secret), "{secret}");
    }
}
