//! two-tier: stores and retrieves JSON documents over HTTP. The program is `main.rs`; this is all that it
//! runs.
//!
//! A request goes socket -> `server` -> `routes` -> `db` (through `queue`) -> the store. No thread
//! waits for its answer, which comes back as the call of a completion and has the connection driven
//! again.
// Not in Cargo.toml: tests may.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::unwrap_used))]

#[cfg(not(target_os = "linux"))]
compile_error!("two-tier runs on Linux; elsewhere run its container image");

mod clock;
mod config;
mod db;
mod document;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod json;
mod limit;
mod log;
mod memory;
mod metrics;
mod object_id;
mod ops;
mod percent;
mod program;
mod queue;
mod request_id;
mod response;
mod routes;
mod secret;
mod server;
mod sync;
mod system;

pub use config::SettingError;
pub use error::one_line;
pub use program::{StartError, SystemError, healthcheck, help, run, version};
