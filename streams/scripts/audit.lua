-- Finds what somebody has removed before it was settled, or given again, and counts it. KEYS
-- and ARGV: see declared.lua.
-- Answers {1, groups created, {group, entries lost, ...}, {group, ghosts, ...}, groups whose
--          account began anew, {group, events it has again, ...}}.
local lost, ghosts, anew, again = {}, {}, {}, {}

-- Of our own groups the account tells what somebody has removed before it was settled:
-- it is owed, and nowhere any more.
for i = 9, 8 + own do
  local g, k = groups[ARGV[i]], 4 * (i - 8)
  -- Somebody deleted the schedule, or a part of it: what is parked is due now.
  local kept, due = redis.pcall('HLEN', KEYS[k + 3]), redis.pcall('ZCARD', KEYS[k + 1])
  if type(kept) == 'number' and type(due) == 'number' and kept > due then
    local now = redis.call('TIME')[1] .. '000'
    for _, id in ipairs(redis.call('HKEYS', KEYS[k + 3])) do redis.call('ZADD', KEYS[k + 1], 'NX', now, id) end
  end
  local a = account(KEYS[1], KEYS[3], KEYS[k], KEYS[k + 1], KEYS[k + 2], g)
  local n = a.owed - a.unread - a.pending
  if a.derived == 1 then
    -- There are too many to know.
  elseif not redis.call('HGET', KEYS[k], 'created') then
    -- Nobody remembers what it was owed before: it is owed what there is.
    redis.call('HSET', KEYS[k], 'created', 1)
    if n ~= 0 then redis.call('HINCRBY', KEYS[k], 'base', -n) end
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
local about = redis.pcall('XINFO', 'STREAM', KEYS[1])
about = about.err and {} or map(about)
local length = redis.call('XLEN', KEYS[1])

-- Entries that were removed from under a subscriber's group before it had read them.
-- Redis 7 numbers entries; an engine that does not cannot tell. After a restart Redis
-- knows of fewer reads than there were, because they are not in its append-only file:
-- then the count begins anew.
local restarted = false
if ARGV[8] ~= '' then
  local before = redis.call('HGET', KEYS[2], 'run')
  restarted = before and before ~= ARGV[8]
  if before ~= ARGV[8] then redis.call('HSET', KEYS[2], 'run', ARGV[8]) end
end
local added = about['entries-added']
local function missed(g)
  if not added then return end
  local seen, blind = g['entries-read'], 'blind:' .. g['name']
  if restarted then redis.call('HSET', KEYS[2], blind, 1) end
  local lies = redis.call('HEXISTS', KEYS[2], blind) == 1
  -- All that is there is unread: something between may be gone.
  local gap = less(g['last-delivered-id'], first or about['last-generated-id'])
  local known = tonumber(redis.call('HGET', KEYS[2], 'read:' .. g['name']) or '0')
  if lies or gap and (not seen or seen < known) then
    -- Nothing was read yet, and what is gone by now was not this group's to read; or
    -- the server was restarted.
    local n = gap and length or unread(KEYS[1], g['last-delivered-id'])
    if n >= 0 and (lies or seen or g['last-delivered-id'] == '0-0') then
      redis.call('XGROUP', 'SETID', KEYS[1], g['name'], g['last-delivered-id'], 'ENTRIESREAD', added - n)
      redis.call('HDEL', KEYS[2], blind)
      g['entries-read'] = added - n
    end
    return
  end
  if not gap then return end
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

for i = 9 + own, #ARGV do
  local g = groups[ARGV[i]]
  missed(g)
  bury(g)
  remember(g)
end
return {1, created, lost, ghosts, anew, again}
