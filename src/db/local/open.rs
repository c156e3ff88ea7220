//! Opens the data file: whether it is ours, whole and free, and only then redb on it. Nothing here
//! changes a file that has something in it; an empty one becomes a data file.

use std::any::Any;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Error, ReadTransaction, ReadableDatabase, TableDefinition, TableError};

use super::data_file::{BEING_CREATED, DataFile};

/// What says that a file is ours, and in which version of our format.
const FORMAT: TableDefinition<&str, u64> = TableDefinition::new("two-tier");
const FORMAT_VERSION: u64 = 1;
/// The key of `key.rs` -> the document's BSON.
pub(super) const DOCUMENTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("documents");

/// redb's own memory for pages. 8 MiB was no faster than 1 MiB, as the kernel caches the file too.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

/// Up to here every page is verified at start, at about 1 GB/s; a larger file would delay the
/// start, so there it is the header and the tables only, and a damaged page is found when it is
/// read.
const VERIFIED_BYTES: u64 = 64 * 1024 * 1024;

/// redb on one opening of the data file.
pub(super) struct Handle {
    pub(super) database: Database,
    pub(super) file: DataFile,
}

impl Handle {
    /// Changes nothing in the file.
    pub(super) fn open(file: &Arc<File>) -> Result<Self, Error> {
        Self::open_with(file, &mut Database::builder())
    }

    fn open_with(file: &Arc<File>, builder: &mut redb::Builder) -> Result<Self, Error> {
        let file = DataFile::held(file)?;
        let database = catch_panic(|| {
            Ok(builder.set_cache_size(CACHE_BYTES).create_with_backend(file.clone())?)
        })?;
        Ok(Self { database, file })
    }
}

/// redb may panic on a damaged file, as its documentation says; that must cost one call, not a
/// thread or the program.
pub(super) fn catch_panic<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Error::Corrupted(message(&*panic))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("redb panicked").to_owned()
}

/// Why a data file can't be used, for the person who started the program.
#[derive(Debug)]
pub(crate) struct DataFileError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    InUse,
    NoDirectory(PathBuf),
    NotAFile,
    NotOurs,
    Newer(u64),
    Damaged(String),
    NoLock(io::Error),
    Io(io::Error),
}

impl fmt::Display for DataFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            Problem::InUse => write!(f, "the data file {path} is in use by another process"),
            Problem::NoDirectory(directory) => {
                write!(
                    f,
                    "the data file {path} can't be created: there is no directory {}",
                    directory.display()
                )
            }
            Problem::NotAFile => write!(f, "the data file {path} is not a regular file"),
            Problem::NotOurs => {
                write!(f, "{path} is not a data file of two-tier; it was left as it is")
            }
            Problem::Newer(version) => write!(
                f,
                "the data file {path} has format {version}, which takes a newer version of two-tier (this one knows \
                 format {FORMAT_VERSION}); it was left as it is"
            ),
            Problem::Damaged(what) => {
                write!(f, "the data file {path} is damaged ({what}); it was left as it is")
            }
            Problem::NoLock(_) => write!(
                f,
                "the data file {path} can't be locked against a second process; put it onto a file \
                 system that has locks"
            ),
            Problem::Io(_) => write!(f, "the data file {path} can't be opened"),
        }
    }
}

impl std::error::Error for DataFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::NoLock(error) | Problem::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            // How redb says that the file does not begin like one of its own.
            Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => Self::NotOurs,
            // Pages are missing.
            Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            Error::Io(error) => Self::Io(error),
            // redb's formats before the first that this program was ever built with.
            Error::UpgradeRequired(_) => Self::NotOurs,
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// The file, locked for as long as it is open, and redb on it.
pub(super) fn open(path: &Path) -> Result<(Arc<File>, Handle), DataFileError> {
    try_open(path).map_err(|problem| DataFileError { path: path.to_owned(), problem })
}

fn try_open(path: &Path) -> Result<(Arc<File>, Handle), Problem> {
    let file = Arc::new(open_locked(path)?);
    if holds_nothing(&file)? {
        file.set_len(0)?;
        let handle = create(&file)?;
        // Without this a power loss could take the file's name along, and the documents with it.
        File::open(directory_of(path))?.sync_all()?;
        return Ok((file, handle));
    }
    let length = file.metadata()?.len();
    check_length(&file, length)?;
    if length <= VERIFIED_BYTES {
        let mut builder = Database::builder();
        let verified = Handle::open_with(&file, builder.set_check_integrity_on_open(true))?;
        verified.file.abandon();
    }
    let handle = Handle::open(&file)?;
    check_format(&handle.database)?;
    Ok((file, handle))
}

fn open_locked(path: &Path) -> Result<File, Problem> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Problem::NoDirectory(directory_of(path).to_owned()),
        io::ErrorKind::IsADirectory => Problem::NotAFile,
        _ => Problem::Io(error),
    })?;
    if !file.metadata()?.is_file() {
        return Err(Problem::NotAFile);
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Problem::InUse),
        Err(TryLockError::Error(error)) => Err(Problem::NoLock(error)),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// An empty file holds nothing to lose: `touch`, `mktemp` and a container's file mount make them,
/// and so does a start that is cut off. So does one that was cut off a little later; after a power
/// loss the file may have the length of what was written then, and zeros for content.
fn holds_nothing(file: &File) -> io::Result<bool> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut beginning = [0; BEING_CREATED.len()];
    let beginning = &mut beginning[..length.min(BEING_CREATED.len())];
    file.read_exact_at(beginning, 0)?;
    let is_short = length <= BEING_CREATED.len();
    Ok(beginning == BEING_CREATED || (is_short && beginning.iter().all(|&byte| byte == 0)))
}

fn create(file: &Arc<File>) -> Result<Handle, Problem> {
    let handle = Handle::open(file)?;
    catch_panic(|| {
        let mut transaction = handle.database.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.open_table(FORMAT)?.insert("format", FORMAT_VERSION)?;
        transaction.open_table(DOCUMENTS)?;
        Ok(transaction.commit()?)
    })?;
    handle.file.release()?;
    Ok(handle)
}

/// redb finds a file that is too short only after it was closed in order, since a crash may tear
/// the lengths in its header. It grows the file before the header and shrinks it after, so a file
/// that is shorter than that is cut off. The header's layout is in redb's docs/design.md.
fn check_length(file: &File, length: u64) -> Result<(), Problem> {
    const HEADER_BYTES: usize = 64;
    const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
    let mut header = [0; HEADER_BYTES];
    if length < HEADER_BYTES as u64 {
        return Err(Problem::NotOurs);
    }
    file.read_exact_at(&mut header, 0)?;
    if !header.starts_with(MAGIC) {
        return Err(Problem::NotOurs);
    }
    let field = |at: usize| {
        u128::from(u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]))
    };
    let (page_bytes, region_header_pages, region_pages) = (field(12), field(16), field(20));
    let (full_regions, pages_of_last_region) = (field(24), field(28));
    let last_region =
        if pages_of_last_region == 0 { 0 } else { region_header_pages + pages_of_last_region };
    let pages = 1 + full_regions * (region_header_pages + region_pages) + last_region;
    if u128::from(length) < pages * page_bytes {
        return Err(Problem::Damaged(format!(
            "it has {length} bytes where its header says {}",
            pages * page_bytes
        )));
    }
    Ok(())
}

fn check_format(database: &Database) -> Result<(), Problem> {
    let transaction = catch_panic(|| Ok(database.begin_read()?))?;
    match catch_panic(|| format_version(&transaction))? {
        None => Err(Problem::NotOurs),
        Some(version) if version > FORMAT_VERSION => Err(Problem::Newer(version)),
        Some(_) => {
            catch_panic(|| Ok(transaction.open_table(DOCUMENTS)?))?;
            Ok(())
        }
    }
}

fn format_version(transaction: &ReadTransaction) -> Result<Option<u64>, Error> {
    match transaction.open_table(FORMAT) {
        Ok(table) => Ok(table.get("format")?.map(|version| version.value())),
        // Another program's file, whatever it has under our name.
        Err(TableError::Storage(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}
