#!/usr/bin/env bash
# go test with its usual output, in which a skipped test is a failed run: a
# promise that was not checked is not kept. Arguments are go test's; -C DIR first
# runs it in that directory.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ ${1:-} == -C ]]; then
	cd "$2"
	shift 2
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$root/bin/gotestsum" --format standard-quiet --hide-summary=skipped --jsonfile-timing-events "$log" -- "$@" || status=$?

# An event that names no test is a package without tests.
if skipped=$(grep '"Action":"skip"' "$log" | grep '"Test":'); then
	echo "skipped, which fails the run:" >&2
	sed -E 's/.*"Package":"([^"]*)","Test":"([^"]*)".*/  \1 \2/' <<<"$skipped" >&2
	[[ $status -ne 0 ]] || status=1
fi
exit "$status"
