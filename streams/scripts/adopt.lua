-- Makes pending entries of other consumers the caller's own, one page of the
-- pending list at a time. KEYS: lease, events, counts, attempts.
-- ARGV: owner, epoch, group, consumer, start id, page, least idle time in ms.
-- Answers {1, moved ids, lost ids, last id of the page or ''}, and on the first page also
-- the last entry delivered to the group, the last one that was appended, the position of
-- the effect store when deliveries were settled last, and the last entry that was there
-- when the group was given everything again, or ''. Lost are those whose entry is no longer in the stream; they
-- leave the pending list.
-- XAUTOCLAIM would not do: one engine keeps what was deleted, the other drops it; so
-- does XCLAIM, and XACK may find nothing left to do.
if not owned() then return {0} end
local page = redis.pcall('XPENDING', KEYS[2], ARGV[3], 'IDLE', ARGV[7], ARGV[5], '+', ARGV[6])
local no = refused(page)
if no then return no end
local ids = {}
for _, p in ipairs(page) do
  if p[2] ~= ARGV[4] then ids[#ids + 1] = p[1] end
end
local moved, lost = {}, {}
if #ids > 0 then
  local args = {}
  for i, id in ipairs(ids) do args[i] = id end
  args[#args + 1] = 'JUSTID'
  moved = redis.call('XCLAIM', KEYS[2], ARGV[3], ARGV[4], 0, unpack(args))
  local there = {}
  for _, id in ipairs(moved) do there[id] = true end
  for _, id in ipairs(ids) do
    if not there[id] then
      redis.call('XACK', KEYS[2], ARGV[3], id)
      redis.call('HDEL', KEYS[4], id)
      lost[#lost + 1] = id
    end
  end
end
if #lost > 0 then redis.call('HINCRBY', KEYS[3], 'lost', #lost) end
local last = ''
if #page == tonumber(ARGV[6]) then last = page[#page][1] end
if ARGV[5] ~= '-' then return {1, moved, lost, last} end
local function map(list)
  local m = {}
  for i = 1, #list, 2 do m[list[i]] = list[i + 1] end
  return m
end
for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
  g = map(g)
  if g['name'] == ARGV[3] then
    local newest = map(redis.call('XINFO', 'STREAM', KEYS[2]))['last-generated-id']
    local about = redis.call('HMGET', KEYS[3], 'position', 'again_to')
    return {1, moved, lost, last, g['last-delivered-id'], newest or '', about[1] or '0', about[2] or ''}
  end
end
