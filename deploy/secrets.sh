#!/usr/bin/env bash
# Makes deploy/secrets for compose.yaml: random passwords, Redis's user list and
# PostgreSQL's DSN. What is there already is kept, so it can be run again.
# The provider's own secret is the one thing it cannot know: put it into
# deploy/secrets/stripe before you start.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The directory keeps other users of this machine out. The files themselves are
# readable because the containers' users, who have no name here, read them.
mkdir -p -m 0700 secrets
umask 022

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
sha256() { printf '%s' "$1" | sha256sum | cut -d ' ' -f 1; }
keep() { # name, value
	[[ -s secrets/$1 ]] || printf '%s\n' "$2" >"secrets/$1"
}

keep redis_password "$(random)"
keep shipping_password "$(random)"
keep postgres_password "$(random)"
keep postgres_dsn "postgres://paybell:$(cat secrets/postgres_password)@postgres:5432/paybell?sslmode=disable"
sed -e "s/PAYBELL_SHA256/$(sha256 "$(cat secrets/redis_password)")/" \
	-e "s/SHIPPING_SHA256/$(sha256 "$(cat secrets/shipping_password)")/" \
	users.acl.example >secrets/users.acl

if [[ ! -s secrets/stripe ]]; then
	echo "put the endpoint's signing secret (whsec_…) into deploy/secrets/stripe" >&2
fi
