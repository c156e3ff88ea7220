//! Tells the program which commit it is built from: TWO_TIER_COMMIT where it is set (an image has
//! no .git), else git.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=TWO_TIER_COMMIT");
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    let commit = env::var("TWO_TIER_COMMIT").ok().or_else(head);
    println!("cargo::rustc-env=TWO_TIER_COMMIT={}", commit.as_deref().unwrap_or("unknown commit"));
}

fn head() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    (output.status.success()).then(|| commit.trim().to_owned())
}
