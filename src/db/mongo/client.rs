//! The driver's client: made from the URI at the first call, and made anew where the server refuses
//! the login and the URI's file says something else by then.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mongodb::error::{Error, ErrorKind, Result as MongoResult};
use mongodb::event::EventHandler;
use mongodb::event::cmap::CmapEvent;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::{Acknowledgment, ClientOptions, ConnectionString, WriteConcern};
use mongodb::sync::Client;

use super::attempts;
use super::failure::{self, Failure};
use crate::log;
use crate::metrics::Metrics;
use crate::percent;
use crate::queue::MAX_THREADS;
use crate::secret::Secret;
use crate::sync::{Monitor, lock};

/// How long to look for a server where the URI does not say: within the 5 s that a request has.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Connections at most: one for each thread that can make a call. Only those that are needed are
/// opened, and a call that is never answered keeps its own.
const MAX_POOL_SIZE: u32 = 4 * MAX_THREADS as u32;
/// Connections at least: two for each kind of call, since a slow one gets company. While the
/// password is being changed new ones may be refused, and that closes the others as well; so none
/// should be needed then.
const MIN_POOL_SIZE: u32 = 2 * 4;
/// Names this program in the server's log and in `currentOp`.
const APP_NAME: &str = "two-tier";

/// What is wrong with a URI. Not the driver's error, nor as its source: that may quote a password.
#[derive(Debug)]
pub(crate) struct UriError(String);

impl Display for UriError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for UriError {}

/// Whether the server has refused a URI's user or password. Most calls that suffer from it are told
/// of something else: a connection that was closed with the others, or a server that is not to be
/// selected for a while.
#[derive(Default)]
struct Login {
    is_refused: Monitor<bool>,
}

impl Login {
    /// The driver tells of it soon after the call's own error.
    const TOLD_WITHIN: Duration = Duration::from_millis(100);

    fn observe(&self, event: &SdamEvent) {
        if let SdamEvent::ServerDescriptionChanged(event) = event
            && event.new_description.error().is_some_and(is_refused_login)
        {
            *self.is_refused.lock() = true;
            self.is_refused.notify_all();
        }
    }

    fn is_refused(&self) -> bool {
        let until = Instant::now() + Self::TOLD_WITHIN;
        *self.is_refused.wait_while_until(self.is_refused.lock(), until, |is_refused| !*is_refused)
    }
}

pub(super) struct Connector {
    file: Option<PathBuf>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

struct State {
    uri: Secret,
    address: ConnectionString,
    /// Made at the first call that can: a name in a `mongodb+srv://` URI may not be known when the
    /// program starts.
    client: Option<Client>,
    /// How many URIs there have been before this one.
    version: u32,
    login: Arc<Login>,
    /// What was in the file and cannot be used, so that this is said once.
    refused: Option<Secret>,
}

/// What a URI must have, checked.
pub(super) fn parse_uri(
    uri: &Secret,
    failure: &Failure,
) -> Result<(ConnectionString, String), UriError> {
    let address = parse(uri.expose()).ok_or_else(|| UriError(failure.uri_problem(uri.expose())))?;
    let Some(database) = address.default_database.clone().filter(|name| !name.is_empty()) else {
        return Err(UriError(
            "the URI names no database; add one, as in mongodb://HOST:27017/DATABASE".to_owned(),
        ));
    };
    let acknowledgment = address.write_concern.as_ref().and_then(|concern| concern.w.as_ref());
    if acknowledgment == Some(&Acknowledgment::Nodes(0)) {
        return Err(UriError(
            "with w=0 in the URI, MongoDB confirms no write, and the answer 201 would promise \
             nothing; leave it out, which is w=majority"
                .to_owned(),
        ));
    }
    Ok((address, database))
}

/// The driver (3.9.1) panics on a user or password with a % before some characters beyond ASCII,
/// and quotes it then.
pub(super) fn parse(uri: &str) -> Option<ConnectionString> {
    let (_, rest) = uri.split_once("://")?;
    let before_options = rest.split('?').next().unwrap_or_default();
    let user_and_password =
        before_options.rsplit_once('@').map_or("", |(user_and_password, _)| user_and_password);
    percent::decode(user_and_password).ok()?;
    ConnectionString::parse(uri).ok()
}

impl Connector {
    pub(super) fn new(
        uri: Secret,
        file: Option<PathBuf>,
        address: ConnectionString,
        metrics: Arc<Metrics>,
    ) -> Self {
        let state =
            State { uri, address, client: None, version: 0, login: Arc::default(), refused: None };
        Self { file, metrics, state: Mutex::new(state) }
    }

    pub(super) fn client(&self) -> MongoResult<Client> {
        let mut state = lock(&self.state);
        if let Some(client) = &state.client {
            return Ok(client.clone());
        }
        let client =
            Client::with_options(self.options(state.address.clone(), state.login.clone())?)?;
        Ok(state.client.insert(client).clone())
    }

    fn options(&self, address: ConnectionString, login: Arc<Login>) -> MongoResult<ClientOptions> {
        let mut options = ClientOptions::parse(address).run()?;
        options.app_name.get_or_insert_with(|| APP_NAME.to_owned());
        options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
        options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
        options.heartbeat_freq.get_or_insert(HEARTBEAT);
        let max_pool_size = *options.max_pool_size.get_or_insert(MAX_POOL_SIZE);
        options.min_pool_size.get_or_insert(MIN_POOL_SIZE.min(max_pool_size));
        // What was answered 201 must survive the end of any one server.
        options.write_concern.get_or_insert_with(|| {
            WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build()
        });
        let metrics = self.metrics.clone();
        options.cmap_event_handler = Some(EventHandler::callback(move |event| {
            attempts::observe(&event);
            match event {
                CmapEvent::ConnectionCreated(_) => metrics.add_database_connections(1),
                CmapEvent::ConnectionClosed(_) => metrics.add_database_connections(-1),
                _ => {}
            }
        }));
        options.sdam_event_handler =
            Some(EventHandler::callback(move |event| login.observe(&event)));
        Ok(options)
    }

    /// Makes a call that changes nothing, and once more if the file has another URI by then.
    pub(super) fn read<T>(
        &self,
        failure: &Failure,
        call: impl Fn() -> MongoResult<T>,
    ) -> MongoResult<T> {
        let version = lock(&self.state).version;
        match call() {
            Err(error) if may_be_refused_login(&error) && self.renew(version, &error, failure) => {
                call()
            }
            outcome => outcome,
        }
    }

    /// As `read`, of a call that stores something: once more only if it was not sent, or refused
    /// for its user. Says how many times at most it was sent apart from that.
    pub(super) fn write<T>(
        &self,
        failure: &Failure,
        call: impl Fn() -> MongoResult<T>,
    ) -> (MongoResult<T>, u32) {
        let version = lock(&self.state).version;
        let (outcome, attempts) = attempts::count(&call);
        let Err(error) = &outcome else {
            return (outcome, attempts);
        };
        let nothing_is_stored = match &*error.kind {
            ErrorKind::Command(_) => attempts <= 1,
            _ => attempts == 0,
        };
        if nothing_is_stored && may_be_refused_login(error) && self.renew(version, error, failure) {
            return attempts::count(&call);
        }
        (outcome, attempts)
    }

    /// Whether there is another URI than that of `version`, whose login was refused. The calls that
    /// are in progress go on with their client, and it ends with the last of them.
    fn renew(&self, version: u32, error: &Error, failure: &Failure) -> bool {
        let Some(file) = &self.file else {
            return false;
        };
        let mut state = lock(&self.state);
        if state.version != version {
            return true;
        }
        let Ok(uri) = Secret::read(file) else {
            return false;
        };
        let is_known = |known: &Secret| known.expose() == uri.expose();
        if is_known(&state.uri) || state.refused.as_ref().is_some_and(is_known) {
            return false;
        }
        // While the old one works, the new one may be one that the database does not know yet.
        if !is_refused_login(error) && !state.login.is_refused() {
            return false;
        }
        failure.redact_password_of(uri.expose());
        let usable = parse_uri(&uri, failure).and_then(|(address, database)| {
            let is_same = Some(&database) == state.address.default_database.as_ref();
            if is_same {
                Ok(address)
            } else {
                Err(UriError("it names another database; restart for that".to_owned()))
            }
        });
        match usable {
            Ok(address) => {
                log::info(format_args!(
                    "connecting to the database with the new URI in {}",
                    file.display()
                ));
                let version = version.wrapping_add(1);
                *state = State {
                    uri,
                    address,
                    client: None,
                    version,
                    login: Arc::default(),
                    refused: None,
                };
                true
            }
            Err(problem) => {
                log::error(format_args!(
                    "the new URI in {} cannot be used: {problem}",
                    file.display()
                ));
                state.refused = Some(uri);
                false
            }
        }
    }
}

fn is_refused_login(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Authentication { .. } => true,
        // Of a user who is no longer there.
        ErrorKind::Command(command) => failure::is_about_user(command.code),
        _ => false,
    }
}

/// Whether another user or password may be all that it takes.
fn may_be_refused_login(error: &Error) -> bool {
    // Where a connection broke first, the driver tells of that and not of the login that followed.
    let may_follow = matches!(
        *error.kind,
        ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::ServerSelection { .. }
            | ErrorKind::Io(_)
    );
    may_follow || is_refused_login(error)
}
