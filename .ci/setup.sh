#!/usr/bin/env bash
# Installs what `make test` needs and this machine lacks, by apt as root or with
# a passwordless sudo. Where it may not, it names exactly what is missing and how
# to get it, and fails.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }
has_git() { has git; }
has_redis() { has redis-server && has redis-cli; }
# Elsewhere than on Debian the system has a store of its own.
has_certificates() { ! has apt-get || [[ -s /etc/ssl/certs/ca-certificates.crt ]]; }
has_postgres() { has initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
has_pgbouncer() { has pgbouncer || [[ -x /usr/sbin/pgbouncer || -x /usr/local/sbin/pgbouncer ]]; }
# The examples run on the system's Python: a virtual environment may hide its packages.
has_python_redis() { /usr/bin/python3 -c 'import redis, sqlite3' 2>/dev/null || python3 -c 'import redis, sqlite3' 2>/dev/null; }
# -race links with a C compiler and the C library's headers.
has_cc() { has "${CC:-gcc}" && echo 'int main(void){return 0;}' | "${CC:-gcc}" -include stdlib.h -x c -o /dev/null - 2>/dev/null; }
node_major() { node --version 2>/dev/null | sed -E 's/^v([0-9]+).*/\1/'; }
has_node() { has npm && [[ $(node_major) -ge 18 ]]; }

packages=() hints=()
need() { # check, apt packages, what it is for
	"$1" && return
	read -ra wanted <<<"$2"
	packages+=("${wanted[@]}")
	hints+=("  ${2}: $3")
}
check() {
	packages=() hints=()
	need has_certificates 'ca-certificates' 'modules and packages come over TLS'
	need has_git 'git' 'the README check works on a clean copy of the tree'
	need has_cc 'gcc libc6-dev' 'go test -race needs a C compiler'
	need has_redis 'redis-server' 'streams are tested on real Redis servers, 7.0 or later'
	need has_postgres 'postgresql' 'effects are tested on PostgreSQL, 13 or later'
	need has_pgbouncer 'pgbouncer' 'effects are tested behind a pooler'
	need has_python_redis 'python3 python3-redis' 'the Python subscriber example'
	need has_node 'nodejs npm' 'the Node subscriber example, Node 18 or later'
}
if ! has go; then
	echo "Go is missing: install the version that go.mod names from https://go.dev/dl/" >&2
	exit 1
fi

check
if [[ ${#packages[@]} -gt 0 ]]; then
	sudo=()
	if [[ $(id -u) -ne 0 ]]; then
		sudo=(sudo -n)
	fi
	if has apt-get && { [[ ${#sudo[@]} -eq 0 ]] || sudo -n true 2>/dev/null; }; then
		echo "installing ${packages[*]}"
		"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
		# On a machine that is thrown away, packages need not be synced to disk one by one.
		options=()
		[[ -z ${CI:-} ]] || options=(-o Dpkg::Options::=--force-unsafe-io)
		"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			"${options[@]}" "${packages[@]}" >/dev/null
		check
	fi
fi
if [[ ${#packages[@]} -gt 0 ]]; then
	{
		echo "missing on this machine:"
		printf '%s\n' "${hints[@]}"
		echo "install with: sudo apt-get install ${packages[*]}"
		echo "(macOS: brew install redis postgresql@15 pgbouncer python node && python3 -m pip install redis)"
	} >&2
	exit 1
fi
