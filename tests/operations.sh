#!/usr/bin/env bash
# The commands of README.md and docs/operations.md that need a cluster, as they are printed there, in an order in which
# they can follow each other; tests/readme.py holds the two equal. It looks only for what cluster.sh does not:
#   tests/operations.sh         about 5 minutes
# The cluster is the one that KUBECONFIG points to, without two-tier, with metrics-server; the images two-tier:0.1.0 and
# two-tier:0.2.0 and httpd:2.4-alpine are there or can be pulled. Needs curl; port 8080 is free.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
forward=
finish() {
  if [[ -n $forward ]]; then kill "$forward" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT
fail() { echo "FAILED: $1" >&2; exit 1; }
# FerretDB, where there is no image of MongoDB, cannot change a user.
is_stand_in() { grep 'updateUser: .* is not implemented yet' "$work/error" || { cat "$work/error" >&2; exit 1; }; }
ask() { curl --silent --show-error --fail --retry 30 --retry-delay 1 --retry-all-errors "$@"; }

set -x

# --- README.md: to the first document ----------------------------------------------------------------------------------
kubectl apply -f k8s.yaml
kubectl -n mongo-namespace rollout status statefulset/mongo --timeout 5m
kubectl -n app-namespace rollout status deployment/app
kubectl -n app-namespace port-forward service/app-service 8080:80 &
forward=$!
ask --json '{"_id":"ada"}' localhost:8080/data
kill "$forward"
wait "$forward" || true
forward=

# --- Whether the database is there; a setting, an upgrade, a password -----------------------------------------------------------------------------------
# grep finds nothing where it has always been.
kubectl -n app-namespace logs -l app.kubernetes.io/name=two-tier | grep 'reach the database' || (($? == 1))
kubectl apply -f k8s.yaml
kubectl -n app-namespace rollout restart deployment/app
kubectl -n app-namespace rollout status deployment/app --timeout 3m
kubectl -n app-namespace set image deployment/app two-tier=two-tier:0.2.0
kubectl -n app-namespace rollout status deployment/app
kubectl -n mongo-namespace exec -i mongo-0 -- mongosh -u root -p change-me-root --authenticationDatabase admin two-tier /docker-entrypoint-initdb.d/mongo-init.js 2>"$work/error" || is_stand_in
kubectl -n app-namespace create secret docker-registry my-registry-secret --docker-server=registry.example.com --docker-username=USER --docker-password=PASSWORD

# --- Load ------------------------------------------------------------------------------------------------------------------
kubectl run ab --rm -i --restart=Never --image=httpd:2.4-alpine -- ab -k -c 200 -n 10000 http://app-service.app-namespace/data
timeout 5 kubectl -n app-namespace get hpa --watch || (($? == 124))

# --- The data outlives the namespace where its volume is kept ----------------------------------------------------------------
volume=$(kubectl -n mongo-namespace get pvc data-mongo-0 -o jsonpath='{.spec.volumeName}')
kubectl patch pv "$(kubectl -n mongo-namespace get pvc data-mongo-0 -o jsonpath='{.spec.volumeName}')" -p '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'
kubectl delete -f k8s.yaml
kubectl patch pv "$volume" --type json -p '[{"op":"remove","path":"/spec/claimRef"}]'
sed "s/^\( *\)accessModes: \[ReadWriteOnce\]/&\n\1volumeName: $volume/" k8s.yaml >"$work/k8s.yaml"
grep -q "volumeName: $volume" "$work/k8s.yaml" || fail "the claim names the volume"
kubectl apply -f "$work/k8s.yaml"
kubectl -n mongo-namespace rollout status statefulset/mongo --timeout 5m
kubectl -n app-namespace rollout status deployment/app --timeout 3m
kubectl -n app-namespace port-forward service/app-service 8080:80 &
forward=$!
[[ $(ask localhost:8080/data/ada) == '{"_id":"ada"}' ]] || fail "the document outlives the namespace"
kubectl delete -f "$work/k8s.yaml"
kubectl delete pv "$volume"
