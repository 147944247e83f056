-- Takes, keeps or gives back the lease of the one process that trims. KEYS: lease.
-- ARGV: owner, ttl in ms, or 0 to give it back.
-- Answers {1, 1 where it is the caller's now}.
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'table' then -- somebody put something else there
  redis.call('DEL', KEYS[1])
  held = false
end
local ttl = tonumber(ARGV[2])
if held and held ~= ARGV[1] then
  -- Longer than it is ever given, or for ever: the server's clock was set back, or
  -- somebody meant it well.
  local left = redis.call('PTTL', KEYS[1])
  if ttl > 0 and (left > ttl or left < 0) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return {1, 0}
end
if ttl == 0 then
  redis.call('DEL', KEYS[1])
  return {1, 0}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, 1}
