#!/usr/bin/env bash
# Lets schemathesis try the server by its description, docs/openapi.yaml:
#   tests/schemathesis.sh [MONGODB_URI]
# on the embedded store, or on a MongoDB whose database may be written to (FERRETDB=1 if it is FerretDB). SEED=… for other
# requests, EXAMPLES=… for more.
# schemathesis is installed, by version, into target/schemathesis on the first run.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
tools=$PWD/target/schemathesis
if [[ $(cat "$tools/installed" 2>/dev/null) != "$version" ]]; then
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
  echo "$version" >"$tools/installed"
fi

cargo build --locked --quiet
program=$(cargo metadata --locked --no-deps --format-version 1 |
  sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/two-tier

directory=$(mktemp -d)
settings=(PATH="$PATH" PORT=0 OPS_PORT=0 DATA_FILE="$directory/two-tier.redb" LOG=off)
if [[ $# -gt 0 ]]; then settings+=(MONGODB_URI="$1"); fi
env --ignore-environment "${settings[@]}" "$program" 2>"$directory/log" &
server=$!
trap 'kill "$server" 2>/dev/null; rm -rf "$directory"' EXIT
until address=$(sed -n 's/.*listens on \(http:[^,]*\),.*/\1/p' "$directory/log") && [[ $address ]]; do
  kill -0 "$server" || { cat "$directory/log"; exit 1; }
  sleep 0.1
done

# Its cache would bring back the requests of former runs, so that one run was not as another.
cp tests/schemathesis/* "$directory"
cd "$directory"
status=0
PYTHONPATH=$directory SCHEMATHESIS_HOOKS=hooks "$tools/bin/schemathesis" --config-file schemathesis.toml \
  run "$OLDPWD/docs/openapi.yaml" --url "$address" --checks all --max-examples "${EXAMPLES:-100}" --seed "${SEED:-1}" \
  >report 2>&1 || status=$?
if [[ $status -eq 0 ]]; then tail -n 12 report; else cut -c1-2000 report; fi
if grep -i panicked log; then status=1; fi
exit "$status"
