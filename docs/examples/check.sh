#!/usr/bin/env bash
# Runs every example against a live stream: a Redis with the configuration and the
# users of deploy/, a running paybell that accepts signed callbacks, and each
# example as the subscriber "shipping". Asserts for each that it printed every
# event once, took over an entry that another consumer left, acknowledged all,
# and dropped every duplicate when the whole stream came again.
# Takes the paybell binary from PAYBELL (default bin/paybell).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
paybell=${PAYBELL:-$root/bin/paybell}
work=$(mktemp -d)
pids=()

finish() {
	status=$?
	[[ $status -eq 0 ]] || tail -n 20 "$work"/*.log >&2 || true
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT

die() { echo "$*" >&2; exit 1; }
until_true() { # what, command...
	local what=$1 deadline=$((SECONDS + 30))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < deadline)) || die "waited 30 s for $what"
		sleep 0.1
	done
}

# The Python that has the package redis: the system's, or that of an environment.
python=
for candidate in python3 /usr/bin/python3; do
	"$candidate" -c 'import redis' 2>/dev/null && python=$candidate && break
done
[[ -n $python ]] || die "no python3 with the package redis: make setup"
free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# A server and its users, as deploy/ has them.
redis_port=$(free_port)
sha256() { printf '%s' "$1" | sha256sum | cut -d ' ' -f 1; }
sed -e "s/PAYBELL_SHA256/$(sha256 paybell-check)/" -e "s/SHIPPING_SHA256/$(sha256 shipping-check)/" \
	"$root/deploy/users.acl.example" >"$work/users.acl"
redis-server "$root/deploy/redis.conf" --bind 127.0.0.1 --port "$redis_port" --dir "$work" \
	--aclfile "$work/users.acl" >"$work/redis.log" 2>&1 &
pids+=($!)
as() { # user, command...
	redis-cli -e --no-auth-warning -u "redis://$1:$1-check@127.0.0.1:$redis_port/0" --csv "${@:2}"
}
until_true "redis-server" as paybell PING

# A gateway and its workers.
printf 'paybell-check' >"$work/redis_password"
printf 'whsec_check' >"$work/stripe"
gateway_port=$(free_port)
cat >"$work/paybell.yaml" <<YAML
data_dir: $work
gateway: {address: 127.0.0.1:$gateway_port}
admin: {address: 127.0.0.1:$(free_port)}
streams:
  # A declared group that never reads: everything stays for the examples to read again.
  declared_groups: [keeper]
  redis: {address: 127.0.0.1:$redis_port, username: paybell, password: {file: $work/redis_password}}
database: {sqlite: $work/paybell.db}
accounts:
  stripe-check:
    provider: stripe
    namespace: shop
    options: {secrets: [{file: $work/stripe}]}
YAML
"$paybell" --config "$work/paybell.yaml" serve >"$work/paybell.log" 2>&1 &
pids+=($!)
until_true "paybell" "$python" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$gateway_port/readyz')"
"$paybell" --config "$work/paybell.yaml" send stripe-check --order E1 --amount 12.50 --count 40 >/dev/null
"$paybell" --config "$work/paybell.yaml" send stripe-check --order E1-7 --amount 12.50 --type refund.succeeded >/dev/null

# What is on the streams, whoever reads it.
tags=$(sed -n "s/^tags=.*:-\(.*\)}$/\1/p" "$here/redis-cli/subscriber.sh")
events=$(for tag in $tags; do as paybell XRANGE "paybell:{$tag}:events" - +; done |
	grep -o '"id","evt_[a-z0-9]*"' | cut -d '"' -f 4 | sort)
count=$(wc -l <<<"$events")
[[ $count -eq 41 ]] || die "expected 41 events on the streams, found $count"
[[ $("$python" "$here/python/partitions.py" 16) == "$tags" ]] || die "partitions.py and the examples disagree about the tags"
for tag in $tags; do
	for key in $(as paybell XRANGE "paybell:{$tag}:events" - + | grep -o '"key","[^"]*"' | cut -d '"' -f 4); do
		[[ $("$python" "$here/python/partitions.py" 16 "$key") == "$tag" ]] || die "partitions.py puts $key elsewhere than $tag"
	done
done
echo "41 events on $(wc -w <<<"$tags") partitions, each where partitions.py says"

# What the subscriber may not do.
for command in "XADD paybell:{1768}:events * a b" "XTRIM paybell:{1768}:events MAXLEN 0" "DEL paybell:{1768}:events" \
	"XGROUP SETID paybell:{1768}:events orderstatus 0" "GET paybell:{1768}:seen:x" "XRANGE paybell:{1768}:dead:points - +" \
	"EVAL return(1) 0" "FLUSHALL"; do
	read -ra words <<<"$command"
	reply=$(as shipping "${words[@]}" 2>&1) || true
	[[ $reply == *NOPERM* ]] || die "a subscriber may $command: $reply"
done

total() { awk '{ n += $1 } END { print n + 0 }'; }
pending() { # group
	for tag in $tags; do as paybell XPENDING "paybell:{$tag}:events" "$1" | cut -d , -f 1; done | total
}

check() { # name, command...
	local name=$1 group=check-$1 out=$work/$1.log
	shift
	# Another consumer reads one entry of every partition, and is never seen again.
	local stuck=0
	for tag in $tags; do
		as shipping XGROUP CREATE "paybell:{$tag}:events" "$group" 0 MKSTREAM >/dev/null
		[[ $(as shipping XREADGROUP GROUP "$group" crashed COUNT 1 STREAMS "paybell:{$tag}:events" '>') == NULL ]] || stuck=$((stuck + 1))
	done
	mkdir "$work/$name-state"
	run=(env "REDIS_URL=redis://shipping:shipping-check@127.0.0.1:$redis_port/0" "GROUP=$group" CONSUMER=check
		"STATE=$work/$name-state" "DATABASE=$work/$name-state/db" MIN_IDLE_MS=1 ONCE=1 timeout 120 "$@")

	"${run[@]}" >"$out"
	[[ $(sed -n 's/^applied \([^ ]*\).*/\1/p' "$out" | sort) == "$events" ]] || die "$name: did not apply every event once"
	[[ $(sed -n 's/^reclaimed //p' "$out" | total) -eq $stuck ]] || die "$name: did not reclaim the $stuck entries left behind"
	! grep -q '^duplicate' "$out" || die "$name: took a new event for a duplicate"
	[[ $(pending "$group") -eq 0 ]] || die "$name: left entries unacknowledged"

	# The operator sends the group back to the start: everything comes again.
	for tag in $tags; do as paybell XGROUP SETID "paybell:{$tag}:events" "$group" 0 >/dev/null; done
	"${run[@]}" >"$out"
	! grep -q '^applied' "$out" || die "$name: applied an event twice"
	[[ $(sed -n 's/^duplicate \([^ ]*\).*/\1/p' "$out" | sort) == "$events" ]] || die "$name: did not see every duplicate"
	[[ $(pending "$group") -eq 0 ]] || die "$name: left duplicates unacknowledged"
	echo "$name: $count events, $stuck reclaimed, $count duplicates dropped"
}

check redis-cli "$here/redis-cli/subscriber.sh"
check python "$python" "$here/python/subscriber.py"
(cd "$here/go" && go build -o "$work/subscriber-go" .)
check go "$work/subscriber-go"
cp -r "$here/node" "$work/node"
(cd "$work/node" && npm ci --silent)
check node node "$work/node/subscriber.js"
