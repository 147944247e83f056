-- Writes down that runs begin: an attempt of each entry in them, until settle.lua ends
-- the run, or lease.lua finds it left by an owner that is gone.
-- KEYS: lease, runs. ARGV: owner, epoch, then name and ids, with blanks between, of each.
-- Answers {1}.
if not owned() then return {0} end
local kind = redis.pcall('HSET', KEYS[2], unpack(ARGV, 3))
if type(kind) == 'table' and kind.err then
  -- What is no list of runs is replaced by one: it would keep every entry from running.
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], unpack(ARGV, 3))
end
return {1}
