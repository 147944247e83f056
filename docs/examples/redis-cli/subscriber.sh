#!/usr/bin/env bash
# Reads paybell's events in a group of its own with nothing but redis-cli, and
# ships each order once. It is set by environment variables: REDIS_URL, PREFIX,
# GROUP, CONSUMER, TAGS, STATE, MIN_IDLE_MS, and ONCE=1 to stop when nothing is left.
set -euo pipefail

# The tags of 16 partitions; a consumer that reads only some of them owns those.
tags=${TAGS:-1768 20261 18360 41271 3453 11199 29098 8591 265 45842 13409 17891 46093 3635 2912 48623}
group=${GROUP:-shipping}
consumer=${CONSUMER:-shipping-1} # stable over restarts
state=${STATE:-shipments}
min_idle=${MIN_IDLE_MS:-60000}

# -e makes an error reply an error; --csv puts a reply on one line, quotes escaped.
redis() { redis-cli -e --no-auth-warning -u "${REDIS_URL:-redis://127.0.0.1:6379/0}" --csv "$@"; }

# Applies one event. The effect here is a file named by the event id; linking it
# into place is effect and dedup key in one step. In a service it is an INSERT in
# the same SQL transaction as the rest.
handle() { # event id, type, order
	printf '%s\n' "$3" >"$state/.$1.$$"
	if ln "$state/.$1.$$" "$state/$1" 2>/dev/null; then
		echo "applied $1 $2 $3"
	elif [[ -e $state/$1 ]]; then
		echo "duplicate $1 $2 $3"
	else
		return 1
	fi
	rm "$state/.$1.$$"
}

# Asks for one entry at a time, handles and acknowledges it, until there is none.
# XREADGROUP answers stream, entry id, field, value, …; XAUTOCLAIM answers cursor,
# entry id, field, value, …; the fields come in a fixed order, so both are told by
# their place.
drain() { # stream, command...
	local stream=$1 reply entry schema id type order
	shift
	while :; do
		reply=$(redis "$@")
		if [[ $reply =~ ^\"[^\"]*\",\"([0-9]+-[0-9]+)\",NULL ]]; then
			entry=${BASH_REMATCH[1]} # gone from the stream, and its event lost to us
		elif [[ $reply == *'","schema","'* ]]; then
			IFS=$'\t' read -r entry schema id type order < <(awk -F '","' -v OFS='\t' '{ print $2, $4, $6, $8, $12 }' <<<"$reply")
			if [[ $schema != payment-event/1 ]]; then
				echo "unknown schema $schema: this reader is too old" >&2
				return 1
			fi
			[[ $1 != XAUTOCLAIM ]] || echo "reclaimed 1"
			handle "$id" "$type" "$order"
		elif [[ $1 == XAUTOCLAIM && $reply != '"0-0",,' ]]; then
			continue # it dropped entries that are gone
		else
			return 0
		fi
		found=1
		# Only now: a crash before this line brings the event again.
		redis XACK "$stream" "$group" "$entry" >/dev/null
	done
}

mkdir -p "$state"
streams=()
for tag in $tags; do
	streams+=("${PREFIX:-paybell}:{$tag}:events")
done
for stream in "${streams[@]}"; do
	# At 0, not at $: from the first event that is still kept.
	reply=$(redis XGROUP CREATE "$stream" "$group" 0 MKSTREAM 2>&1) || [[ $reply == *BUSYGROUP* ]] || { echo "$reply" >&2; exit 1; }
done

while :; do
	found=0
	for stream in "${streams[@]}"; do
		# What we had in hand when we last stopped.
		drain "$stream" XREADGROUP GROUP "$group" "$consumer" COUNT 1 STREAMS "$stream" 0
		# What another consumer left behind for min_idle.
		drain "$stream" XAUTOCLAIM "$stream" "$group" "$consumer" "$min_idle" 0 COUNT 1
		# What nobody was given yet.
		drain "$stream" XREADGROUP GROUP "$group" "$consumer" COUNT 1 STREAMS "$stream" '>'
	done
	if [[ $found -eq 0 ]]; then
		[[ ${ONCE:-} != 1 ]] || break
		sleep 2
	fi
done
