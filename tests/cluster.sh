#!/usr/bin/env bash
# Puts k8s.yaml on a cluster, shows that it does what README.md says, and removes it again:
#   tests/cluster.sh            about 25 minutes, most of them the autoscaler's
# The cluster is the one that KUBECONFIG points to; one that has an app-namespace or a mongo-namespace already is left
# alone. It needs a default StorageClass, metrics-server, and a network that enforces policies. The image two-tier is to
# be there, built; kind and minikube get it loaded, another cluster by the command in LOAD_IMAGE, which gets two names of
# an image in podman's store: that there, and that in the cluster.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
image=two-tier:$version
# The tools of the tests: ab, and a shell with wget and nc.
tools=httpd:2.4-alpine
work=$(mktemp -d)
load=

app() { kubectl --namespace app-namespace "$@"; }
mongo() { kubectl --namespace mongo-namespace "$@"; }
client() { kubectl --namespace two-tier-test "$@"; }

passed=0
pass() { printf '%s ok: %s\n' "$(date +%T)" "$1"; passed=$((passed + 1)); }
fail() {
  printf '%s FAILED: %s\n' "$(date +%T)" "$1" >&2
  { app get pods,hpa,events; mongo get pods,events; app logs --selector app.kubernetes.io/name=two-tier --tail 20; } >&2 || true
  exit 1
}
# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "$what"
    sleep 1
  done
  pass "$what"
}
finish() {
  if [[ -n $load ]]; then kill "$load" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT

for namespace in app-namespace mongo-namespace two-tier-test; do
  if kubectl get namespace "$namespace" >/dev/null 2>&1; then
    echo "$0: this cluster has a $namespace already" >&2
    exit 1
  fi
done

# --- Images ------------------------------------------------------------------------------------------------------------

# make_tools: a stand-in for the tools, where no image can be pulled: this machine's ab and busybox (busybox-static).
make_tools() {
  local root=$work/tools container applet
  mkdir -p "$root/bin" "$root/tmp"
  chmod 1777 "$root/tmp"
  cp "$(command -v ab)" "$(command -v busybox)" "$root/bin/"
  ldd "$root/bin/ab" | grep -o '/[^ ]*' | while read -r library; do
    install -D "$(readlink -f "$library")" "$root$library"
  done
  for applet in sh sleep timeout wget nc pidof true; do ln -s busybox "$root/bin/$applet"; done
  container=$(buildah from scratch)
  buildah copy --quiet "$container" "$root" / >/dev/null
  buildah config --env PATH=/bin "$container"
  buildah commit --quiet --rm "$container" "docker.io/library/$tools" >/dev/null
}

if [[ -n ${LOAD_IMAGE:-} ]]; then
  if ! podman image exists "docker.io/library/$tools" && ! podman pull --quiet "docker.io/library/$tools" >/dev/null 2>&1; then
    make_tools
  fi
  # A short name is localhost/two-tier to podman, and docker.io/library/two-tier to a cluster.
  $LOAD_IMAGE "$image" "docker.io/library/$image" >/dev/null
  $LOAD_IMAGE "docker.io/library/$tools" "docker.io/library/$tools" >/dev/null
else
  case $(kubectl config current-context) in
    kind-*) kind load docker-image "$image" --name "$(kubectl config current-context | sed 's/^kind-//')" ;;
    minikube) minikube image load "$image" ;;
    *) echo "$0: taking $image to be in the cluster" ;;
  esac
fi

# --- A newcomer's order --------------------------------------------------------------------------------------------------

kubectl apply --filename k8s.yaml >"$work/apply" 2>&1 || { cat "$work/apply" >&2; exit 1; }
if grep -i warning "$work/apply" >&2; then fail "k8s.yaml is taken without a warning"; fi
pass "k8s.yaml is taken without a warning"
mongo rollout status statefulset/mongo --timeout 5m >/dev/null || fail "the database is there"
pass "the database is there"
app rollout status deployment/app --timeout 3m >/dev/null || fail "the web tier is there"
pass "the web tier is there"
replicas() { [[ $(app get deployment app --output jsonpath='{.status.availableReplicas}') == "$1" ]]; }
wait_for 60 "the autoscaler keeps two web pods" replicas 2

kubectl diff --filename k8s.yaml || fail "applying again would change nothing"
before=$(kubectl get --filename k8s.yaml --output jsonpath='{.items[*].metadata.generation}')
kubectl apply --filename k8s.yaml >/dev/null
after=$(kubectl get --filename k8s.yaml --output jsonpath='{.items[*].metadata.generation}')
[[ $before == "$after" ]] || fail "applying again changes nothing: generations $before, then $after"
pass "applying again changes nothing"

# --- Through the Service ---------------------------------------------------------------------------------------------------

kubectl create namespace two-tier-test >/dev/null
client apply --filename - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: client
spec:
  automountServiceAccountToken: false
  containers:
    - name: client
      image: $tools
      imagePullPolicy: IfNotPresent
      # Something to reach, for the policies.
      command: [sh, -c, "while true; do nc -l -p 7777 -e true; done"]
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
YAML
client wait --for condition=Ready pod/client --timeout 3m >/dev/null || fail "the client's pod is there"
service=http://app-service.app-namespace.svc.cluster.local
# Without wget's own time limit: with it, Debian's crashes.
fetch() { timeout 15 kubectl --namespace two-tier-test exec client -- wget -q -O - "$@"; }

[[ $(fetch "$service/") == "Welcome to the two-tier app! The current time is: "* ]] || fail "/ welcomes"
pass "/ welcomes"
# busybox recognises its own Content-Type only in this case.
stored=$(fetch --header "Content-Type: application/json" --post-data '{"_id":"ada","born":1815}' "$service/data") || true
[[ $stored == '{"inserted":1,"ids":["ada"]}' ]] || fail "a document is stored: $stored"
has_document() { [[ $(fetch "$service/data") == '[{"_id":"ada","born":1815}]' ]]; }
has_document || fail "and read"
pass "a document is stored and read"

# --- Nobody notices an update or the loss of a node ------------------------------------------------------------------------

# start_load CLIENTS [-k]: for as long as it takes, at most 10 minutes.
start_load() {
  client exec client -- ab -q -l -c "$@" -t 600 -n 100000000 "$service/data" >"$work/ab" 2>&1 &
  load=$!
}
# stop_load WHAT: ends ab, which then says what it counted.
stop_load() {
  kill -0 "$load" 2>/dev/null || fail "$1: ab gave up: $(cat "$work/ab")"
  # shellcheck disable=SC2016 # for the shell in the pod
  client exec client -- sh -c 'kill -INT "$(pidof ab)"'
  wait "$load" || true
  load=
  grep -q '^Complete requests: ' "$work/ab" || fail "$1: ab gave up: $(cat "$work/ab")"
  if ! grep -q '^Failed requests: *0$' "$work/ab" || grep -q '^Non-2xx' "$work/ab"; then fail "$1: $(cat "$work/ab")"; fi
  pass "$1: $(sed -n 's/^Complete requests: */requests: /p' "$work/ab"), none failed"
}

start_load 50
app rollout restart deployment/app >/dev/null
app rollout status deployment/app --timeout 5m >/dev/null || fail "the update ends"
# The last old pod still drains.
drained() { [[ $(app get pods --no-headers | grep -c Terminating) == 0 ]]; }
wait_for 60 "the update has ended" drained
stop_load "a rolling update under 50 clients"

evict() {
  app create --raw "/api/v1/namespaces/app-namespace/pods/$1/eviction" --filename - <<JSON
{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "$1", "namespace": "app-namespace"}}
JSON
}
start_load 50
# As `kubectl drain` does it: each pod, as soon as the PodDisruptionBudget lets it go.
for pod in $(app get pods --output jsonpath='{.items[*].metadata.name}'); do
  wait_for 120 "$pod is evicted" evict "$pod"
done
wait_for 90 "the evicted pods are gone" drained
stop_load "an eviction of every web pod under 50 clients"

start_load 50
scaled_out() { (($(app get deployment app --output jsonpath='{.spec.replicas}') > 2)); }
wait_for 240 "the autoscaler adds web pods under load" scaled_out
stop_load "growing under 50 clients"

# --- New pods get their share ----------------------------------------------------------------------------------------------

# Clients that keep their connections know two pods; then there are six. The autoscaler would go
# on to ten, each in its own time, so it is told how many.
pods() {
  app patch hpa app --type merge \
    --patch "{\"spec\":{\"minReplicas\":$1,\"maxReplicas\":$1}}" >/dev/null
  wait_for 120 "there are $1 web pods" only "$1"
}
only() { [[ $(app get pods --no-headers | wc -l) == "$1" ]] && replicas "$1"; }
# served: a line for each web pod: its name, and how many requests it has answered.
served() {
  local pod
  for pod in $(app get pods --output jsonpath='{.items[*].metadata.name}'); do
    # Through the API server: the network policy lets no pod of this test read them.
    app get --raw "/api/v1/namespaces/app-namespace/pods/$pod:9090/proxy/metrics" |
      awk -v pod="$pod" '/^two_tier_http_requests_total/ { sum += $2 }
        END { printf "%s %d\n", pod, sum }'
  done
}
pods 2
start_load 200 -k
pods 6
sleep 120 # twice MAX_CONNECTION_AGE
served >"$work/before"
sleep 20
served >"$work/after"
stop_load "growing under 200 clients that keep their connections"
join "$work/before" "$work/after" | awk '{ print $1, $3 - $2 }' >"$work/shares"
awk '{ share[NR] = $2; sum += $2 }
  END {
    for (pod in share) if (share[pod] < sum / NR / 2 || share[pod] > sum / NR * 2) exit 1
    exit NR != 6
  }' "$work/shares" || fail "every pod serves between half and twice the mean: $(<"$work/shares")"
counts=$(cut --delimiter ' ' --fields 2 "$work/shares" | paste --serial --delimiters ' ')
pass "every pod serves between half and twice the mean: $counts"
kubectl apply --filename k8s.yaml >/dev/null

# --- An outage of the database -----------------------------------------------------------------------------------------------

# web_pods: a line for each web pod: its name, when its end was asked for, whether and since when it is ready, its restarts.
web_pods() {
  app get pods --selector app.kubernetes.io/name=two-tier --output jsonpath='{range .items[*]}{.metadata.name}{"|"}{.metadata.deletionTimestamp}{"|"}{.status.conditions[?(@.type=="Ready")].status}{" since "}{.status.conditions[?(@.type=="Ready")].lastTransitionTime}{", restarts: "}{.status.containerStatuses[0].restartCount}{"\n"}{end}'
}
all_ready() { web_pods >"$work/pods" && [[ -s $work/pods ]] && ! grep --quiet --invert-match '||True ' "$work/pods"; }
# undisturbed: those of $work/pods are as they were, but for one that the autoscaler has taken away.
undisturbed() {
  web_pods >"$work/now" || return
  cut --delimiter '|' --fields 1 "$work/pods" | grep --fixed-strings --file - "$work/now" >"$work/same" || return
  ! grep --fixed-strings '||' "$work/same" | grep --invert-match --line-regexp --fixed-strings --file "$work/pods"
}
# explained: /data says what is wrong, over HTTP/1.0. busybox's wget shows nothing but a 200.
explained() {
  timeout 15 kubectl --namespace two-tier-test exec client -- \
    sh -c "printf 'GET /data HTTP/1.0\r\n\r\n' | timeout 10 nc ${service#http://} 80" >"$work/data" 2>&1 || true
  grep -q '^HTTP/1.1 503' "$work/data" && grep -q '^Retry-After: ' "$work/data"
}
wait_for 120 "every web pod is ready before the outage" all_ready
# A new connection for each request, so that every pod gets some, and few enough to leave the autoscaler alone: a pod that
# starts now does not become ready before the database is back. At most 10 minutes or so, whatever becomes of this script.
client exec client -- sh -c "
  left=6000
  until [ -e /tmp/over ] || [ \$((left -= 1)) -lt 0 ]; do
    if timeout 5 wget -q -O - $service/ >/dev/null 2>&1; then echo ok; else echo failed; fi
    sleep 0.1
  done
  echo over" >"$work/root" &
load=$!
mongo scale statefulset/mongo --replicas 0 >/dev/null
no_database() { [[ $(mongo get pods --no-headers 2>/dev/null | wc -l) == 0 ]]; }
wait_for 120 "the database is gone" no_database
wait_for 30 "/data says that the database is away" explained
outage=$SECONDS
while ((SECONDS < outage + 40)); do
  explained || fail "/data says so throughout: $(<"$work/data")"
  undisturbed || fail "every web pod stays ready: $(<"$work/now")"
  sleep 1
done
pass "/data says so throughout, and every web pod stays ready"
mongo scale statefulset/mongo --replicas 1 >/dev/null
mongo rollout status statefulset/mongo --timeout 5m >/dev/null || fail "the database comes back after the outage"
wait_for 30 "and with it the documents" has_document
undisturbed || fail "no web pod was unready or restarted: $(<"$work/now")"
pass "no web pod was unready or restarted"
client exec client -- sh -c ': >/tmp/over'
wait "$load" || true
load=
answered=$(grep -c '^ok$' "$work/root" || true)
if ((answered < 100)) || grep -q '^failed$' "$work/root" || ! grep -q '^over$' "$work/root"; then
  fail "/ answers throughout the outage: $(sort "$work/root" | uniq -c)"
fi
pass "/ answers throughout the outage: $answered requests, none failed"

# --- Data -----------------------------------------------------------------------------------------------------------------

mongo delete pod mongo-0 >/dev/null
mongo wait --for condition=Ready pod/mongo-0 --timeout 5m >/dev/null || fail "the database comes back"
wait_for 60 "the document survives the database's pod" has_document
app delete pod --all >/dev/null
app rollout status deployment/app --timeout 3m >/dev/null || fail "the web tier comes back"
wait_for 60 "and every web pod" has_document

# --- Policies ---------------------------------------------------------------------------------------------------------------

database=mongo-service.mongo-namespace.svc.cluster.local
api=kubernetes.default.svc.cluster.local
web_pod=$(app get pods --field-selector status.phase=Running --output jsonpath='{.items[0].metadata.name}')
web_address=$(app get pod "$web_pod" --output jsonpath='{.status.podIP}')
client_address=$(client get pod client --output jsonpath='{.status.podIP}')

from_stranger() { client exec client -- nc -w 3 "$1" "$2" -e true; }
wait_for 10 "a stranger reaches the application" from_stranger "$web_address" 8080
if from_stranger "$web_address" 9090 2>/dev/null; then fail "a stranger does not reach the operations port"; fi
pass "a stranger does not reach the operations port"
if from_stranger "$database" 27017 2>/dev/null; then fail "a stranger does not reach the database"; fi
pass "a stranger does not reach the database"
# Else what the web tier does not reach would show nothing.
wait_for 10 "a stranger reaches the API server" from_stranger "$api" 443
wait_for 10 "and its own port" from_stranger "$client_address" 7777

# From inside a web pod: a container with a shell, for debugging, put into it.
app debug "$web_pod" --image "$tools" --image-pull-policy IfNotPresent --container inside --profile restricted -- sleep 600 \
  >/dev/null 2>&1
from_web() { app exec "$web_pod" --container inside -- nc -w 3 "$1" "$2" -e true; }
# Which shows that it resolves names as well.
wait_for 60 "the web tier reaches the database" from_web "$database" 27017
if from_web "$api" 443 2>/dev/null; then fail "the web tier does not reach the API server"; fi
pass "the web tier does not reach the API server"
if from_web "$client_address" 7777 2>/dev/null; then fail "the web tier does not reach another namespace's pods"; fi
pass "the web tier does not reach another namespace's pods"

# --- The end -----------------------------------------------------------------------------------------------------------------

wait_for 1200 "the autoscaler takes the added pods away" replicas 2
kubectl delete --filename k8s.yaml --timeout 5m >/dev/null || fail "everything can be removed"
gone() { ! kubectl get namespace "$1"; }
wait_for 120 "app-namespace is gone" gone app-namespace
wait_for 120 "mongo-namespace is gone, and the data with it" gone mongo-namespace
client delete pod client --now >/dev/null
kubectl delete namespace two-tier-test >/dev/null

echo "$passed passed, 0 failed"
