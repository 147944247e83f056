-- Goes before the scripts that look at a group's account: in which state its events
-- are, and how many there must be. What the scripts count (settled, dropped, lost) and
-- what is seen (unread, pending, parked, dead) add up to what was appended, plus base:
-- what the group was given again when it was created again, less what had gone before
-- it was created first.

-- How many of a group's pending entries it is not given again: those behind the last one
-- delivered are unread as well, because somebody set the group back. -1 when that are
-- too many to count.
local function waiting(events, group)
  if group['pending'] == 0 then return 0 end
  local both = redis.pcall('XPENDING', events, group['name'], '(' .. group['last-delivered-id'], '+', most)
  if both.err then return group['pending'] end
  if #both == most then return -1 end
  return group['pending'] - #both
end

-- How many events were appended. Where the gate is, or was, closed, another field counts
-- them (append.lua).
local function appended(ledger)
  local n = redis.call('HMGET', ledger, 'appended', 'counted')
  return tonumber(n[1] or '0') or tonumber(n[2] or '0')
end

-- The state of a group's events. group is its line of XINFO GROUPS, as a map. Where too much
-- is unread to be counted, derived is 1 and unread is what the others leave of what is owed.
local function account(events, ledger, counts, parked, dead, group)
  local c = redis.call('HMGET', counts, 'settled', 'dropped', 'lost', 'base')
  local a = {
    appended = appended(ledger),
    unread = unread(events, group['last-delivered-id']),
    pending = waiting(events, group),
    parked = redis.call('ZCARD', parked),
    dead = redis.call('XLEN', dead),
    settled = tonumber(c[1] or '0'), dropped = tonumber(c[2] or '0'),
    lost = tonumber(c[3] or '0'), base = tonumber(c[4] or '0'), derived = 0,
  }
  if a.pending < 0 then a.unread, a.pending = -1, group['pending'] end
  a.owed = a.appended + a.base - a.parked - a.dead - a.settled - a.dropped - a.lost
  if a.unread < 0 then a.unread, a.derived = math.max(0, a.owed - a.pending), 1 end
  return a
end

-- Creates a group at the start of the stream, where it is not there, and answers whether
-- it did, and what kept it from it. What the stream still has is delivered to it again, so its account begins
-- anew: what it was owed and the stream has no more is lost.
local function create(events, ledger, counts, parked, dead, name)
  local made = redis.pcall('XGROUP', 'CREATE', events, name, '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return false, made.err end
  if made.err then return false end
  local again = redis.call('HINCRBY', counts, 'created', 1) > 1
  if again then
    -- Up to here its owner has to look out for what it has given up before.
    local newest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
    redis.call('HSET', counts, 'again_to', newest and newest[1] or '0-0')
  end
  local length = redis.call('XLEN', events)
  local a = account(events, ledger, counts, parked, dead, {['last-delivered-id'] = '0-0', pending = 0})
  if again and a.owed > length then
    redis.call('HINCRBY', counts, 'lost', a.owed - length)
  else
    redis.call('HINCRBY', counts, 'base', length - a.owed)
  end
  return true
end
