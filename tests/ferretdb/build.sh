#!/bin/sh
# Builds FerretDB 1.24, a database server that speaks MongoDB's protocol, on SQLite:  build.sh OUTPUT
#
# Go builds it from a copy of its source, because three things in it have to be put right first:
# - its version file is not part of the Go module, and without one it panics at its start;
# - the last answer of a SCRAM login says "done: false" to a client that asks to skip the empty exchange behind it, as
#   the Rust driver does, which then gives up;
# - it enforces no roles, and refuses a user who has any.
set -eu
output=$(realpath -m "$1")
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp go.mod go.sum tools.go "$work"
cd "$work"
export GOFLAGS='' GOWORK=off CGO_ENABLED=0
go mod vendor
source=vendor/github.com/FerretDB/FerretDB
echo v1.24.0 >$source/build/version/version.txt
# correct FILE OLD NEW: if OLD is not in FILE, this is another FerretDB than the one that is corrected here.
correct() {
    if ! grep -q "$2" "$source/internal/handler/$1"; then
        echo "FerretDB's $1 is not the file that this script corrects" >&2
        exit 1
    fi
    sed -i "s#$2#$3#" "$source/internal/handler/$1"
}
correct msg_saslcontinue.go '"done", valid, // for compat' '"done", conv.Valid(), // for compat'
correct msg_createuser.go 'return ok && r.Len() == 0' 'return ok \&\& r != nil'
correct msg_updateuser.go 'return ok && r.Len() == 0' 'return ok \&\& r != nil'
# Renamed into place whole, so that one broken off in the middle is never taken for the program.
go build -mod=vendor -trimpath -tags ferretdb_no_postgresql -ldflags '-s -w' -o "$output.part" \
    github.com/FerretDB/FerretDB/cmd/ferretdb
mv "$output.part" "$output"
