#!/usr/bin/env bash
# Runs mongo-init.js in a real mongosh against a real server:   tests/mongo-init.sh
#   TEST_MONGODB_URI  a server to use, as a user who may make users; else FerretDB is built (needs Go) and started
#   mongosh           the one on PATH; else it is installed into target/ (needs npm)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
target=$here/../target
script=$here/../mongo-init.js
mkdir -p "$target"
work=$(mktemp -d)
server=
finish() {
  if [[ -n $server ]]; then kill "$server" 2>/dev/null && wait "$server" || true; fi
  rm -rf "$work"
}
trap finish EXIT
# mongosh writes a log of each run into its home.
home=$work

if ! command -v mongosh >/dev/null; then
  [[ -x $target/mongosh/node_modules/.bin/mongosh ]] ||
    npm install --silent --no-save --ignore-scripts --prefix "$target/mongosh" mongosh@2.12.0
  PATH=$PATH:$target/mongosh/node_modules/.bin
fi

passed=0
pass() { printf 'ok: %s\n' "$1"; passed=$((passed + 1)); }
fail() { printf 'FAILED: %s\n' "$1" >&2; cat "$work/output" >&2 || true; exit 1; }

# as URI ARGUMENTS...: one mongosh, its output in $work/output; gives its exit status.
as() { HOME=$home mongosh --quiet "$@" >"$work/output" 2>&1; }

if [[ -n ${TEST_MONGODB_URI:-} ]]; then
  root=$TEST_MONGODB_URI
else
  FERRETDB=${FERRETDB:-$target/tools/ferretdb}
  "$here/ferretdb/build.sh" "$FERRETDB"
  port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
  mkdir "$work/data"
  FERRETDB_TELEMETRY=disable "$FERRETDB" --handler=sqlite --sqlite-url="file:$work/data/" --state-dir="$work/data" \
    --listen-addr="127.0.0.1:$port" --debug-addr=- --log-level=ERROR \
    --test-enable-new-auth --setup-database=admin --setup-username=root --setup-password=root-password >"$work/server" 2>&1 &
  server=$!
  root="mongodb://root:root-password@127.0.0.1:$port/?authSource=admin"
  for attempt in {1..30}; do
    if as "$root" --eval 'db.runCommand({ ping: 1 })'; then break; fi
    ((attempt < 30)) || fail "the server starts"
  done
fi

database=two-tier-init-$$
# address USER PASSWORD [DATABASE]: the server of $root, for another user.
address() {
  local rest=${root#*://} hosts
  rest=${rest##*@}
  hosts=${rest%%[/?]*}
  echo "mongodb://$1:$2@$hosts/${3:-$database}"
}
# initialise [NAME=VALUE]...: mongo-init.js with this environment and no other of its settings.
initialise() {
  env -u MONGO_INITDB_DATABASE -u APP_USERNAME -u APP_USERNAME_FILE -u APP_PASSWORD -u APP_PASSWORD_FILE "$@" \
    HOME="$home" mongosh --quiet "$root" --file "$here/mongo-init-roles.js" --file "$script" >"$work/output" 2>&1
}
holds() { grep -qF -- "$1" "$work/output"; }
never_holds() { if holds "$1"; then fail "no password in the output"; fi; }

first=first-$RANDOM$RANDOM second=second-$RANDOM$RANDOM
all=("MONGO_INITDB_DATABASE=$database" APP_USERNAME=app "APP_PASSWORD=$first")

for missing in 0 1 2; do
  name=${all[$missing]%%=*}
  rest=("${all[@]:0:missing}" "${all[@]:missing+1}")
  if initialise "${rest[@]}"; then fail "without $name it stops"; fi
  holds "$name is missing" || fail "the error names $name"
  never_holds "$first"
  pass "without $name it stops and says so"
done

if initialise "${all[@]}" APP_PASSWORD_FILE=/dev/null; then fail "a setting given twice stops it"; fi
holds "both APP_PASSWORD and APP_PASSWORD_FILE are set" || fail "the error names the setting given twice"
pass "a setting given twice stops it"

if as "$(address app "$first")" --eval 'db.runCommand({ ping: 1 })'; then fail "none of these made a user"; fi
pass "none of these made a user"

initialise "${all[@]}" || fail "it makes the user"
holds "roles as wanted" || fail "the role is readWrite on the database and nothing more"
never_holds "$first"
as "$(address app "$first")" --eval 'db.data.insertOne({ _id: 1 }); assert(db.data.countDocuments() === 1)' ||
  fail "the user logs in, writes and reads"
pass "it makes the user, with readWrite and nothing more"

initialise "${all[@]}" || fail "it may be run twice"
as "$(address app "$first")" --eval 'assert(db.data.countDocuments() === 1)' || fail "a second run keeps user and data"
pass "a second run keeps user and data"

printf '%s\n' "$second" >"$work/password"
initialise "${all[@]:0:2}" "APP_PASSWORD_FILE=$work/password" || fail "it takes the password from a file"
holds "roles as wanted" || fail "the role is set again"
never_holds "$second"
as "$(address app "$second")" --eval 'assert(db.data.countDocuments() === 1)' || fail "the new password is in force"
if as "$(address app "$first")" --eval 'db.data.countDocuments()'; then fail "the old password is not in force"; fi
pass "a run with another password, from a file, changes it"

if as "$root" --eval 'quit(db.getSiblingDB("admin").runCommand({ buildInfo: 1 }).ferretdbVersion === undefined ? 0 : 1)'; then
  if as "$(address app "$second")" --eval 'db.getSiblingDB("other").data.insertOne({})'; then
    fail "another database is out of the user's reach"
  fi
  pass "another database is out of the user's reach"
  as "$root" --eval "const d = db.getSiblingDB('$database'); d.dropUser('app'); d.dropDatabase()"
else
  echo "skipped: another database is out of the user's reach (FerretDB has no roles; a real MongoDB has)"
fi

echo "$passed passed, 0 failed"
