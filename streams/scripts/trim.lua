-- Trims what every declared group is done with. KEYS and ARGV: see declared.lua.
-- Answers {1, entries trimmed, entries left, 1 when there is more to do, groups created,
--          undeclared groups overtaken, groups that stood behind the end}.
local overtaken, beyond = {}, {}

-- A group that somebody set behind the end of the stream would never get an entry, and
-- what comes would count as read. Nobody can tell what it had read before.
local newest, about = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1], nil
for i = 9, #ARGV do
  local g = groups[ARGV[i]]
  if not newest or less(newest[1], g['last-delivered-id']) then
    if not about then
      about = redis.pcall('XINFO', 'STREAM', KEYS[1])
      about = about.err and {} or map(about)
    end
    -- The embedded engine tells another end, and has no such command.
    if about['entries-added'] and less(about['last-generated-id'], g['last-delivered-id']) then
      redis.call('XGROUP', 'SETID', KEYS[1], g['name'], '0')
      g['last-delivered-id'], g['entries-read'] = '0-0', nil
      beyond[#beyond + 1] = g['name']
    end
  end
end
local length = redis.call('XLEN', KEYS[1])
local first = entry('-', '+')
if not first then return {1, 0, 0, 0, created, overtaken, beyond} end

-- The first id that a group is still owed. What is pending below the first entry
-- is a ghost: it holds nothing back, because there is nothing to hold.
local function owed(g)
  local p = redis.call('XPENDING', KEYS[1], g['name'], first, '+', 1)
  if #p > 0 and not less(g['last-delivered-id'], p[1][1]) then return p[1][1] end
  return after(g['last-delivered-id'])
end

local floor
for i = 9, #ARGV do
  local o = owed(groups[ARGV[i]])
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
-- The id of a time so many milliseconds ago.
local function ago(ms)
  local now = redis.call('TIME')
  return string.format('%.0f', math.max(0, tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000) - ms))
end

-- How many of so many entries are too much for that many bytes.
local function excessive(entries, most)
  local bytes = redis.pcall('MEMORY', 'USAGE', KEYS[1])
  if type(bytes) ~= 'number' then
    -- An engine that does not tell: a text of the entry and what Redis adds.
    bytes = 100
    for _, v in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]) do bytes = bytes + #v end
    bytes = bytes * entries
  end
  return math.ceil(entries * (1 - most / bytes))
end

local more = 0
if held then
  local old = ago(tonumber(ARGV[1]))
  if less(held, old) then held = old end
  local excess = excessive(length, tonumber(ARGV[2]))
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

-- XTRIM stops by itself after a hundred nodes' worth of entries.
local page = 10000
-- What is settled stays for a while: the database of the effects may go back in time.
local keep, recent = tonumber(ARGV[5]), floor
if keep > 0 then
  local old = ago(keep)
  if less(old, floor) then recent = old end
end
local n = redis.call('XTRIM', KEYS[1], 'MINID', '~', recent)
if less(recent, floor) and n < length then
  local excess = math.min(page, excessive(length - n, tonumber(ARGV[6])))
  if excess > 0 then n = n + redis.call('XTRIM', KEYS[1], 'MINID', '~', floor, 'LIMIT', excess) end
end
if n >= page then more = 1 end
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
return {1, n, length - n, more, created, overtaken, beyond}
