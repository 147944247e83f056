-- Goes before the scripts that look at a group's account: in which state its events
-- are, and how many there must be. What the scripts count (settled, dropped, lost) and
-- what is seen (unread, pending, parked, dead) add up to what was appended, plus base:
-- what the group was given again when it was created again, less what had gone before
-- it was created first.
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return ms or id, seq or '0'
end
local function newer(a, b)
  local am, as = parts(a)
  local bm, bs = parts(b)
  -- Compared as text: a number of Lua does not hold all 64 bits.
  if #am ~= #bm then return #am > #bm end
  if am ~= bm then return am > bm end
  if #as ~= #bs then return #as > #bs end
  return as > bs
end

-- How many entries, and how many bytes of them, are looked at one by one to count what
-- is unread: every process that trims looks, once a second, at every partition.
local most, heavy = 500, 512 * 1024

-- How many entries lie behind the last one delivered; -1 when that are too many to
-- count. Redis's own lag would not do: what it knows of a group's reads is not in the
-- append-only file, and so is wrong after a restart.
local function unread(events, last)
  local length = redis.call('XLEN', events)
  if length == 0 then return 0 end
  local first = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1][1]
  if newer(first, last) then return length end
  local newest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1][1]
  if not newer(newest, last) then return 0 end
  -- The fields come along, so the pages are small.
  local n, from, bytes = 0, newest, 0
  while n < most and bytes < heavy do
    local page = redis.call('XREVRANGE', events, from, last, 'COUNT', 11)
    for _, e in ipairs(page) do
      if e[1] == last then return n end
      if e[1] ~= from or n == 0 then n = n + 1 end
      for _, v in ipairs(e[2]) do bytes = bytes + #v end
    end
    if #page < 11 then return n end
    from = page[#page][1]
  end
  return -1
end

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

-- The state of a group's events. group is its line of XINFO GROUPS, as a map.
local function account(events, ledger, counts, parked, dead, group)
  local c = redis.call('HMGET', counts, 'settled', 'dropped', 'lost', 'base')
  local a = {
    appended = tonumber(redis.call('HGET', ledger, 'appended') or '0'),
    unread = unread(events, group['last-delivered-id']),
    pending = waiting(events, group),
    parked = redis.call('ZCARD', parked),
    dead = redis.call('XLEN', dead),
    settled = tonumber(c[1] or '0'), dropped = tonumber(c[2] or '0'),
    lost = tonumber(c[3] or '0'), base = tonumber(c[4] or '0'),
  }
  if a.pending < 0 then a.unread, a.pending = -1, group['pending'] end
  a.owed = a.appended + a.base - a.parked - a.dead - a.settled - a.dropped - a.lost
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
  local length = redis.call('XLEN', events)
  local a = account(events, ledger, counts, parked, dead, {['last-delivered-id'] = '0-0', pending = 0})
  if again and a.owed > length then
    redis.call('HINCRBY', counts, 'lost', a.owed - length)
  else
    redis.call('HINCRBY', counts, 'base', length - a.owed)
  end
  return true
end
-- Trims what every declared group is done with. KEYS: events, trim, ledger, then
-- counts, parked, dead and parcels of each of our own groups.
-- ARGV: retention age in ms, retention bytes, ghosts' least idle time in ms,
--       most entries to look at, number of our own groups,
--       our own groups, the subscribers' declared groups.
-- Answers {1, entries trimmed, entries left, 1 when there is more to do,
--          groups created, {group, entries lost, ...}, {group, ghosts, ...},
--          undeclared groups overtaken, groups whose account began anew,
--          groups that stood behind the end, {group, events it has again, ...}}.
local function less(a, b) return newer(b, a) end
-- The id after one; the id itself where that cannot be told exactly.
local function after(id)
  local ms, seq = parts(id)
  if #seq > 15 then return id end
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end
local function map(list)
  local m = {}
  for i = 1, #list, 2 do m[list[i]] = list[i + 1] end
  return m
end
local function entry(from, to)
  local e = redis.call('XRANGE', KEYS[1], from, to, 'COUNT', 1)
  return e[1] and e[1][1]
end

local look, own = tonumber(ARGV[4]), tonumber(ARGV[5])
local groups, created, declared = {}, {}, {}
local function look_up()
  local list = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  if list.err then list = {} end
  groups = {}
  for _, g in ipairs(list) do
    local m = map(g)
    groups[m['name']] = m
  end
end
look_up()
-- A declared group that is not there gets everything from the first entry on, so
-- it has to be there before the floor is found.
for i = 6, #ARGV do
  declared[ARGV[i]] = i - 5
  if not groups[ARGV[i]] then
    local k = 4 * (i - 5)
    if i > 5 + own then
      redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[i], '0', 'MKSTREAM')
    else
      local _, err = create(KEYS[1], KEYS[3], KEYS[k], KEYS[k + 1], KEYS[k + 2], ARGV[i])
      if err then return {-2, err} end
    end
    created[#created + 1] = ARGV[i]
  end
end
if #created > 0 then look_up() end
local lost, ghosts, overtaken, anew, beyond, again = {}, {}, {}, {}, {}, {}

-- A group that somebody set behind the end of the stream would never get an entry, and
-- what comes would count as read. Nobody can tell what it had read before.
local about = redis.pcall('XINFO', 'STREAM', KEYS[1])
about = about.err and {} or map(about)
for i = 6, #ARGV do
  local g, newest = groups[ARGV[i]], about['last-generated-id']
  -- The embedded engine tells another end, and has no such command.
  if about['entries-added'] and less(newest, g['last-delivered-id']) then
    redis.call('XGROUP', 'SETID', KEYS[1], g['name'], '0')
    g['last-delivered-id'], g['entries-read'] = '0-0', nil
    beyond[#beyond + 1] = g['name']
  end
end
local length = redis.call('XLEN', KEYS[1])

-- Of our own groups the account tells what somebody has removed before it was settled:
-- it is owed, and nowhere any more.
for i = 6, 5 + own do
  local g, k = groups[ARGV[i]], 4 * (i - 5)
  -- Somebody deleted the schedule, or a part of it: what is parked is due now.
  local kept, due = redis.pcall('HLEN', KEYS[k + 3]), redis.pcall('ZCARD', KEYS[k + 1])
  if type(kept) == 'number' and type(due) == 'number' and kept > due then
    local now = redis.call('TIME')[1] .. '000'
    for _, id in ipairs(redis.call('HKEYS', KEYS[k + 3])) do redis.call('ZADD', KEYS[k + 1], 'NX', now, id) end
  end
  local a = account(KEYS[1], KEYS[3], KEYS[k], KEYS[k + 1], KEYS[k + 2], g)
  local n = a.owed - a.unread - a.pending
  if a.unread < 0 then
    -- There are too many to know.
  elseif not redis.call('HGET', KEYS[k], 'created') then
    -- Nobody remembers what it was owed before: it is owed what there is.
    redis.call('HSET', KEYS[k], 'created', 1)
    redis.call('HINCRBY', KEYS[k], 'base', -n)
    anew[#anew + 1] = g['name']
  elseif n > 0 then
    redis.call('HINCRBY', KEYS[k], 'lost', n)
    lost[#lost + 1] = g['name']
    lost[#lost + 1] = n
  elseif n < 0 then
    -- It has what it had before once more: somebody set it back, or put entries there
    -- that were never appended. Left like this, it would hide as many losses.
    redis.call('HINCRBY', KEYS[k], 'base', -n)
    redis.call('HINCRBY', KEYS[k], 'again', -n)
    again[#again + 1] = g['name']
    again[#again + 1] = -n
  end
end

local first = entry('-', '+')
if not first then return {1, 0, 0, 0, created, lost, ghosts, overtaken, anew, beyond, again} end

-- The first id that a group is still owed. What is pending below the first entry
-- is a ghost: it holds nothing back, because there is nothing to hold.
local function owed(g)
  local p = redis.call('XPENDING', KEYS[1], g['name'], first, '+', 1)
  if #p > 0 and not less(g['last-delivered-id'], p[1][1]) then return p[1][1] end
  return after(g['last-delivered-id'])
end

-- Entries that were removed from under a subscriber's group before it had read them.
-- Redis 7 numbers entries; an engine that does not cannot tell. After a restart Redis
-- knows of fewer reads than there were, because they are not in its append-only file:
-- then the count begins anew.
local added = about['entries-added']
local function missed(g)
  if not added or not less(g['last-delivered-id'], first) then return end
  local seen = g['entries-read']
  local known = tonumber(redis.call('HGET', KEYS[2], 'read:' .. g['name']) or '0')
  if not seen or seen < known then
    -- Nothing was read yet, and what is gone by now was not this group's to read; or
    -- the server was restarted.
    if seen or g['last-delivered-id'] == '0-0' then
      redis.call('XGROUP', 'SETID', KEYS[1], g['name'], g['last-delivered-id'], 'ENTRIESREAD', added - length)
      g['entries-read'] = added - length
    end
    return
  end
  local n = added - seen - length
  if n <= 0 then return end
  lost[#lost + 1] = g['name']
  lost[#lost + 1] = n
  redis.call('HINCRBY', KEYS[2], 'lost:' .. g['name'], n)
  -- Told once: the group goes on as if it had read them.
  redis.call('XGROUP', 'SETID', KEYS[1], g['name'], g['last-delivered-id'], 'ENTRIESREAD', added - length)
  g['entries-read'] = added - length
end

-- Keeps how much a subscriber's group had read, as far as Redis knew.
local function remember(g)
  if g['entries-read'] then redis.call('HSET', KEYS[2], 'read:' .. g['name'], g['entries-read']) end
end

-- Pending entries that were deleted by hand. The owner of one of our own groups
-- has them in its memory, or finds them when it takes over.
local function bury(g)
  local n, seen, start = 0, 0, '-'
  while seen < look do
    local page = redis.call('XPENDING', KEYS[1], g['name'], start, '+', math.min(100, look))
    for _, p in ipairs(page) do
      seen = seen + 1
      if p[3] >= tonumber(ARGV[3]) and not entry(p[1], p[1]) then
        redis.call('XACK', KEYS[1], g['name'], p[1])
        n = n + 1
      end
    end
    if #page < math.min(100, look) then break end
    start = after(page[#page][1])
    if start == page[#page][1] then break end
  end
  if n == 0 then return end
  ghosts[#ghosts + 1] = g['name']
  ghosts[#ghosts + 1] = n
  redis.call('HINCRBY', KEYS[2], 'lost:' .. g['name'], n)
end

local floor
for i = 6, #ARGV do
  local g = groups[ARGV[i]]
  if i > 5 + own then
    missed(g)
    bury(g)
    remember(g)
  end
  local o = owed(g)
  if not floor or less(o, floor) then floor = o end
end

-- Undeclared groups hold entries back, up to the retention.
local waiting, held = {}, nil
for name, g in pairs(groups) do
  if not declared[name] then
    local o = owed(g)
    if less(o, floor) then
      waiting[#waiting + 1] = {name, o}
      if not held or less(o, held) then held = o end
    end
  end
end
local more = 0
if held then
  local now = redis.call('TIME')
  local old = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000) - tonumber(ARGV[1])
  old = string.format('%.0f', math.max(0, old))
  if less(held, old) then held = old end
  local bytes = redis.pcall('MEMORY', 'USAGE', KEYS[1])
  if type(bytes) ~= 'number' then
    -- An engine that does not tell: a text of the entry and what Redis adds.
    bytes = 100
    for _, v in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]) do bytes = bytes + #v end
    bytes = bytes * length
  end
  local excess = math.ceil(length * (1 - tonumber(ARGV[2]) / bytes))
  if excess > 0 then
    if excess > look then
      excess, more = look, 1
    end
    local e = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', excess + 1)
    local id = e[#e][1]
    if less(held, id) then held = id end
  end
  if less(held, floor) then floor = held end
  for _, w in ipairs(waiting) do w[3] = less(w[2], floor) and entry(w[2], '+') end
end

local n = redis.call('XTRIM', KEYS[1], 'MINID', '~', floor)
-- XTRIM stops by itself after a hundred nodes' worth of entries.
if n >= 10000 then more = 1 end
if n > 0 then
  first = entry('-', '+')
  for _, w in ipairs(waiting) do
    if w[3] and (not first or less(w[3], first)) then
      overtaken[#overtaken + 1] = w[1]
      redis.call('HINCRBY', KEYS[2], 'overtaken:' .. w[1], 1)
    end
  end
else
  more = 0
end
return {1, n, length - n, more, created, lost, ghosts, overtaken, anew, beyond, again}
