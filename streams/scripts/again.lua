-- Delivers an entry that a group has settled again: parks it there, due now. It is fenced
-- by no lease, as a replay is not (see replay.lua). KEYS: events, attempts, parked, parcels,
-- counts, ledger. ARGV: group, how much may be parked for it, entry id, then its fields and their
-- values; without any they are the stream's.
-- Answers {1, what became of it}.
local no = overwritten({KEYS[1], 'stream', KEYS[2], 'hash', KEYS[3], 'zset', KEYS[4], 'hash', KEYS[5], 'hash'})
if no then return no end
local id = ARGV[3]
-- A change of the number of partitions has sealed this one (change.lua): nobody reads it.
local gate = redis.call('HMGET', KEYS[6], 'appended', 'open')
if gate[1] == 'closed' and gate[2] == '' then return {1, 'sealed'} end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[2]) then return {1, 'full'} end
if redis.call('HEXISTS', KEYS[4], id) == 1 then return {1, 'owed'} end
local groups, last = redis.pcall('XINFO', 'GROUPS', KEYS[1]), nil
for _, g in ipairs(groups.err and {} or groups) do
  local m = {}
  for i = 1, #g, 2 do m[g[i]] = g[i + 1] end
  if m['name'] == ARGV[1] then last = m['last-delivered-id'] end
end
if not last then return {-1} end
if newer(id, last) or #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) > 0 then return {1, 'owed'} end
local fields = {}
for i = 4, #ARGV do fields[i - 3] = ARGV[i] end
if #fields == 0 then
  local e = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not e then return {1, 'missing'} end
  fields = e[2]
end
redis.call('HDEL', KEYS[2], id)
redis.call('HSET', KEYS[4], id, parcel('0', fields))
redis.call('ZADD', KEYS[3], string.format('%.0f', clock()), id)
redis.call('HINCRBY', KEYS[5], 'base', 1)
redis.call('HINCRBY', KEYS[5], 'replayed', 1)
return {1, 'replayed'}
