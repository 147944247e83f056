-- Ends deliveries. KEYS: lease, events, attempts, dead.
-- ARGV: owner, epoch, group, consumer, number done, number to uncharge,
--       done ids, uncharge ids, then id, attempts, reason, error for each dead one.
-- Answers {1, acknowledged, dead letters made, attempts taken back}.
if not owned() then return {0} end
local done, uncharge = tonumber(ARGV[5]), tonumber(ARGV[6])
local at = 6

-- Dead letters come first: where the server refuses to add one, nothing else has
-- happened and the whole call can be sent again. An entry that is no longer
-- pending was settled before, so sending again adds nothing.
local dead = 0
if at + done + uncharge < #ARGV then
  local now = redis.call('TIME')
  now = string.format('%.0f', tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000))
  for i = at + done + uncharge + 1, #ARGV, 4 do
    local id = ARGV[i]
    local p = redis.pcall('XPENDING', KEYS[2], ARGV[3], id, id, 1)
    if not p.err and #p == 1 then
      local e = redis.call('XRANGE', KEYS[2], id, id)
      local fields = e[1] and e[1][2] or {}
      redis.call('XADD', KEYS[4], '*', 'src_id', id, 'group', ARGV[3], 'consumer', ARGV[4],
        'attempts', ARGV[i + 1], 'reason', ARGV[i + 2], 'error', ARGV[i + 3], 'dead_at', now, unpack(fields))
      redis.call('XACK', KEYS[2], ARGV[3], id)
      redis.call('HDEL', KEYS[3], id)
      dead = dead + 1
    end
  end
end

local acked = 0
if done > 0 then
  acked = redis.call('XACK', KEYS[2], ARGV[3], unpack(ARGV, at + 1, at + done))
  redis.call('HDEL', KEYS[3], unpack(ARGV, at + 1, at + done))
end

local back = 0
for i = at + done + 1, at + done + uncharge do
  local n = tonumber(redis.call('HGET', KEYS[3], ARGV[i]) or '0')
  if n > 1 then
    redis.call('HINCRBY', KEYS[3], ARGV[i], -1)
  elseif n == 1 then
    redis.call('HDEL', KEYS[3], ARGV[i])
  end
  if n > 0 then back = back + 1 end
end
return {1, acked, dead, back}
