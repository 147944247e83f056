-- Adds an entry unless its event was added before, in one step.
-- KEYS: events, seen. ARGV: facts, window in ms, field, value, ...
-- Answers 1 new, 2 duplicate, 3 conflict (other facts under the same event ID).
local known = redis.call('GET', KEYS[2])
if known then
  if known == ARGV[1] then return 2 end
  return 3
end
-- The entry comes before its mark: where XADD is refused, nothing is marked.
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3))
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
