#!/usr/bin/env bash
# Tests the page at / in a real Chromium, or takes its picture:
#   tests/browser.sh
#   tests/browser.sh --picture     writes docs/page.png
# Installs Debian's chromium where there is none, and playwright-core, by version, from npm.
set -euo pipefail
cd "$(dirname "$0")/.."

# As root, or through sudo.
install_packages() {
  local root=()
  [[ $(id -u) -eq 0 ]] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

if [[ -z ${CHROMIUM:-} ]] && ! command -v chromium chromium-browser google-chrome >/dev/null; then
  install_packages chromium fonts-dejavu-core
fi
if ! cmp -s tests/browser/package-lock.json tests/browser/node_modules/installed; then
  npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --silent
  cp tests/browser/package-lock.json tests/browser/node_modules/installed
fi

cargo build --locked --quiet
TWO_TIER=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/two-tier
export TWO_TIER

if [[ ${1:-} == --picture ]]; then
  # What a system without a desktop has for fonts is not what most people see.
  fc-list | grep -q NotoSans- || install_packages fonts-noto-core
  mkdir -p docs
  node tests/browser/picture.mjs docs/page.png
else
  node --test --test-reporter=spec tests/browser/page.test.mjs
fi
