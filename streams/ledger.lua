-- Reads the accounts of groups at one moment. KEYS: events, ledger, then counts, parked
-- and dead of each group. ARGV: groups. Answers {1, {unread, pending, parked, settled,
-- dead, dropped, lost, base, appended, replayed, created}, ...} in the order of groups,
-- {} for one that is not there. unread is -1 where it was too much to count.
local groups = {}
local list = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if not list.err then
  for _, g in ipairs(list) do
    local m = {}
    for i = 1, #g, 2 do m[g[i]] = g[i + 1] end
    groups[m['name']] = m
  end
end
local out = {1}
for i, name in ipairs(ARGV) do
  local counts = KEYS[3 * i]
  if groups[name] then
    local a = account(KEYS[1], KEYS[2], counts, KEYS[3 * i + 1], KEYS[3 * i + 2], groups[name])
    local c = redis.call('HMGET', counts, 'replayed', 'created')
    out[#out + 1] = {a.unread, a.pending, a.parked, a.settled, a.dead, a.dropped, a.lost, a.base, a.appended,
      tonumber(c[1] or '0'), tonumber(c[2] or '0')}
  else
    out[#out + 1] = {}
  end
end
return out
