-- Opens the gates that close.lua has closed: the change was given up, or was killed and its
-- time is over. KEYS: deployment, then the ledger of each partition. ARGV: token of the
-- change, generation.
-- Answers {1, 1}, or {1, 0} where there is no such change.
local d = redis.call('HMGET', KEYS[1], 'change', 'generation')
local token = string.match(d[1] or '', '^(%S+) %d+ %d+$')
if token ~= ARGV[1] or (d[2] or '0') ~= ARGV[2] then return {1, 0} end
redis.call('HDEL', KEYS[1], 'change')
for i = 2, #KEYS do
  local gate = redis.call('HMGET', KEYS[i], 'appended', 'counted', 'open', 'plain')
  if gate[1] == 'closed' and gate[3] == ARGV[2] then
    redis.call('HDEL', KEYS[i], 'until')
    if gate[4] then
      redis.call('HSET', KEYS[i], 'appended', gate[2])
      redis.call('HDEL', KEYS[i], 'counted', 'open', 'plain')
    end
  end
end
return {1, 1}
