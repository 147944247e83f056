-- Reads new entries. KEYS: lease, events, counts.
-- ARGV: owner, epoch, group, consumer, count, last entry delivered or '' where the
--       caller does not know.
-- Answers {1, entries, last, replays}: last is the last entry that is delivered now, and
-- replays how many dead letters were ever replayed here. Where another entry than the
-- caller believes was the last one, nothing is read, and the answer goes on with 1.
if not owned() then return {0} end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[2])
if groups.err then
  if string.find(groups.err, 'no such key', 1, true) then return {-1} end
  return {-2, groups.err}
end
local last
for _, g in ipairs(groups) do
  local m = {}
  for i = 1, #g, 2 do m[g[i]] = g[i + 1] end
  if m['name'] == ARGV[3] then last = m['last-delivered-id'] end
end
if not last then return {-1} end
local replays = redis.call('HGET', KEYS[3], 'replayed') or '0'
if ARGV[6] ~= '' and ARGV[6] ~= last then return {1, {}, last, replays, 1} end
local r = redis.pcall('XREADGROUP', 'GROUP', ARGV[3], ARGV[4], 'COUNT', ARGV[5], 'STREAMS', KEYS[2], '>')
local no = refused(r)
if no then return no end
if not r then return {1, {}, last, replays} end
local entries = r[1][2]
return {1, entries, entries[#entries][1], replays}
