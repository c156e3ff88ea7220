#!/usr/bin/env bash
# Builds the image from the Dockerfile as it is, and runs it as strictly as README.md says that it may be run:
#   tests/image.sh
# Needs curl, and docker or podman (CONTAINER_ENGINE says which, where both are there). Where the base image is neither
# there nor to be had, one is made under its name from Debian's packages and this machine's Rust toolchain: that needs
# root and debootstrap.
set -euo pipefail
cd "$(dirname "$0")/.."

largest=9000000 # bytes; half of them are the MongoDB driver and what it needs
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
image=two-tier:$version
container=two-tier-test-$$
volume=$container
work=$(mktemp -d)
as_root=()
if ((UID != 0)); then as_root=(sudo -n); fi

engine=${CONTAINER_ENGINE:-}
if [[ -z $engine ]]; then
  for engine in docker podman ''; do
    if [[ -n $engine ]] && "$engine" info >/dev/null 2>&1; then break; fi
  done
fi
[[ -n $engine ]] || { echo "$0: neither docker nor podman runs here" >&2; exit 1; }
echo "with $("$engine" --version)"

names=
finish() {
  # Also what it started under sudo.
  if [[ -n $names ]]; then "${as_root[@]}" kill "$names" 2>/dev/null || true; fi
  "$engine" rm --force --volumes "$container" >/dev/null 2>&1 || true
  "$engine" volume rm "$volume" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT

passed=0
pass() { printf 'ok: %s\n' "$1"; passed=$((passed + 1)); }
fail() {
  printf 'FAILED: %s\n' "$1" >&2
  "$engine" logs "$container" >&2 2>&1 || true
  exit 1
}
# expect WHAT WANTED COMMAND...: what the command prints is what is wanted, or begins with it where that ends in `*`.
expect() {
  local what=$1 wanted=$2 printed
  shift 2
  printed=$("$@" 2>"$work/error") || true
  [[ $printed == "$wanted" || ($wanted == *'*' && $printed == "${wanted%'*'}"*) ]] ||
    fail "$what: '$printed' instead of '$wanted' $(<"$work/error")"
  pass "$what"
}
inspect() { "$engine" inspect --format "$1" "$container"; }

build_options=() run_options=()
if [[ $engine == podman ]]; then
  # A HEALTHCHECK is no part of the OCI's format, which is podman's own choice.
  build_options=(--format docker)
  # No more than this shell has: podman asks for more, which a sandbox refuses.
  limits=(--ulimit "nofile=$(ulimit -n):$(ulimit -n)" --ulimit nproc=4096:4096)
  build_options+=("${limits[@]}")
  run_options+=("${limits[@]}")
fi

# make_base NAME: a stand-in for the official Rust image, which has the same: Debian, gcc, Rust.
make_base() {
  local root=$work/base toolchain suite=${1##*-}
  toolchain=$(rustc --print sysroot)
  echo "making a stand-in for $1"
  debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates "$suite" "$root" >"$work/debootstrap.log" ||
    { cat "$work/debootstrap.log" >&2; return 1; }
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/{doc,locale,man}
  mkdir -p "$root/usr/local/lib/rustlib"
  cp "$toolchain"/bin/{cargo,rustc} "$root/usr/local/bin/"
  cp -r "$toolchain"/lib/*.so* "$root/usr/local/lib/"
  cp -r "$toolchain/lib/rustlib/$(uname -m)-unknown-linux-gnu" "$root/usr/local/lib/rustlib/"
  # Whatever authorities this machine trusts on its way to crates.io.
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  tar --directory "$root" --create . | "$engine" import --change "ENV PATH=/usr/local/bin:/usr/bin:/bin" - "$1" >/dev/null
  rm -rf "$root"
}
base=$(sed -n 's/^FROM \(.*\) AS builder$/\1/p' Dockerfile)
if ! "$engine" image inspect "$base" >/dev/null 2>&1 && ! "$engine" pull --quiet "$base" >"$work/pull.log" 2>&1; then
  make_base "$base" || { cat "$work/pull.log" >&2; exit 1; }
  build_options+=(--network host)
elif "$engine" image inspect --format '{{.Comment}}' "$base" | grep -qi import; then
  build_options+=(--network host)
fi

"$engine" build "${build_options[@]}" --tag "$image" --build-arg "VERSION=$version" --build-arg REVISION=abc123 . \
  >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; exit 1; }

size=$("$engine" image inspect --format '{{.Size}}' "$image")
((size <= largest)) || fail "the image has $size bytes, at most $largest are wanted"
pass "the image has $size bytes"
expect "it has a version" "two-tier $version (abc123)" "$engine" run --rm "${run_options[@]}" "$image" --version
expect "it runs as nobody" 65532:65532 "$engine" image inspect --format '{{.Config.User}}' "$image"
expect "its labels name the commit" abc123 \
  "$engine" image inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$image"

# The strictest that README.md shows.
start() {
  "$engine" run --detach --name "$container" "${run_options[@]}" --read-only --cap-drop ALL --memory 128m \
    --security-opt no-new-privileges --publish 127.0.0.1::8080 --publish 127.0.0.1::9090 "$@" "$image" >/dev/null 2>"$work/error" ||
    fail "it starts: $(<"$work/error")"
  locate
}
# The ports are the engine's choice, a new one at each start.
locate() {
  application=http://$("$engine" port "$container" 8080/tcp | head -1)
  operations=http://$("$engine" port "$container" 9090/tcp | head -1)
}
ask() { curl --silent --show-error --fail --max-time 10 --retry 30 --retry-delay 1 --retry-all-errors "$@"; }

start --volume "$volume:/data"
expect "/readyz answers" "*" ask "$operations/readyz"
expect "/ welcomes" 'Welcome to the two-tier app! The current time is: *' ask "$application/"
expect "a document is stored" '{"inserted":1,"ids":["ada"]}' ask --json '{"_id":"ada","born":1815}' "$application/data"
expect "and read" '[{"_id":"ada","born":1815}]' ask "$application/data"

# Two seconds of 50 clients on one page, in 32 MiB.
if command -v ab >/dev/null; then
  ab -q -k -c 50 -t 2 "$application/data" >"$work/ab.log" 2>&1 || fail "load: $(cat "$work/ab.log")"
  grep -q '^Failed requests: *0$' "$work/ab.log" || fail "load: $(cat "$work/ab.log")"
  expect "50 clients are served in 32 MiB" false inspect '{{.State.OOMKilled}}'
fi

healthy() {
  # podman leaves the schedule of checks to systemd; where there is none, somebody has to run them.
  if [[ $engine == podman ]]; then podman healthcheck run "$container" >/dev/null 2>&1; fi
  [[ $(inspect '{{.State.Health.Status}}') == healthy ]]
}
for attempt in {1..30}; do
  if healthy; then break; fi
  ((attempt < 30)) || fail "health turns healthy: $(inspect '{{json .State.Health}}')"
  sleep 1
done
pass "health turns healthy"

# stop WHAT: within the time that docker stop waits before it kills.
stop() {
  local before=$SECONDS
  "$engine" stop -t 10 "$container" >/dev/null
  ((SECONDS - before < 5)) || fail "$1 took $((SECONDS - before)) s"
  expect "$1" 0 inspect '{{.State.ExitCode}}'
}
stop "stop ends it at once, with 0"
"$engine" start "$container" >/dev/null 2>&1
locate
expect "a restart keeps the data" '[{"_id":"ada","born":1815}]' ask "$application/data"
"$engine" kill "$container" >/dev/null
"$engine" rm "$container" >/dev/null
start --volume "$volume:/data"
expect "so does a kill, and another container on the same volume" '[{"_id":"ada","born":1815}]' ask "$application/data"
stop "stop again"
"$engine" rm "$container" >/dev/null

start
expect "without a volume of one's own it stores all the same" '{"inserted":1,"ids":["ada"]}' \
  ask --json '{"_id":"ada"}' "$application/data"
stop "stop once more"

"$engine" rm "$container" >/dev/null

# A static program on an empty root has only the resolver in it: each name has to lead it to the address that it stands
# for. The name server runs in the container's own network, and nobody answers for MongoDB there.
printf '%s\n' "nameserver 127.0.0.77" "search app-namespace.svc.cluster.local svc.cluster.local" "options ndots:5" \
  >"$work/resolv.conf"
# leads URI ADDRESS
leads() {
  local pid
  start --volume "$work/resolv.conf:/etc/resolv.conf:ro" --env "MONGODB_URI=$1"
  pid=$(inspect '{{.State.Pid}}')
  "${as_root[@]}" nsenter --net="/proc/$pid/ns/net" python3 tests/names.py 27017 \
    mongo-service.mongo-namespace.svc.cluster.local A 127.0.0.78 \
    six.two-tier.test AAAA ::1 \
    _mongodb._tcp.records.two-tier.test SRV 27017:member.two-tier.test member.two-tier.test A 127.0.0.79 \
    >"$work/names" 2>&1 &
  names=$!
  for attempt in {1..60}; do
    # It looks for the database by itself.
    if grep -qxF "$2" "$work/names"; then break; fi
    ((attempt < 60)) || fail "$1 leads to $2: $(<"$work/names")"
    sleep 0.2
  done
  "${as_root[@]}" kill "$names"
  wait "$names" 2>/dev/null || true
  names=
  "$engine" rm --force "$container" >/dev/null
  pass "${1%%\?*} leads to $2"
}
if "${as_root[@]}" true 2>/dev/null && command -v python3 >/dev/null && command -v nsenter >/dev/null && [[ -e /proc/net/if_inet6 ]]; then
  leads mongodb://mongo-service.mongo-namespace/two-tier 127.0.0.78
  leads mongodb://six.two-tier.test/two-tier ::1
  leads 'mongodb+srv://records.two-tier.test/two-tier?tls=false' 127.0.0.79
else
  echo "skipped: names (no root, Python, nsenter or IPv6 here)"
fi

echo "$passed passed, 0 failed"
