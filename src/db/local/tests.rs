mod power_loss;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bson::{Bson, RawBson, bson, rawdoc};
use redb::{StorageBackend, TableDefinition};
use tempfile::{TempDir, tempdir};

use super::data_file::BEING_CREATED;
use super::data_file::faults::disk_is_full_after;
use super::*;
use crate::error::one_line;

fn new_file() -> (TempDir, PathBuf) {
    let directory = tempdir().unwrap();
    let path = directory.path().join("data.redb");
    (directory, path)
}

fn open(path: &Path) -> LocalStore {
    try_open(path).unwrap()
}

/// Another test may be starting a process, which has our descriptors, and with them the lock, until
/// it is another program.
fn try_open(path: &Path) -> Result<LocalStore, DataFileError> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match LocalStore::open(path) {
            Err(error) if error.to_string().contains("is in use") && Instant::now() < until => {
                thread::yield_now()
            }
            outcome => return outcome,
        }
    }
}

fn document(id: impl Into<RawBson>) -> Document {
    Document::new(rawdoc! { "_id": id.into(), "text": "x".repeat(100) }, false).unwrap()
}

fn numbered(numbers: std::ops::Range<i32>) -> Vec<Document> {
    numbers.map(document).collect()
}

fn insert(store: &LocalStore, numbers: std::ops::Range<i32>) -> Result<(), StoreError> {
    for result in store.insert(&numbered(numbers))? {
        result.unwrap();
    }
    Ok(())
}

fn query(after: Option<Bson>, order: Order, limit: usize, max_bytes: usize) -> PageQuery {
    let after = after.map(|id| DocumentId::new(id.try_into().unwrap()).unwrap());
    PageQuery { after, order, limit, max_bytes }
}

fn page(store: &LocalStore, query: &PageQuery) -> (Vec<Bson>, bool) {
    let batch = store.page(query).unwrap();
    let (mut rest, mut ids) = (batch.documents.as_slice(), Vec::new());
    while !rest.is_empty() {
        let document = bson::Document::from_reader(&mut rest).unwrap();
        ids.push(document.get("_id").unwrap().clone());
    }
    (ids, batch.more)
}

fn ids(store: &LocalStore) -> Vec<Bson> {
    let (ids, more) = page(store, &query(None, Order::Ascending, usize::MAX, usize::MAX));
    assert!(!more);
    ids
}

fn bson_numbers(numbers: std::ops::Range<i32>) -> Vec<Bson> {
    numbers.map(Bson::Int32).collect()
}

fn error_of_open(path: &Path) -> String {
    match try_open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => one_line(&error),
    }
}

#[test]
fn what_was_inserted_is_there_after_a_new_start_in_the_order_of_id() {
    let (_directory, path) = new_file();
    let store = open(&path);
    let documents = ["b", "a"].map(document);
    assert!(store.insert(&documents).unwrap().iter().all(Result::is_ok));
    insert(&store, 0..3).unwrap();
    drop(store);
    let store = open(&path);
    let expected = [bson_numbers(0..3), vec![bson!("a"), bson!("b")]].concat();
    assert_eq!(ids(&store), expected);
    let id = documents[0].id();
    let found = store.get(&[document("c").id(), id]).unwrap();
    assert_eq!(found, [None, Some(documents[0].raw().clone())]);
    store.ping().unwrap();
}

#[test]
fn a_page_begins_after_an_id_ends_at_its_limits_and_knows_whether_there_is_more() {
    let (_directory, path) = new_file();
    let store = open(&path);
    insert(&store, 0..10).unwrap();
    let bytes = document(0).raw().as_bytes().len();
    use Order::{Ascending, Descending};
    let cases = [
        (query(None, Ascending, 3, usize::MAX), bson_numbers(0..3), true),
        (query(None, Ascending, 10, usize::MAX), bson_numbers(0..10), false),
        (query(Some(bson!(6.0)), Ascending, 3, usize::MAX), bson_numbers(7..10), false),
        (query(Some(bson!(6.5)), Ascending, 2, usize::MAX), bson_numbers(7..9), true),
        (query(Some(bson!("")), Ascending, 2, usize::MAX), vec![], false),
        (query(None, Ascending, 10, 3 * bytes), bson_numbers(0..3), true),
        (query(None, Ascending, 10, 3 * bytes - 1), bson_numbers(0..2), true),
        (query(None, Ascending, 10, 0), bson_numbers(0..1), true),
        (query(Some(bson!(8)), Ascending, 10, 0), bson_numbers(9..10), false),
        (query(None, Descending, 2, usize::MAX), vec![bson!(9), bson!(8)], true),
        (query(Some(bson!(2)), Descending, 2, usize::MAX), vec![bson!(1), bson!(0)], false),
        (query(Some(bson!(0)), Descending, 2, usize::MAX), vec![], false),
    ];
    for (number, (query, expected, more)) in cases.into_iter().enumerate() {
        assert_eq!(page(&store, &query), (expected, more), "case {number}");
    }
}

#[test]
fn a_document_that_is_refused_does_not_hinder_the_others() {
    let (_directory, path) = new_file();
    let store = open(&path);
    insert(&store, 1..2).unwrap();
    let decimal: bson::Decimal128 = "1".parse().unwrap();
    let documents = [
        document(1.0),
        document(2),
        document(RawBson::Decimal128(decimal)),
        document(3),
        document(2),
    ];
    let results = store.insert(&documents).unwrap();
    assert!(matches!(
        results[..],
        [
            Err(Refusal::Exists(_)),
            Ok(()),
            Err(Refusal::Unsupported(_)),
            Ok(()),
            Err(Refusal::Exists(_))
        ]
    ));
    assert_eq!(store.insert(&documents[..1]).unwrap(), [Err(Refusal::Exists(documents[0].id()))]);
    assert!(store.insert(&[]).unwrap().is_empty());
    assert_eq!(ids(&store), bson_numbers(1..4));
    assert_eq!(store.get(&[documents[2].id()]).unwrap(), [None]);
}

#[test]
fn a_file_that_is_in_use_is_refused_by_name() {
    let (_directory, path) = new_file();
    let store = open(&path);
    let error = LocalStore::open(&path).map(drop).unwrap_err().to_string();
    assert!(error.contains("data.redb is in use by another process"), "{error}");
    drop(store);
    open(&path);
}

#[test]
fn what_is_no_file_or_has_no_directory_is_refused_with_the_reason() {
    let (directory, _) = new_file();
    assert!(error_of_open(directory.path()).contains("is not a regular file"));
    assert!(error_of_open(Path::new("/dev/null")).contains("is not a regular file"));
    let below = directory.path().join("missing").join("data.redb");
    let error = error_of_open(&below);
    assert!(error.contains("there is no directory") && error.ends_with("missing"), "{error}");
    assert!(!below.parent().unwrap().exists());
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let (_directory, path) = new_file();
    let foreign = |contents: &[u8], reason: &str| {
        fs::write(&path, contents).unwrap();
        let error = error_of_open(&path);
        assert!(error.contains(reason), "{error}");
        assert_eq!(fs::read(&path).unwrap(), contents);
    };
    const NOT_OURS: &str = "data.redb is not a data file of two-tier; it was left as it is";
    foreign(b"x", NOT_OURS);
    foreign("notes\n".repeat(10_000).as_bytes(), NOT_OURS);
    foreign(&[0; 100_000], NOT_OURS);
    foreign(b"redb\x1A\x0A\xA9\x0D\x0A", NOT_OURS);

    let table: TableDefinition<&str, u64> = TableDefinition::new("theirs");
    foreign(&redb_file(table, "a", 1), NOT_OURS);
    let table: TableDefinition<&str, u32> = TableDefinition::new("two-tier");
    foreign(&redb_file(table, "format", 1), NOT_OURS);
    let table: TableDefinition<&str, u64> = TableDefinition::new("two-tier");
    foreign(&redb_file(table, "format", 2), "has format 2, which takes a newer version");
}

fn redb_file<V: for<'v> redb::Value<SelfType<'v> = V> + 'static>(
    table: TableDefinition<&str, V>,
    key: &str,
    value: V,
) -> Vec<u8> {
    let (_directory, path) = new_file();
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(key, value).unwrap();
    transaction.commit().unwrap();
    drop(database);
    fs::read(&path).unwrap()
}

/// As a kill -9 leaves it.
fn file_of_a_running_store() -> Vec<u8> {
    let (_directory, path) = new_file();
    let store = open(&path);
    for batch in 0..10 {
        insert(&store, batch * 50..batch * 50 + 50).unwrap();
    }
    fs::read(&path).unwrap()
}

fn file_of_a_closed_store() -> Vec<u8> {
    let (_directory, path) = new_file();
    fs::write(&path, file_of_a_running_store()).unwrap();
    insert(&open(&path), 500..501).unwrap();
    fs::read(&path).unwrap()
}

#[test]
fn everything_is_there_after_a_crash() {
    let (_directory, path) = new_file();
    fs::write(&path, file_of_a_running_store()).unwrap();
    assert_eq!(ids(&open(&path)), bson_numbers(0..500));
}

#[test]
fn a_truncated_file_is_refused_and_left_as_it_is() {
    let (_directory, path) = new_file();
    for whole in [file_of_a_running_store(), file_of_a_closed_store()] {
        for length in [100, 4096, 5000, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = error_of_open(&path);
            assert!(error.contains("is damaged"), "{length} bytes: {error}");
            assert_eq!(fs::read(&path).unwrap(), &whole[..length]);
        }
    }
}

#[test]
fn a_damaged_page_is_found_at_start_and_the_file_is_left_as_it_is() {
    let (_directory, path) = new_file();
    for whole in [file_of_a_running_store(), file_of_a_closed_store()] {
        let mut refused = 0;
        for at in (0..whole.len()).step_by(1021) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            fs::write(&path, &damaged).unwrap();
            match try_open(&path) {
                // In a page that is free, or in what a header has spare.
                Ok(store) => assert!(ids(&store).len() >= 500),
                Err(error) => {
                    refused += 1;
                    let error = error.to_string();
                    assert!(error.contains("it was left as it is"), "byte {at}: {error}");
                }
            }
            assert_eq!(fs::read(&path).unwrap(), damaged, "byte {at}");
        }
        assert!(refused > 40, "{refused}");
    }
}

#[test]
fn a_start_that_only_reads_leaves_the_file_as_it_is() {
    let (_directory, path) = new_file();
    let whole = file_of_a_running_store();
    fs::write(&path, &whole).unwrap();
    let store = open(&path);
    assert_eq!(ids(&store).len(), 500);
    drop(store);
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn an_empty_file_and_one_that_was_being_created_become_data_files() {
    let (_directory, path) = new_file();
    let after_power_loss = vec![0; BEING_CREATED.len()];
    let begun = [BEING_CREATED, &[7; 50_000]].concat();
    for beginning in [vec![], after_power_loss, BEING_CREATED.to_vec(), begun] {
        fs::write(&path, beginning).unwrap();
        let store = open(&path);
        assert!(ids(&store).is_empty());
        insert(&store, 0..1).unwrap();
        drop(store);
        assert_eq!(ids(&open(&path)), bson_numbers(0..1));
    }
}

#[test]
fn a_creation_that_is_cut_off_anywhere_is_made_up_for_by_the_next_start() {
    for changes in 0.. {
        let (_directory, path) = new_file();
        disk_is_full_after(Some(changes));
        let opened = LocalStore::open(&path).map(drop).map_err(|error| one_line(&error));
        disk_is_full_after(None);
        let store = open(&path);
        assert!(ids(&store).is_empty());
        insert(&store, 0..1).unwrap();
        match opened {
            Ok(()) => return assert!(changes > 3),
            Err(error) => assert!(error.contains("can't be opened: no storage space"), "{error}"),
        }
    }
}

/// The disk is full from the first change on, from the second, and so on until an insert gets
/// through.
#[test]
fn a_full_disk_loses_nothing_hides_nothing_and_is_recovered_from() {
    let changes = (0..).find(|&changes| stores_on_a_disk_that_is_full_after(changes, 600));
    assert!(changes > Some(30), "{changes:?}");
}

/// So much that pages are written long before the commit.
#[test]
fn a_disk_that_is_full_in_the_middle_of_a_large_insert_is_recovered_from() {
    assert!(!stores_on_a_disk_that_is_full_after(300, 20_000));
}

fn is_full_error(result: &Result<(), StoreError>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::Full)
}

fn stores_on_a_disk_that_is_full_after(changes: usize, end: i32) -> bool {
    let (_directory, path) = new_file();
    let store = open(&path);
    insert(&store, 0..50).unwrap();

    disk_is_full_after(Some(changes));
    let result = insert(&store, 50..end);
    let after_a_crash = fs::read(&path).unwrap();
    let stored = match &result {
        Ok(()) => end,
        Err(error) => match error.kind() {
            StoreErrorKind::Full => {
                assert!(error.message().contains("no room"), "{error:?}");
                50
            }
            StoreErrorKind::Unknown => end,
            _ => panic!("{error:?} after {changes} changes"),
        },
    };
    assert_eq!(ids(&store), bson_numbers(0..stored), "{changes} changes");
    if result.is_err() {
        let again = insert(&store, end..end + 1);
        assert!(is_full_error(&again), "{again:?}");
        assert_eq!(ids(&store), bson_numbers(0..stored), "{changes} changes");
    }

    disk_is_full_after(None);
    insert(&store, -1..0).unwrap();
    assert_eq!(ids(&store), bson_numbers(-1..stored));
    drop(store);
    assert_eq!(ids(&open(&path)), bson_numbers(-1..stored));

    fs::write(&path, after_a_crash).unwrap();
    assert_eq!(ids(&open(&path)), bson_numbers(0..stored));
    result.is_ok()
}

#[test]
fn readers_see_nothing_of_a_disk_that_is_full() {
    let (_directory, path) = new_file();
    let store = open(&path);
    insert(&store, 0..1_000).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let seen = ids(&store);
                    assert_eq!(seen[..1_000], bson_numbers(0..1_000));
                }
            });
        }
        let mut next = 1_000;
        for changes in 0..60 {
            disk_is_full_after(Some(changes));
            let result = insert(&store, next..next + 5);
            disk_is_full_after(None);
            if !is_full_error(&result) {
                next += 5;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_handle_that_has_failed_reads_no_more_pages_that_the_next_one_may_write() {
    let (_directory, path) = new_file();
    let store = open(&path);
    let handle = store.handle();
    disk_is_full_after(Some(0));
    insert(&store, 0..1).unwrap_err();
    disk_is_full_after(None);
    assert!(!Arc::ptr_eq(&handle, &store.handle()));
    assert!(handle.file.read(0, &mut [0]).is_err() && handle.file.release().is_err());
}

const FILE_FOR_CHILD: &str = "TWO_TIER_TEST_FILE";

/// The kernel's own refusal, in a process of its own that may write no file above 512 KiB.
#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk() {
    let (_directory, path) = new_file();
    insert(&open(&path), 0..1).unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 1024; exec \"$0\" --ignored --exact \"$1\"")
        .arg(std::env::current_exe().unwrap())
        .arg("db::local::tests::inserts_until_there_is_no_room")
        .env(FILE_FOR_CHILD, &path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let store = open(&path);
    let before = ids(&store).len() as i32;
    assert!(before > 1_000, "{before}");
    insert(&store, before..before + 10_000).unwrap();
    assert_eq!(ids(&store), bson_numbers(0..before + 10_000));
}

#[test]
#[ignore = "runs in a process that another test starts, or on a small disk"]
fn inserts_until_there_is_no_room() {
    let Some(path) = std::env::var_os(FILE_FOR_CHILD) else {
        return;
    };
    let store = open(Path::new(&path));
    let mut next = ids(&store).len() as i32;
    let error = loop {
        match insert(&store, next..next + 100) {
            Ok(()) => next += 100,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error:?}");
    assert!(error.message().contains("no room"), "{error:?}");
    for _ in 0..10 {
        assert!(is_full_error(&insert(&store, -10_000..-1)));
        assert_eq!(ids(&store), bson_numbers(0..next));
    }
}
