-- Counts what is unread by groups. KEYS: events, ledger, then counts, parked and dead of each
-- group. ARGV: groups.
-- Answers {1, {unread, 0 where it was counted, 1 where it is what the account leaves, 2 where
-- it is the least it is}, ...} in the order of groups, {} for one that is not there.
local groups = {}
for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local m = {}
  for i = 1, #g, 2 do m[g[i]] = g[i + 1] end
  groups[m['name']] = m
end
local out = {1}
for i, name in ipairs(ARGV) do
  local g, k = groups[name], 3 * i
  if not g then
    out[i + 1] = {}
  else
    local n, least = unread(KEYS[1], g['last-delivered-id'])
    out[i + 1] = {least or n, least and 2 or 0}
    -- Only our own groups have an account.
    local created = least and redis.pcall('HGET', KEYS[k], 'created')
    if type(created) == 'string' then
      local ok, a = pcall(account, KEYS[1], KEYS[2], KEYS[k], KEYS[k + 1], KEYS[k + 2], g)
      if ok then out[i + 1] = {a.unread, 1} end
    end
  end
end
return out
