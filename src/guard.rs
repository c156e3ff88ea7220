//! What one connection may cost: bytes and time; and what the process may take of the system. The only module with
//! `unsafe` in it.
//!
//! tiny_http reads with recv(2) and bounds nothing: not the length of a head, not the time it takes, not what is left
//! of a body when nobody wants it. Its API has no place for such bounds, so they sit one layer below: this module
//! defines the symbol `recv` itself, over recvfrom(2), and the linker prefers a definition in the binary to the C
//! library's. On a thread that serves a connection (`enter`), what tiny_http reads comes from `Inbound`; on every
//! other thread `recv` is what it always was.
#![allow(unsafe_code)]

mod body;
mod buffer;
mod chunks;
mod head;
mod inbound;

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use inbound::Inbound;
pub(crate) use inbound::body_problem;

/// The receive time-out of every socket: how long a thread can be blocked before it looks at the clock and around.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// What the allocator gives back to the system as soon as it is free, in bytes; glibc's own value before it learns.
#[cfg(target_env = "gnu")]
const LARGE_BLOCK: libc::c_int = 128 * 1024;

/// How often free pages in the middle of the allocator's heaps are given back to the system.
#[cfg(target_env = "gnu")]
const TRIM_PERIOD: Duration = Duration::from_secs(1);
#[cfg(target_env = "gnu")]
const TRIM_STACK: usize = 64 * 1024;

/// The times that a connection is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From the first byte of a head to its last.
    pub(crate) head: Duration,
    /// From the end of a head until a body must bring a least number of bytes a second.
    pub(crate) body: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
}

/// What an idle connection must know of the rest of the server.
pub(crate) trait Neighbours: Send + Sync {
    /// The thread is needed elsewhere, or the server is about to stop.
    fn idle_must_close(&self) -> bool;
}

thread_local! {
    static CONNECTION: RefCell<Option<Inbound>> = const { RefCell::new(None) };
}

/// Guards what this thread reads until `leave`; one connection at a time.
pub(crate) fn enter(limits: Limits, neighbours: Arc<dyn Neighbours>) {
    CONNECTION.set(Some(Inbound::new(limits, neighbours)));
}

/// Ends what `enter` began.
pub(crate) fn leave() {
    CONNECTION.set(None);
}

/// A request has come out of tiny_http: from now on errors of its body are the route's to answer.
pub(crate) fn begin_request() {
    with(Inbound::begin_request);
}

/// Ends the reading of the request's body, wherever it is, and says whether the connection can carry another request.
/// To be called before tiny_http drops the body, which would read all of it.
pub(crate) fn end_body() -> bool {
    with(Inbound::end_body).unwrap_or(false)
}

/// The answer is sent; the next read is for the next request.
pub(crate) fn end_request() {
    with(Inbound::end_request);
}

/// The status of the answer that a bad head got, if this connection ended with one.
pub(crate) fn refused() -> Option<u16> {
    with(|inbound| inbound.refused()).flatten()
}

/// Shuts the sending side of a connection that is about to be closed and, where the client may still be sending,
/// takes that in for a while: closing a socket with unread bytes would take the answer back.
pub(crate) fn linger() {
    with(Inbound::linger);
}

/// Has the connection end with a reset rather than in good order, whatever ends it (a panic, the end of the process),
/// unless `whole` is called: for an answer that the connection's end is the end of.
pub(crate) struct ResetUnlessWhole {
    is_whole: bool,
}

pub(crate) fn reset_unless_whole() -> ResetUnlessWhole {
    with(|inbound| inbound.reset_when_closed(true));
    ResetUnlessWhole { is_whole: false }
}

impl ResetUnlessWhole {
    pub(crate) fn whole(mut self) {
        self.is_whole = true;
    }
}

impl Drop for ResetUnlessWhole {
    fn drop(&mut self) {
        with(|inbound| if self.is_whole { inbound.reset_when_closed(false) } else { inbound.reset() });
    }
}

fn with<T>(action: impl FnOnce(&mut Inbound) -> T) -> Option<T> {
    CONNECTION.with_borrow_mut(|connection| connection.as_mut().map(action))
}

/// recv(2), as std calls it for each read from a socket.
#[unsafe(no_mangle)]
extern "C" fn recv(
    socket: libc::c_int,
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_int,
) -> libc::ssize_t {
    let guarded = CONNECTION.try_with(|connection| {
        let mut connection = connection.try_borrow_mut().ok()?;
        // Another socket is a call to the database's, which `GROUPING=off` makes on this very thread.
        let inbound = connection.as_mut().filter(|inbound| inbound.reads_from(socket))?;
        // SAFETY: recv's caller owns `length` writable bytes at `buffer`; zeroing makes them initialised.
        let into = unsafe {
            buffer.cast::<u8>().write_bytes(0, length);
            std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
        };
        // A panic must not cross into C; it ends the connection and nothing else.
        let outcome = catch_unwind(AssertUnwindSafe(|| inbound.read(socket, into)));
        Some(outcome.unwrap_or_else(|_| Err(io::Error::from_raw_os_error(libc::ECONNABORTED))))
    });
    match guarded {
        Ok(Some(Ok(count))) => count as libc::ssize_t,
        Ok(Some(Err(error))) => {
            // SAFETY: errno is a valid place of this thread's own.
            unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(libc::EIO) };
            -1
        }
        // SAFETY: the arguments are passed on as they came; without an address recvfrom is recv.
        Ok(None) | Err(_) => unsafe {
            libc::recvfrom(socket, buffer, length, flags, std::ptr::null_mut(), std::ptr::null_mut())
        },
    }
}

/// Receives past the guard.
fn receive(socket: RawFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `into` is writable for its length; without an address recvfrom is recv.
    let count = unsafe {
        libc::recvfrom(socket, into.as_mut_ptr().cast(), into.len(), 0, std::ptr::null_mut(), std::ptr::null_mut())
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Calls `action` with the socket that tiny_http reads from.
fn with_socket<T>(socket: RawFd, action: impl FnOnce(socket2::SockRef<'_>) -> T) -> T {
    // SAFETY: the connection that owns the socket outlives `enter` to `leave`, the only time this is called in.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    action(socket2::SockRef::from(&socket))
}

/// Whether a read from `socket`, or an accept, would return at once, or will within `patience`.
pub(crate) fn is_readable(socket: &impl AsRawFd, patience: Duration) -> bool {
    let milliseconds = libc::c_int::try_from(patience.as_millis()).unwrap_or(libc::c_int::MAX);
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `entry` is one valid pollfd, and the count says one.
    unsafe { libc::poll(&mut entry, 1, milliseconds) == 1 }
}

/// Has glibc's allocator keep less of what was needed once. By itself it holds on to blocks of any size that it has seen
/// before (after 64 bodies of 1 MB at a time the process had 150 MiB for good, and has 10 like this), and it has 8 heaps a
/// processor, each of which keeps the most that an import or an export ever took of it.
pub(crate) fn keep_less_memory() {
    #[cfg(target_env = "gnu")]
    {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let heaps = libc::c_int::try_from(2 * processors).unwrap_or(libc::c_int::MAX);
        // SAFETY: mallopt takes two numbers.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK);
            libc::mallopt(libc::M_ARENA_MAX, heaps);
        }
        let thread = std::thread::Builder::new().name("memory".to_owned()).stack_size(TRIM_STACK);
        // Without it the process keeps more, and that is all.
        let _ = thread.spawn(|| {
            loop {
                std::thread::sleep(TRIM_PERIOD);
                // SAFETY: malloc_trim takes a number.
                unsafe { libc::malloc_trim(0) };
            }
        });
    }
}

/// Raises this process's limit of open files to the most it may have, and returns it.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the call to fill.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit for the call to read.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}
