-- Reads new entries. KEYS: lease, events, counts.
-- ARGV: owner, epoch, group, consumer, count.
-- Answers {1, entries, last, replays}; last is the id after which to wait, '' unless
-- there are no entries, and replays how many dead letters were ever replayed here.
if not owned() then return {0} end
local r = redis.pcall('XREADGROUP', 'GROUP', ARGV[3], ARGV[4], 'COUNT', ARGV[5], 'STREAMS', KEYS[2], '>')
local no = refused(r)
if no then return no end
local replays = redis.call('HGET', KEYS[3], 'replayed') or '0'
if r then return {1, r[1][2], '', replays} end
for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
  local m = {}
  for i = 1, #g, 2 do m[g[i]] = g[i + 1] end
  if m['name'] == ARGV[3] then return {1, {}, m['last-delivered-id'], replays} end
end
return {-1}
