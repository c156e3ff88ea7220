//! `Db` over a store that a test holds back.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, ThreadId};

use bson::rawdoc;

use super::*;
use crate::queue::{MAX_THREADS, Threads};
use crate::sync::{Monitor, lock};

const LATER: Duration = Duration::from_secs(20);
/// As when grouping is on, but without further threads when the machine, and so the test, is slow.
const ON: Grouping =
    Grouping { shares_calls: true, threads: Threads { usual: 1, slow: 1, most: 1 } };

/// Reports how many documents each call is about, and the thread that makes it, and waits to be let
/// go.
struct Gated {
    calls: Mutex<Sender<(usize, ThreadId)>>,
    gate: Mutex<Receiver<()>>,
    fails: AtomicBool,
}

/// Takes 200 ms for each call.
struct Slow;

impl Store for Slow {
    fn insert(&self, documents: &[Document]) -> InsertOutcome<()> {
        self.ping()?;
        Ok(vec![Ok(()); documents.len()])
    }

    fn page(&self, _: &PageQuery) -> Result<Batch, StoreError> {
        self.ping()?;
        Ok(Batch { documents: Vec::new(), more: false })
    }

    fn get(&self, ids: &[DocumentId]) -> Result<Vec<Option<RawDocumentBuf>>, StoreError> {
        self.ping()?;
        Ok(vec![None; ids.len()])
    }

    fn ping(&self) -> Result<(), StoreError> {
        thread::sleep(Duration::from_millis(200));
        Ok(())
    }
}

impl Gated {
    fn pass(&self, documents: usize) -> Result<(), StoreError> {
        let _ = lock(&self.calls).send((documents, thread::current().id()));
        // A test that has ended lets go of all.
        let _ = lock(&self.gate).recv();
        if self.fails.load(SeqCst) { Err(no_room()) } else { Ok(()) }
    }
}

impl Store for Gated {
    /// Refuses each document, and tells by that which one it was.
    fn insert(&self, documents: &[Document]) -> InsertOutcome<()> {
        self.pass(documents.len())?;
        Ok(documents.iter().map(|document| Err(refusal(document))).collect())
    }

    fn page(&self, _: &PageQuery) -> Result<Batch, StoreError> {
        self.pass(0)?;
        Ok(Batch { documents: Vec::new(), more: false })
    }

    fn get(&self, ids: &[DocumentId]) -> Result<Vec<Option<RawDocumentBuf>>, StoreError> {
        self.pass(ids.len())?;
        Ok(ids.iter().map(|id| Some(rawdoc! { "_id": id.as_raw() })).collect())
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.pass(0)
    }
}

struct Test {
    /// Before `db`, which waits for its calls to end when it is dropped.
    let_go: Sender<()>,
    db: Db,
    store: Arc<Gated>,
    calls: Receiver<(usize, ThreadId)>,
}

impl Test {
    fn new(grouping: Grouping) -> Self {
        let (report, calls) = mpsc::channel();
        let (let_go, gate) = mpsc::channel();
        let store = Gated {
            calls: Mutex::new(report),
            gate: Mutex::new(gate),
            fails: AtomicBool::new(false),
        };
        let store = Arc::new(store);
        let metrics = Arc::new(Metrics::new());
        let memory = Arc::new(Memory::new(usize::MAX));
        let db = Db::over(
            store.clone(),
            String::new(),
            String::new(),
            grouping,
            true,
            &metrics,
            &memory,
        )
        .unwrap();
        Self { let_go, db, store, calls }
    }

    #[track_caller]
    fn next_call(&self) -> (usize, ThreadId) {
        self.calls.recv_timeout(LATER).unwrap()
    }
}

fn no_room() -> StoreError {
    StoreError::new(StoreErrorKind::Full, "no room")
}

fn refusal(document: &Document) -> Refusal {
    Refusal::Conflict(format!("{:?}", document.id().as_raw()))
}

/// As `Gated` answers an insert of these documents.
fn refused(documents: &[Document]) -> Vec<Result<DocumentId, Refusal>> {
    documents.iter().map(|document| Err(refusal(document))).collect()
}

#[track_caller]
fn failure_of(outcome: &Result<DocumentId, Refusal>) -> &StoreError {
    let Err(Refusal::Failed(error)) = outcome else { panic!("{outcome:?}") };
    error
}

fn documents(count: i32) -> Vec<Document> {
    (0..count).map(|number| Document::new(rawdoc! { "_id": number }, false).unwrap()).collect()
}

fn id(number: i32) -> DocumentId {
    documents(number + 1).last().unwrap().id()
}

/// A completion, and where what it is called with arrives.
fn completion<A: Send + 'static>() -> (impl FnOnce(A) + Send + 'static, Receiver<A>) {
    let (answered, answers) = mpsc::channel();
    (move |answer| answered.send(answer).unwrap(), answers)
}

/// An answer to wait for.
struct Waiting<A> {
    answer: Arc<Monitor<Option<A>>>,
    pending: Pending,
}

impl<A: Send + 'static> Waiting<A> {
    fn begin(begin: impl FnOnce(Box<dyn FnOnce(A) + Send>) -> Pending) -> Self {
        let answer = Arc::new(Monitor::new(None));
        let place = answer.clone();
        let pending = begin(Box::new(move |answer| {
            *place.lock() = Some(answer);
            place.notify_one();
        }));
        Self { answer, pending }
    }

    fn wait(self, deadline: Instant) -> A {
        let mut answer =
            self.answer.wait_while_until(self.answer.lock(), deadline, |answer| answer.is_none());
        if answer.is_none() {
            drop(answer);
            self.pending.give_up();
            answer = self.answer.lock();
        }
        loop {
            match answer.take() {
                Some(answer) => return answer,
                // Another thread is about to put it there.
                None => answer = self.answer.wait_while(answer, |answer| answer.is_none()),
            }
        }
    }
}

impl Db {
    fn begin_insert(&self, documents: Vec<Document>) -> Waiting<InsertOutcome> {
        Waiting::begin(|done| self.insert(documents, done))
    }

    fn begin_page(
        &self,
        query: PageQuery,
        layout: Layout,
    ) -> Waiting<Result<Arc<Page>, StoreError>> {
        Waiting::begin(|done| self.page(query, layout, Format::Relaxed, done))
    }

    fn begin_get(&self, id: DocumentId) -> Waiting<Result<Option<Arc<Text>>, StoreError>> {
        Waiting::begin(|done| self.get(id, Format::Relaxed, done))
    }
}

#[test]
fn commands_of_one_insert_are_answered_together() {
    let test = Test::new(ON);
    let (done, answers) = completion();
    let _pending = test.db.insert(documents(2500), done);
    for length in [1000, 1000, 500] {
        assert_eq!(answers.try_recv().ok(), None);
        assert_eq!(test.next_call().0, length);
        test.let_go.send(()).unwrap();
    }
    assert_eq!(answers.recv_timeout(LATER).unwrap(), Ok(refused(&documents(2500))));
    assert!(answers.recv_timeout(LATER).is_err(), "the completion was called, and dropped");
}

#[test]
fn giving_up_an_insert_keeps_the_answers_that_are_there() {
    let test = Test::new(ON);
    let (done, answers) = completion();
    let pending = test.db.insert(documents(2500), done);
    assert_eq!(test.next_call().0, 1000);
    test.let_go.send(()).unwrap();
    assert_eq!(test.next_call().0, 1000);
    pending.give_up();
    let answers = answers.recv_timeout(LATER).unwrap().unwrap();
    assert_eq!(answers.len(), 2500);
    assert_eq!(answers[..1000], refused(&documents(1000)));
    for (answer, text) in
        [(&answers[1000], "did not answer"), (&answers[2499], "nothing was stored")]
    {
        let error = failure_of(answer);
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!(failure_of(&answers[1999]).kind(), StoreErrorKind::Unknown);
    assert_eq!(failure_of(&answers[2000]).kind(), StoreErrorKind::Unavailable);
    test.let_go.send(()).unwrap();
    assert!(
        test.calls.recv_timeout(Duration::from_millis(200)).is_err(),
        "the last command was never sent"
    );
}

#[test]
fn dropped_insert_drops_its_completion() {
    let test = Test::new(ON);
    let (done, answers) = completion();
    let pending = test.db.insert(documents(2500), done);
    assert_eq!(test.next_call().0, 1000);
    drop(pending);
    assert_eq!(answers.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    test.let_go.send(()).unwrap();
    assert!(
        test.calls.recv_timeout(Duration::from_millis(200)).is_err(),
        "the others were never sent"
    );
}

#[test]
fn insert_of_nothing_is_answered_at_once() {
    let (done, answers) = completion();
    let _pending = Test::new(ON).db.insert(Vec::new(), done);
    assert_eq!(answers.try_recv().unwrap(), Ok(Vec::new()));
}

#[test]
fn insert_whose_commands_all_fail_fails_as_a_whole() {
    let test = Test::new(ON);
    test.store.fails.store(true, SeqCst);
    let insert = test.db.begin_insert(documents(2500));
    for _ in 0..3 {
        test.let_go.send(()).unwrap();
    }
    assert_eq!(insert.wait(Instant::now() + LATER), Err(no_room()));
}

#[test]
fn command_that_fails_alone_fails_its_own_documents() {
    let test = Test::new(ON);
    let insert = test.db.begin_insert(documents(2500));
    // A call finds out whether it fails when it is let go.
    for fails in [false, true, false] {
        test.next_call();
        test.store.fails.store(fails, SeqCst);
        test.let_go.send(()).unwrap();
    }
    let answers = insert.wait(Instant::now() + LATER).unwrap();
    let all = documents(2500);
    assert_eq!(answers[..1000], refused(&all[..1000]));
    assert!(answers[1000..2000].iter().all(|answer| *failure_of(answer) == no_room()));
    assert_eq!(answers[2000..], refused(&all[2000..]));
}

#[test]
fn read_that_is_given_up_says_why_reads_fail() {
    let test = Test::new(ON);
    test.store.fails.store(true, SeqCst);
    test.let_go.send(()).unwrap();
    let failed = test.db.begin_get(id(1)).wait(Instant::now() + LATER);
    let failed = failed.map(drop);
    assert_eq!(failed, Err(no_room()));
    assert_eq!(test.db.begin_get(id(2)).wait(Instant::now()).map(drop), failed);
}

#[test]
fn equal_reads_share_a_call_and_lookups_one_of_many() {
    let test = Test::new(ON);
    let query = |limit| PageQuery::new(Some(id(1)), Order::Ascending, limit);
    let _first = (test.db.begin_page(query(1), Layout::Array), test.db.begin_get(id(0)));
    test.next_call();
    test.next_call();
    let pages = [1, 1, 2].map(|limit| test.db.begin_page(query(limit), Layout::Array));
    let lines = test.db.begin_page(query(1), Layout::Lines);
    let lookups = [1, 2, 1, 3].map(|number| test.db.begin_get(id(number)));
    for _ in 0..2 + 3 + 1 {
        test.let_go.send(()).unwrap();
    }
    let deadline = Instant::now() + LATER;
    let pages = pages.map(|page| page.wait(deadline).unwrap());
    assert!(Arc::ptr_eq(&pages[0], &pages[1]) && !Arc::ptr_eq(&pages[0], &pages[2]));
    assert_eq!(
        ((*pages[2]).as_ref(), (*lines.wait(deadline).unwrap()).as_ref()),
        (&b"[]\n"[..], &b""[..])
    );
    let lookups = lookups.map(|lookup| lookup.wait(deadline).unwrap().unwrap());
    assert_eq!((*lookups[3]).as_ref(), b"{\"_id\":3}\n");
    let mut asked: Vec<usize> = test.calls.try_iter().map(|(ids, _)| ids).collect();
    asked.sort_unstable();
    assert_eq!(asked, [0, 0, 0, 3]);
}

#[test]
fn ungrouped_calls_are_never_on_the_callers_thread() {
    let test = Test::new(calls::OFF);
    let _pending = [1, 2].map(|count| test.db.begin_insert(documents(count)));
    let (first, second) = (test.next_call(), test.next_call());
    assert_ne!(first.1, second.1, "at the same time");
    assert!(first.1 != thread::current().id() && second.1 != thread::current().id());
}

#[test]
fn closing_is_bounded_for_all_queues_together() {
    let test = Test::new(ON);
    let (done, answers) = completion();
    let _insert = test.db.begin_insert(documents(1));
    let _page = test.db.begin_page(PageQuery::new(None, Order::Ascending, 1), Layout::Array);
    let _get = test.db.begin_get(id(1));
    let _ping = test.db.pings.begin();
    for _ in 0..4 {
        test.next_call();
    }
    let _pending = test.db.insert(documents(1), done);
    let since = Instant::now();
    test.db.close(since + Duration::from_millis(50));
    let error = answers.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let Test { db, let_go: _kept, .. } = test;
    drop(db);
    assert!(since.elapsed() < CLOSE_TIMEOUT, "{:?}", since.elapsed());
}

#[test]
fn slow_store_answers_two_thousand_of_each_in_time() {
    let metrics = Arc::new(Metrics::new());
    let memory = Arc::new(Memory::new(usize::MAX));
    let db =
        Db::over(Arc::new(Slow), String::new(), String::new(), calls::ON, true, &metrics, &memory)
            .unwrap();
    // What a request has.
    let deadline = Instant::now() + Duration::from_millis(4500);
    let asked: Vec<_> = (0..2000)
        .map(|number| {
            let id = DocumentId::new(bson::RawBson::Int32(number)).unwrap();
            let page = db.begin_page(PageQuery::new(None, Order::Ascending, 1), Layout::Array);
            (db.begin_insert(documents(1)), db.begin_get(id), page)
        })
        .collect();
    for (insert, get, page) in asked {
        assert_eq!(insert.wait(deadline), Ok(vec![Ok(id(0))]));
        assert!(get.wait(deadline).is_ok_and(|document| document.is_none()));
        assert_eq!((*page.wait(deadline).unwrap()).as_ref(), b"[]\n");
    }
}

#[test]
fn giving_up_many_requests_is_quick() {
    const COUNT: usize = 20_000;
    let test = Test::new(ON);
    let _stuck = (test.db.begin_insert(documents(1)), test.db.begin_get(id(0)));
    test.next_call();
    test.next_call();
    let (answered, answers) = mpsc::channel();
    let pending: Vec<Pending> = (0..COUNT)
        .flat_map(|_| {
            let (write, read) = (answered.clone(), answered.clone());
            let insert =
                test.db.insert(documents(1), move |outcome| write.send(outcome.is_err()).unwrap());
            [
                insert,
                test.db
                    .get(id(1), Format::Relaxed, move |answer| read.send(answer.is_err()).unwrap()),
            ]
        })
        .collect();
    let since = Instant::now();
    // The newest first, which a scan from the front would find last.
    pending.into_iter().rev().for_each(Pending::give_up);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(answers.try_iter().filter(|is_err| *is_err).count(), 2 * COUNT);
}

#[test]
fn stuck_ping_holds_up_no_other() {
    let test = Test::new(ON);
    let pings: Vec<_> = (0..MAX_THREADS).map(|_| test.db.pings.begin()).collect();
    let threads: HashSet<ThreadId> = pings.iter().map(|_| test.next_call().1).collect();
    assert_eq!(threads.len(), MAX_THREADS, "all at the same time");
    // But they are not more and more.
    assert_eq!(test.db.pings.begin().recv_timeout(LATER), Err(RecvTimeoutError::Disconnected));
    for _ in &pings {
        test.let_go.send(()).unwrap();
    }
    for ping in pings {
        assert_eq!(ping.recv_timeout(LATER), Ok(Ok(())));
    }
    // Once their threads have ended there is room again.
    let until = Instant::now() + LATER;
    test.let_go.send(()).unwrap();
    while test.db.pings.begin().recv_timeout(LATER) != Ok(Ok(())) {
        assert!(Instant::now() < until, "no ping is made any more");
        thread::sleep(Duration::from_millis(1));
    }
}
