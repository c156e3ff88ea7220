#!/usr/bin/env bash
# Runs every fuzz target, one after another, over its seeds and over what it found before:
#   fuzz/run.sh [SECONDS]     for each target, 60 unless told; longer for the first time, which builds
# Needs cargo-fuzz (cargo install --locked cargo-fuzz@0.13.2) and a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}

# Sanitizers are nightly's; this has a stable compiler take the options for them too.
export RUSTC_BOOTSTRAP=1
cargo fuzz build
for target in $(cargo fuzz list); do
  echo "== $target, $seconds seconds"
  options=(-max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0)
  dictionary=fuzz/dictionaries/$target.dict
  if [[ -f $dictionary ]]; then options+=(-dict="$dictionary"); fi
  mkdir -p "fuzz/corpus/$target"
  cargo fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- "${options[@]}"
done
