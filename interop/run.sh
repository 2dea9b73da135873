#!/usr/bin/env bash
# Installs what the tests need and the machine lacks (Node, its package ws, a browser), and runs all of them. Nothing is skipped.
# The arguments go to go test: ./run.sh -run Chat
set -euo pipefail
cd "$(dirname "$0")"
packages=()
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
command -v chromium >/dev/null || packages+=(chromium)
if [ ${#packages[@]} -gt 0 ]; then
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
fi
if ! cmp -s node/package-lock.json node/node_modules/.installed; then
	(cd node && npm ci --no-progress && cp package-lock.json node_modules/.installed)
fi
INTEROP_REQUIRE_ALL=1 go test -race -count=1 "$@" ./...
