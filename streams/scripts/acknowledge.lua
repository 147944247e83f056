-- Takes note that an operator knows of what a group has lost, and of what it has twice.
-- KEYS: counts, trim. ARGV: group.
-- Answers {1, lost, again}: how many of each were not known before.
local function known(key, count, as)
  local c = redis.call('HMGET', key, count, as)
  local n, before = tonumber(c[1] or '0'), tonumber(c[2] or '0')
  if n ~= before then redis.call('HSET', key, as, c[1] or '0') end
  return math.max(0, n - before)
end
return {1, known(KEYS[1], 'lost', 'lost_known') + known(KEYS[2], 'lost:' .. ARGV[1], 'known:' .. ARGV[1]),
  known(KEYS[1], 'again', 'again_known')}
