-- Ends deliveries. KEYS: lease, events, attempts, dead, parked, parcels, counts.
-- ARGV: owner, epoch, group, consumer, number done, number gone, number to uncharge,
--       done ids, gone ids, uncharge ids, then id, attempts, reason, error for each
--       dead one. Gone are those whose entry, or parcel, somebody deleted.
-- Answers {1, ended, dead letters made, attempts taken back}.
if not owned() then return {0} end
local no = overwritten({KEYS[2], 'stream', KEYS[3], 'hash', KEYS[4], 'stream', KEYS[5], 'zset', KEYS[6], 'hash', KEYS[7], 'hash'})
if no then return no end
local done, gone, uncharge = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local at = 7

-- Dead letters come first: where the server refuses to add one, nothing else has
-- happened and the whole call can be sent again. An entry that is neither pending
-- nor parked was settled before, so sending again adds nothing.
local dead = 0
if at + done + gone + uncharge < #ARGV then
  local now = string.format('%.0f', clock())
  for i = at + done + gone + uncharge + 1, #ARGV, 4 do
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
      -- No event has so many, and Lua cannot pass on many more.
      redis.call('XADD', KEYS[4], '*', 'src_id', id, 'group', ARGV[3], 'consumer', ARGV[4],
        'attempts', ARGV[i + 1], 'reason', ARGV[i + 2], 'error', ARGV[i + 3], 'dead_at', now,
        unpack(fields, 1, math.min(#fields, 1000)))
      local n = 0
      if not p.err then n = redis.call('XACK', KEYS[2], ARGV[3], id) end
      redis.call('HDEL', KEYS[3], id)
      n = n + redis.call('ZREM', KEYS[5], id)
      -- A group that was created again had it in both places.
      if n > 1 then redis.call('HINCRBY', KEYS[7], 'base', -1) end
      redis.call('HDEL', KEYS[6], id)
      dead = dead + 1
    end
  end
end

-- Ends the deliveries of a part of the arguments and counts them.
local function finish(from, to, as)
  if to < from then return 0 end
  local n = redis.pcall('XACK', KEYS[2], ARGV[3], unpack(ARGV, from, to))
  if type(n) == 'table' then
    -- What somebody parked under a name that is no entry's id must not hold up the rest.
    n = 0
    for i = from, to do
      local one = redis.pcall('XACK', KEYS[2], ARGV[3], ARGV[i])
      if type(one) == 'number' then n = n + one end
    end
  end
  redis.call('HDEL', KEYS[3], unpack(ARGV, from, to))
  if redis.call('EXISTS', KEYS[5], KEYS[6]) > 0 then
    -- Where somebody deleted the schedule, the parcels tell how many were parked.
    local due = redis.call('ZREM', KEYS[5], unpack(ARGV, from, to))
    n = n + math.max(due, redis.call('HDEL', KEYS[6], unpack(ARGV, from, to)))
  end
  if n > 0 then redis.call('HINCRBY', KEYS[7], as, n) end
  return n
end
local ended = finish(at + 1, at + done, 'settled') + finish(at + done + 1, at + done + gone, 'lost')

local back = 0
for i = at + done + gone + 1, at + done + gone + uncharge do
  local held = redis.call('HGET', KEYS[3], ARGV[i]) or '0'
  local n = string.match(held, '^%d%d?%d?%d?%d?%d?$') and tonumber(held) or 1
  if n > 1 then
    redis.call('HINCRBY', KEYS[3], ARGV[i], -1)
  elseif n == 1 then
    redis.call('HDEL', KEYS[3], ARGV[i])
  end
  if n > 0 then back = back + 1 end
end
return {1, ended, dead, back}
