//! The modules of ../../../src/main.rs, for targets that need the whole program.

#[allow(dead_code, unused_imports)]
#[path = "../../../src"]
pub mod modules {
    pub(crate) mod clock;
    pub(crate) mod config;
    pub(crate) mod db;
    pub(crate) mod document;
    pub(crate) mod http;
    pub(crate) mod json;
    pub(crate) mod log;
    pub(crate) mod memory;
    pub(crate) mod metrics;
    pub(crate) mod object_id;
    pub(crate) mod percent;
    pub(crate) mod queue;
    pub(crate) mod request_id;
    pub(crate) mod response;
    pub(crate) mod routes;
    pub(crate) mod server;
    pub(crate) mod sync;
    pub(crate) mod system;
}
