-- Takes or renews a lease. KEYS: lease, epoch, runs, attempts, events, parcels.
-- ARGV: owner, ttl in ms, an epoch that a new one has to be above, the epoch to renew
--       or '' to take the lease, group.
-- Answers {1, epoch}, or {0, ms left} while another owner holds it, or where there is
-- nothing to renew.
local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'ttl')
-- Without an epoch nobody can act on it, so it is none.
if held[2] and not string.match(held[2], '^%d+$') then held[2] = false end
if held[2] and held[1] == ARGV[1] and (ARGV[4] == '' or ARGV[4] == held[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1, held[2]}
end
if ARGV[4] ~= '' then return {0, 0} end
if held[1] and held[2] then
  local left, ttl = redis.call('PTTL', KEYS[1]), tonumber(held[3] or '') or tonumber(ARGV[2])
  -- Longer than it was ever given, or for ever: the server's clock was set back, or
  -- somebody meant it well. An owner that lives renews it before it ends.
  if left > ttl or left < 0 then
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl))
    left = ttl
  end
  return {0, left}
end
-- The epoch is at least the server's time, so that it rises although Redis lost
-- its memory. %.0f writes all of its digits; how many a plain number keeps is the
-- engine's affair.
local now = redis.call('TIME')
local epoch = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
-- What the key holds is somebody's if it is no number that one can be added to.
local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
for _, e in ipairs({last, tonumber(ARGV[3])}) do
  if epoch <= e and e < 2 ^ 53 then epoch = e + 1 end
end
epoch = string.format('%.0f', epoch)
redis.call('SET', KEYS[2], epoch)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', epoch, 'ttl', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])

-- What the owner before was running when it ended may have ended it: each of them that
-- is still owed is charged the attempt. An owner that only lost its lease has not ended.
local runs = redis.pcall('HGETALL', KEYS[3])
if not runs.err then
  for i = 2, #runs, 2 do
    local ours = string.sub(runs[i - 1], 1, #ARGV[1] + 1) == ARGV[1] .. '/'
    for id in string.gmatch(ours and '' or runs[i], '%S+') do
      local pending = redis.pcall('XPENDING', KEYS[5], ARGV[5], id, id, 1)
      if type(pending) == 'table' and not pending.err and #pending == 1 or redis.pcall('HEXISTS', KEYS[6], id) == 1 then
        -- A count that is none cannot be added to.
        local n = redis.pcall('HGET', KEYS[4], id)
        if type(n) == 'string' and not string.match(n, '^%d%d?%d?%d?%d?%d?$') then redis.call('HDEL', KEYS[4], id) end
        redis.pcall('HINCRBY', KEYS[4], id, 1)
      end
    end
  end
end
redis.call('DEL', KEYS[3])
return {1, epoch}
