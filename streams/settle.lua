-- Ends deliveries. KEYS: lease, events, attempts, dead, parked, parcels.
-- ARGV: owner, epoch, group, consumer, number done, number to uncharge,
--       done ids, uncharge ids, then id, attempts, reason, error for each dead one.
-- Answers {1, ended, dead letters made, attempts taken back}.
if not owned() then return {0} end
local done, uncharge = tonumber(ARGV[5]), tonumber(ARGV[6])
local at = 6

-- Dead letters come first: where the server refuses to add one, nothing else has
-- happened and the whole call can be sent again. An entry that is neither pending
-- nor parked was settled before, so sending again adds nothing.
local dead = 0
if at + done + uncharge < #ARGV then
  local now = string.format('%.0f', clock())
  for i = at + done + uncharge + 1, #ARGV, 4 do
    local id = ARGV[i]
    local p = redis.pcall('XPENDING', KEYS[2], ARGV[3], id, id, 1)
    local kept = redis.call('HGET', KEYS[6], id)
    if kept or not p.err and #p == 1 then
      local fields = {}
      if kept then
        fields = contents(kept)
      else
        local e = redis.call('XRANGE', KEYS[2], id, id)
        if e[1] then fields = e[1][2] end
      end
      redis.call('XADD', KEYS[4], '*', 'src_id', id, 'group', ARGV[3], 'consumer', ARGV[4],
        'attempts', ARGV[i + 1], 'reason', ARGV[i + 2], 'error', ARGV[i + 3], 'dead_at', now, unpack(fields))
      if not p.err then redis.call('XACK', KEYS[2], ARGV[3], id) end
      redis.call('HDEL', KEYS[3], id)
      redis.call('ZREM', KEYS[5], id)
      redis.call('HDEL', KEYS[6], id)
      dead = dead + 1
    end
  end
end

local ended = 0
if done > 0 then
  ended = redis.call('XACK', KEYS[2], ARGV[3], unpack(ARGV, at + 1, at + done))
  redis.call('HDEL', KEYS[3], unpack(ARGV, at + 1, at + done))
  if redis.call('EXISTS', KEYS[5]) == 1 then
    ended = ended + redis.call('ZREM', KEYS[5], unpack(ARGV, at + 1, at + done))
    redis.call('HDEL', KEYS[6], unpack(ARGV, at + 1, at + done))
  end
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
return {1, ended, dead, back}
