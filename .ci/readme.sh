#!/usr/bin/env bash
# Runs the README's commands, in order, in a clean copy of the tree, as someone
# would who follows it word by word. A fenced sh block is run when the line before
# it is one of
#   <!-- ci -->                 run it; it must succeed
#   <!-- ci:background 180s --> start it, wait (180s unless said) until it prints a
#                               line with the word "ready", stop it at the end
# Blocks share nothing but the directory, like the terminals of a reader.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
background=()

finish() {
	status=$?
	for pid in "${background[@]}"; do
		# A group of its own: go run is the parent of what it runs.
		kill -TERM -- "-$pid" 2>/dev/null || true
	done
	for pid in "${background[@]}"; do
		wait "$pid" 2>/dev/null || true
	done
	# Only at the end, because `go run` keeps files open here; the module cache is not here.
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT

cd "$root"
mkdir "$work/tree" "$work/blocks"
git -c safe.directory="$root" ls-files -z --cached --others --exclude-standard |
	while IFS= read -r -d '' file; do [[ ! -f $file ]] || printf '%s\0' "$file"; done |
	tar --null -T - -cf - | tar -xf - -C "$work/tree"

# One file a block: its number, its kind and how long it may take to be ready.
awk -v dir="$work/blocks" '
	/^```/ && block { close(block); block = ""; next }
	block { print > block; next }
	/^```sh$/ && kind { n++; block = sprintf("%s/%02d.%s", dir, n, kind); printf "" > block; kind = ""; next }
	/^<!-- ci -->$/ { kind = "run"; next }
	/^<!-- ci:background( [0-9]+s)? -->$/ { wait = $3; sub(/s$/, "", wait); kind = "background." (wait == "-->" || wait == "" ? 180 : wait); next }
	/^<!-- ci/ { print "README.md:" NR ": unknown mark: " $0 > "/dev/stderr"; exit 1 }
	kind { print "README.md:" NR ": a mark must stand right before a ```sh block" > "/dev/stderr"; exit 1 }
' README.md

cd "$work/tree"
ran=0
for block in "$work"/blocks/*; do
	[[ -s $block ]] || continue
	ran=$((ran + 1))
	echo "-- README block $ran"
	sed 's/^/   $ /' "$block"
	case $block in
	*.run)
		timeout 300 bash -euo pipefail "$block" </dev/null
		;;
	*.background.*)
		log=$block.log
		setsid bash -euo pipefail "$block" </dev/null >"$log" 2>&1 &
		pid=$!
		background+=("$pid")
		deadline=$((SECONDS + ${block##*.}))
		until grep -qiw ready "$log"; do
			if ! kill -0 "$pid" 2>/dev/null || ((SECONDS > deadline)); then
				echo "never became ready:" >&2
				cat "$log" >&2
				exit 1
			fi
			sleep 0.2
		done
		cat "$log"
		;;
	esac
done
[[ $ran -gt 0 ]] || { echo "README.md marks no block" >&2; exit 1; }
echo "$ran README blocks ran"
