-- Counts one attempt for each entry. KEYS: lease, attempts. ARGV: owner, epoch, id, ...
-- Answers {1, count, ...}.
if not owned() then return {0} end
local out = {1}
for i = 3, #ARGV do out[#out + 1] = redis.call('HINCRBY', KEYS[2], ARGV[i], 1) end
return out
