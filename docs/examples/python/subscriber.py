"""Reads paybell's events in a group of its own and ships each order once.

Run it with python3 and the package "redis" (python3-redis on Debian). It is set
by environment variables: REDIS_URL, PREFIX, GROUP, CONSUMER, TAGS, DATABASE,
MIN_IDLE_MS, and ONCE=1 to stop when nothing is left.
"""

import json
import os
import sqlite3

import redis

# The tags of 16 partitions; a consumer that reads only some of them owns those.
ALL_TAGS = "1768 20261 18360 41271 3453 11199 29098 8591 265 45842 13409 17891 46093 3635 2912 48623"

GROUP = os.environ.get("GROUP", "shipping")
CONSUMER = os.environ.get("CONSUMER", "shipping-1")  # stable over restarts
PREFIX = os.environ.get("PREFIX", "paybell")
STREAMS = [f"{PREFIX}:{{{tag}}}:events" for tag in os.environ.get("TAGS", ALL_TAGS).split()]
MIN_IDLE_MS = int(os.environ.get("MIN_IDLE_MS", "60000"))
ONCE = os.environ.get("ONCE") == "1"

# Values stay bytes: a raw body may be in any encoding. Everything else is UTF-8.
r = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))

db = sqlite3.connect(os.environ.get("DATABASE", "shipping.db"))
db.execute("CREATE TABLE IF NOT EXISTS shipments (event_id TEXT PRIMARY KEY, order_ref TEXT, minor INTEGER)")


def create_groups():
    for stream in STREAMS:
        try:
            # At 0, not at $: from the first event that is still kept.
            r.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except redis.ResponseError as err:
            if not str(err).startswith("BUSYGROUP"):
                raise


def handle(event):
    """Applies one event. Dedup key and effect are one transaction."""
    payment = event.get("payment", {})
    with db:
        done = db.execute(
            "INSERT INTO shipments VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (event["event_id"], payment.get("order_ref"), payment.get("amount", {}).get("minor")),
        ).rowcount
    print("applied" if done else "duplicate", event["event_id"], event["type"], payment.get("order_ref", ""))


def settle(stream, entries):
    for entry_id, fields in entries:
        if fields:  # None: the entry is gone from the stream, and its event lost to us
            if fields[b"schema"] != b"payment-event/1":
                raise SystemExit(f"unknown schema {fields[b'schema']!r}: this reader is too old")
            handle(json.loads(fields[b"event"]))
        # Only now: a crash before this line brings the event again.
        r.xack(stream, GROUP, entry_id)


def reclaim():
    """Takes over what other consumers left behind for MIN_IDLE_MS."""
    for stream in STREAMS:
        cursor = b"0-0"
        while True:
            cursor, entries, *_ = r.xautoclaim(stream, GROUP, CONSUMER, MIN_IDLE_MS, start_id=cursor, count=100)
            if entries:
                print("reclaimed", len(entries))
            settle(stream, entries)
            if cursor == b"0-0":
                break


def read(start, block=None):
    """Reads after start: ">" is what nobody was given yet, an id our own pending entries."""
    found = r.xreadgroup(GROUP, CONSUMER, {stream: start for stream in STREAMS}, count=100, block=block)
    for stream, entries in found:
        settle(stream, entries)
    return sum(len(entries) for _, entries in found)


create_groups()
while read("0"):  # first what we had in hand when we last stopped
    pass
while True:
    reclaim()
    if not read(">", block=None if ONCE else 2000) and ONCE:
        break
