-- Reads new entries. KEYS: lease, events. ARGV: owner, epoch, group, consumer, count.
-- Answers {1, entries, last}; last is the id after which to wait, '' unless
-- there are no entries.
if not owned() then return {0} end
local r = redis.pcall('XREADGROUP', 'GROUP', ARGV[3], ARGV[4], 'COUNT', ARGV[5], 'STREAMS', KEYS[2], '>')
local no = refused(r)
if no then return no end
if r then return {1, r[1][2], ''} end
for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
  local m = {}
  for i = 1, #g, 2 do m[g[i]] = g[i + 1] end
  if m['name'] == ARGV[3] then return {1, {}, m['last-delivered-id']} end
end
return {-1}
