#!/usr/bin/env bash
# Writes the licences of everything that the binary is built from to standard output:
# the Go standard library's, and for each module those of its licence and notice files,
# also of directories inside it that have their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

title() { printf '%s\n%s\n\n' "$1" "$(printf '%*s' ${#1} '' | tr ' ' =)"; }

title "The Go programming language and its standard library"
cat "$(go env GOROOT)/LICENSE"
# Every system that is built for, so that the list is the same wherever it is made.
for os in linux darwin; do
	for arch in amd64 arm64; do
		GOOS=$os GOARCH=$arch CGO_ENABLED=0 go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/paybell
	done
done | LC_ALL=C sort -u | while read -r path version dir; do
	files=$(cd "$dir" && find . -maxdepth 3 -type f \( -iname 'licen[cs]e*' -o -iname 'notice*' -o -iname 'copying*' -o -iname 'patents' \) \
		! -name '*.go' ! -path '*/testdata/*' | LC_ALL=C sort)
	if [[ -z $files ]]; then
		echo "$path has no licence file" >&2
		exit 1
	fi
	echo
	title "$path $version"
	while read -r file; do
		[[ $file == ./*/* ]] && printf -- '--- %s\n\n' "${file#./}"
		cat "$dir/$file"
		echo
	done <<<"$files"
done
