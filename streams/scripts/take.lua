-- Delivers entries that the caller has read. KEYS: lease, events, counts.
-- ARGV: owner, epoch, group, consumer, last entry delivered or '' where the caller does
--       not know, then the ids that follow it.
-- Answers {1, last, replays, behind, id, ...}: last is the last entry that is delivered
-- now, replays how many dead letters were ever replayed here. behind is 1 where another
-- entry than the caller believes was the last one, and nothing is delivered; else 0, and
-- the ids are those that the stream does not have any more.
-- The entries themselves stay outside: a script pays for every byte that it touches.
if not owned() then return {0} end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[2])
if groups.err then
  if string.find(groups.err, 'no such key', 1, true) then return {-1} end
  return {-2, groups.err}
end
local function field(list, name)
  for i = 1, #list, 2 do
    if list[i] == name then return list[i + 1] end
  end
end
local group
for _, g in ipairs(groups) do
  if field(g, 'name') == ARGV[3] then group = g end
end
if not group then return {-1} end
local last, replays = field(group, 'last-delivered-id'), redis.call('HGET', KEYS[3], 'replayed') or '0'
if ARGV[5] ~= last then return {1, last, replays, 1} end
if #ARGV < 6 then return {1, last, replays, 0} end

local out = {1, ARGV[#ARGV], replays, 0}
local there = {}
local function missing(delivered)
  for _, id in ipairs(delivered) do there[id] = true end
  out[2] = last
  for i = 6, #ARGV do
    if there[ARGV[i]] then out[2] = ARGV[i] else out[#out + 1] = ARGV[i] end
  end
end

-- Redis numbers what a group has read, and XCLAIM does not count.
local read = field(group, 'entries-read')
local function set(id, n)
  if read then return redis.pcall('XGROUP', 'SETID', KEYS[2], ARGV[3], id, 'ENTRIESREAD', read + n) end
  local about = redis.pcall('XINFO', 'STREAM', KEYS[2])
  if not about.err and field(about, 'last-generated-id') == id and field(about, 'entries-added') then
    return redis.pcall('XGROUP', 'SETID', KEYS[2], ARGV[3], id, 'ENTRIESREAD', field(about, 'entries-added'))
  end
  return redis.pcall('XGROUP', 'SETID', KEYS[2], ARGV[3], id)
end
local no = set(ARGV[#ARGV], #ARGV - 5)
if no.err then
  -- An engine without that command reads them itself.
  local r = redis.pcall('XREADGROUP', 'GROUP', ARGV[3], ARGV[4], 'COUNT', #ARGV - 5, 'STREAMS', KEYS[2], '>')
  if type(r) == 'table' and r.err then return refused(r) end
  local delivered = {}
  for i, e in ipairs(r and r[1][2] or {}) do delivered[i] = e[1] end
  missing(delivered)
  return out
end
local claim = {KEYS[2], ARGV[3], ARGV[4], 0}
for i = 6, #ARGV do claim[#claim + 1] = ARGV[i] end
claim[#claim + 1] = 'FORCE'
claim[#claim + 1] = 'JUSTID'
local delivered = redis.pcall('XCLAIM', unpack(claim))
if delivered.err then
  set(last, 0)
  return refused(delivered)
end
if #delivered < #ARGV - 5 then
  missing(delivered)
  set(out[2], #delivered)
end
return out
