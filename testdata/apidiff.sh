#!/bin/sh
# Compares the exported API of this package with that of github.com/shuLhan/share/lib/websocket v0.41.3. It fails on every
# incompatible change but one: the sync.Mutex that Client and ClientManager embedded is gone.
#
# APIDIFF is the command to compare with: apidiff if it is installed, else `go run golang.org/x/exp/cmd/apidiff@latest`.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
package=github.com/shuLhan/share/lib/websocket
version=v0.41.3
if [ -z "${APIDIFF:-}" ]; then
	if command -v apidiff >/dev/null; then
		APIDIFF=apidiff
	else
		APIDIFF='go run golang.org/x/exp/cmd/apidiff@latest'
	fi
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export GOWORK=off GOFLAGS=-mod=mod

# export_api NAME REQUIREMENT [REPLACEMENT] writes the API of the package, as a program with that go.mod has it, to NAME.
export_api() {
	mkdir "$dir/program-$1"
	cd "$dir/program-$1"
	printf 'module program\n\ngo 1.25\n\nrequire %s %s\n' "$2" "$version" >go.mod
	if [ $# -gt 2 ]; then
		printf '\nreplace %s => "%s"\n' "$2" "$3" >>go.mod
		cp "$root/go.sum" go.sum
	fi
	printf 'package program\n\nimport _ "%s"\n' "$package" >program.go
	go build .
	$APIDIFF -w "$dir/$1" "$package"
}

export_api original "${package%/lib/websocket}"
export_api ours "$package" "$root"

cd "$dir"
$APIDIFF -incompatible original ours >changes
status=0
grep -Ev '^- (Client|ClientManager)\.Mutex: removed$|^- sync\.\(\*Mutex\)\.(Lock|TryLock|Unlock), method set of \*(Client|ClientManager): removed$' \
	changes >unexpected || status=$?
if [ "$status" -gt 1 ]; then
	exit "$status"
fi
if [ -s unexpected ]; then
	echo "incompatible changes to $package $version:"
	cat unexpected
	exit 1
fi
echo "compatible with $package $version, but for $(grep -c Mutex changes) lines about the embedded sync.Mutex"
