# What a contributor needs; CONTRIBUTING.md has the same commands without just.

# List these.
default:
    @just --list

# Run the tests, or some of them (just test --test paging).
test *arguments:
    cargo test {{ arguments }}

# Format the code.
format:
    cargo fmt

# Let clippy check the code.
lint:
    cargo clippy --all-targets -- -D warnings

# Check everything that has to hold before a change goes in.
ci:
    .ci/run

# Fuzz each target for so many seconds (needs cargo-fuzz).
fuzz seconds="60":
    fuzz/run.sh {{ seconds }}

# Measure side by side with other servers (just bench --only get-embedded: one part).
bench *arguments:
    bench/run.py {{ arguments }}
