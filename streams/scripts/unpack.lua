-- Reads parked deliveries. KEYS: lease, attempts, parcels. ARGV: owner, epoch, id, ...
-- Answers {1, {id, attempts or false, fields or false}, ...}.
if not owned() then return {0} end
local out = {1}
for i = 3, #ARGV do
  local kept = redis.call('HGET', KEYS[3], ARGV[i])
  out[#out + 1] = {ARGV[i], redis.call('HGET', KEYS[2], ARGV[i]), kept and contents(kept) or false}
end
return out
