//! A server is ready once it has reached its database, and stays so when that fails: every server
//! would be taken out at once, and with them what needs no database, and the answers that say what
//! is wrong.

mod support;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::mongodb::database_of;
use support::{Directory, Mongodb, Server, run, two_tier, wait_for};

fn start(mongodb: &Mongodb) -> Server {
    let directory = Arc::new(Directory::new());
    let uri = mongodb.uri(&database_of(&directory));
    Server::start_in(directory, &[("MONGODB_URI", &uri)])
}

fn healthcheck(server: &Server) -> Option<i32> {
    let mut command = two_tier();
    command.arg("healthcheck").env("OPS_PORT", server.ops_address.port().to_string());
    run(command).status.code()
}

fn is_up(server: &Server) -> bool {
    let page = server.ops("/metrics").text();
    let value = page.lines().find_map(|line| line.strip_prefix("two_tier_database_up "));
    match value.unwrap_or_else(|| panic!("no two_tier_database_up in {page}")) {
        "0" => false,
        "1" => true,
        other => panic!("{other}"),
    }
}

fn count(server: &Server, text: &str) -> usize {
    server.log().iter().filter(|line| line.contains(text)).count()
}

#[test]
fn server_is_ready_after_reaching_database() {
    let Some(mongodb) = Mongodb::start() else { return };
    mongodb.kill();
    let server = start(&mongodb);
    // Nobody asks for anything.
    server.wait_for_line("cannot reach the database");
    let readiness = server.ops("/readyz");
    assert_eq!(readiness.status, 503);
    assert!(readiness.text().contains("refused"), "{}", readiness.text());
    assert_eq!((server.ops("/healthz").status, healthcheck(&server)), (200, Some(1)));
    assert_eq!(server.get("/").status, 200);
    mongodb.restart();
    let since = Instant::now();
    wait_for("/readyz", || (server.ops("/readyz").status == 200).then_some(()));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!((server.ops("/readyz").text().as_str(), healthcheck(&server)), ("ready\n", Some(0)));
    assert!(is_up(&server));
}

#[test]
fn database_outage_leaves_server_ready() {
    let Some(mongodb) = Mongodb::start() else { return };
    for silent in [false, true] {
        let directory = Arc::new(Directory::new());
        let uri = mongodb.uri(&database_of(&directory));
        let server =
            Server::start_in(directory, &[("MONGODB_URI", &uri), ("SHUTDOWN_DELAY", "30s")]);
        wait_for("/readyz", || (server.ops("/readyz").status == 200).then_some(()));
        wait_for("two_tier_database_up", || is_up(&server).then_some(()));
        if silent {
            mongodb.signal("STOP")
        } else {
            mongodb.kill()
        }
        let since = Instant::now();
        // Without any traffic, and while the probe of a kubelet would go on.
        wait_for("two_tier_database_up to fall", || (!is_up(&server)).then_some(()));
        assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
        let until = since + Duration::from_secs(8);
        while Instant::now() < until {
            let asked = Instant::now();
            let readiness = server.ops("/readyz");
            assert_eq!(readiness.status, 200, "{}", readiness.text());
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
            assert!(
                readiness.text().starts_with("ready, but without the database: "),
                "{}",
                readiness.text()
            );
            assert_eq!(server.get("/").status, 200);
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(healthcheck(&server), Some(0));
        server.get("/data").problem(503);
        assert_eq!(count(&server, "cannot reach the database"), 1);
        if silent {
            mongodb.signal("CONT")
        } else {
            mongodb.restart()
        }
        wait_for("the database to be up", || is_up(&server).then_some(()));
        assert_eq!(server.ops("/readyz").text(), "ready\n");
        server.wait_for_line("can reach the database again");
        server.signal("TERM");
        wait_for("/readyz to fail", || (server.ops("/readyz").status == 503).then_some(()));
    }
}
