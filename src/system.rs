//! What the process takes of the system: open files, and the allocator's memory. The only module
//! with `unsafe` in it.
#![allow(unsafe_code, reason = "the allocator's calls have no safe form")]

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the allocator gives back to the system as soon as it is free, in bytes; glibc's own value
/// before it learns.
#[cfg(target_env = "gnu")]
const LARGE_BLOCK: libc::c_int = 128 * 1024;

/// How often free pages in the middle of the allocator's heaps are given back to the system.
#[cfg(target_env = "gnu")]
const TRIM_PERIOD: std::time::Duration = std::time::Duration::from_secs(1);
#[cfg(target_env = "gnu")]
const TRIM_STACK: usize = 64 * 1024;

/// Has glibc's allocator keep less of what was needed once. By itself it holds on to blocks of any
/// size that it has seen before (after 64 bodies of 1 MB at a time the process had 150 MiB for
/// good, and has 10 like this), and it has 8 heaps a processor, each of which keeps the most that
/// an import or an export ever took of it.
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
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}
