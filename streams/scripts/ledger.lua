-- Reads the accounts of groups at one moment. KEYS: events, ledger, trim, then counts,
-- parked and dead of each of our own groups. ARGV: number of our own groups, our own
-- groups, the subscribers' declared groups.
-- Answers {1, {unread, pending, parked, settled, dead, dropped, lost, base, appended,
-- replayed, created, derived, again, lost and again as far as they were acknowledged}, ...}
-- in the order of groups, {} for one that is not there, {text} for one that cannot be read:
-- a key of its is of another type. derived is 1 where too much was unread to be counted.
-- A subscriber's group has no account: of it only unread, or the least it is, pending, lost
-- and appended are known.
local groups, broken = {}, nil
local list = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if list.err then
  if string.find(list.err, 'WRONGTYPE', 1, true) then broken = list.err end
  list = {}
end
for _, g in ipairs(list) do
  local m = {}
  for i = 1, #g, 2 do m[g[i]] = g[i + 1] end
  groups[m['name']] = m
end

local function ours(i, g)
  local counts = KEYS[3 * i + 1]
  local a = account(KEYS[1], KEYS[2], counts, KEYS[3 * i + 2], KEYS[3 * i + 3], g)
  local c = redis.call('HMGET', counts, 'replayed', 'created', 'again', 'lost_known', 'again_known')
  return {a.unread, a.pending, a.parked, a.settled, a.dead, a.dropped, a.lost, a.base, a.appended,
    tonumber(c[1] or '0'), tonumber(c[2] or '0'), a.derived,
    tonumber(c[3] or '0'), tonumber(c[4] or '0'), tonumber(c[5] or '0')}
end
local function theirs(g)
  local n, least = unread(KEYS[1], g['last-delivered-id'])
  local c = redis.call('HMGET', KEYS[3], 'lost:' .. g['name'], 'known:' .. g['name'])
  return {least or n, g['pending'], 0, 0, 0, 0, tonumber(c[1] or '0'), 0,
    appended(KEYS[2]), 0, 0, least and 1 or 0,
    0, tonumber(c[2] or '0'), 0}
end

local own = tonumber(ARGV[1])
local out = {1}
for i = 1, #ARGV - 1 do
  local g = groups[ARGV[i + 1]]
  if broken then
    out[#out + 1] = {broken}
  elseif not g then
    out[#out + 1] = {}
  else
    local ok, row
    if i <= own then ok, row = pcall(ours, i, g) else ok, row = pcall(theirs, g) end
    if not ok then row = {type(row) == 'table' and row.err or tostring(row)} end
    out[#out + 1] = row
  end
end
return out
