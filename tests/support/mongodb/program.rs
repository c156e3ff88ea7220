//! What runs a MongoDB for the tests: found once, or FerretDB built once.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use super::super::tools::{lock_tools, say, say_once, succeeds, tools};

pub const IMAGE: &str = "mongo:8";

/// What runs a server.
pub enum Program {
    Mongod,
    /// In a container; docker or podman.
    Container(&'static str),
    Ferretdb(PathBuf),
}

impl Program {
    pub fn find() -> Option<Self> {
        let mut reasons = Vec::new();
        let mut found = None;
        if succeeds("mongod", ["--version"]).is_ok() {
            found = Some((Self::Mongod, "the mongod on PATH".to_owned()));
        } else {
            reasons.push("no mongod on PATH".to_owned());
        }
        for engine in ["docker", "podman"] {
            if found.is_some() {
                break;
            }
            let _lock = lock_tools("image");
            let has_image = succeeds(engine, ["image", "inspect", IMAGE])
                .or_else(|_| succeeds(engine, ["pull", &format!("docker.io/library/{IMAGE}")]));
            match has_image {
                Ok(()) => found = Some((Self::Container(engine), format!("{IMAGE} in {engine}"))),
                Err(reason) => reasons.push(format!("no {IMAGE} in {engine} ({reason})")),
            }
        }
        if found.is_none() {
            match ferretdb() {
                Ok(path) => {
                    let name = format!("FerretDB, as there is {}", reasons.join(", "));
                    found = Some((Self::Ferretdb(path), name));
                }
                Err(reason) => reasons.push(format!("no FerretDB ({reason})")),
            }
        }
        match found {
            Some((program, name)) => {
                say_once(&format!("the tests use {name}"));
                Some(program)
            }
            None => {
                let missing = format!(
                    "the tests find no MongoDB: {}. To run those that need it: set \
                     TEST_MONGODB_URI, or install mongod, docker, podman or Go \
                     (https://go.dev/dl/)",
                    reasons.join(", ")
                );
                assert_ne!(env::var("CI").as_deref(), Ok("true"), "{missing}");
                say_once(&missing);
                None
            }
        }
    }
}

/// Builds FerretDB unless that was done before; about a minute.
fn ferretdb() -> Result<PathBuf, String> {
    let sources: [&[u8]; 4] = [
        include_bytes!("../../ferretdb/build.sh"),
        include_bytes!("../../ferretdb/go.mod"),
        include_bytes!("../../ferretdb/go.sum"),
        include_bytes!("../../ferretdb/tools.go"),
    ];
    let mut hasher = DefaultHasher::new();
    sources.iter().for_each(|source| hasher.write(source));
    let _lock = lock_tools("ferretdb");
    let path = tools().join(format!("ferretdb-{:016x}", hasher.finish()));
    if path.exists() {
        return Ok(path);
    }
    succeeds("go", ["version"])?;
    say("building FerretDB for the tests, once");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ferretdb/build.sh");
    succeeds(script, [&path]).map(|()| path)
}
