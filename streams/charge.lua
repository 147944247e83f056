-- Counts one attempt for each entry. KEYS: lease, attempts. ARGV: owner, epoch, id, ...
-- Answers {1, count, ...}.
if not owned() then return {0} end
local out = {1}
for i = 3, #ARGV do
  -- A count that is none would end the script in the middle, at every try.
  local n = redis.call('HGET', KEYS[2], ARGV[i])
  if n and not string.match(n, '^%d%d?%d?%d?%d?%d?$') then redis.call('HDEL', KEYS[2], ARGV[i]) end
  out[#out + 1] = redis.call('HINCRBY', KEYS[2], ARGV[i], 1)
end
return out
