-- Ends deliveries, and runs. KEYS: lease, events, attempts, runs, counts, parked, parcels,
-- dead.
-- ARGV: owner, epoch, group, consumer, number done, number gone, number of runs, number
--       of counts, position of the effect store or '', done ids, gone ids, names of the runs, then id and attempts of each
--       count, then id, attempts, reason, error of each dead letter. Gone are those whose
--       entry, or parcel, somebody deleted. A count is what is charged to an entry that
--       goes on, 0 to forget it.
-- Answers {1, ended, dead letters made}.
if not owned() then return {0} end
local done, gone, runs, counts = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local counted = 9 + done + gone + runs
local buried = counted + 2 * counts

-- What is done, and nothing else, is the usual call, and it has no use for the other keys.
local apart = redis.call('EXISTS', KEYS[6], KEYS[7]) > 0
local function spoilt()
  return overwritten({KEYS[2], 'stream', KEYS[3], 'hash', KEYS[5], 'hash', KEYS[6], 'zset', KEYS[7], 'hash', KEYS[8], 'stream'})
end
if apart or gone + counts > 0 or buried < #ARGV then
  local no = spoilt()
  if no then return no end
end

-- Dead letters come first: where the server refuses to add one, nothing else has
-- happened and the whole call can be sent again. An entry that is neither pending
-- nor parked was settled before, so sending again adds nothing.
local dead = 0
if buried < #ARGV then
  local now = string.format('%.0f', clock())
  for i = buried + 1, #ARGV, 4 do
    local id = ARGV[i]
    local p = redis.pcall('XPENDING', KEYS[2], ARGV[3], id, id, 1)
    local kept = redis.call('HGET', KEYS[7], id)
    if kept or not p.err and #p == 1 then
      local fields = {}
      if kept then
        fields = contents(kept)
      else
        local e = redis.call('XRANGE', KEYS[2], id, id)
        if e[1] then fields = e[1][2] end
      end
      -- No event has so many, and Lua cannot pass on many more.
      redis.call('XADD', KEYS[8], '*', 'src_id', id, 'group', ARGV[3], 'consumer', ARGV[4],
        'attempts', ARGV[i + 1], 'reason', ARGV[i + 2], 'error', ARGV[i + 3], 'dead_at', now,
        unpack(fields, 1, math.min(#fields, 1000)))
      local n = 0
      if not p.err then n = redis.call('XACK', KEYS[2], ARGV[3], id) end
      redis.call('HDEL', KEYS[3], id)
      n = n + redis.call('ZREM', KEYS[6], id)
      -- A group that was created again had it in both places.
      if n > 1 then redis.call('HINCRBY', KEYS[5], 'base', -1) end
      redis.call('HDEL', KEYS[7], id)
      dead = dead + 1
    end
  end
end

-- Ends the deliveries of a part of the arguments and counts them: before, because a
-- script that ends in the middle is not taken back, and right afterwards.
local function finish(from, to, as)
  if to < from then return 0 end
  local all = to - from + 1
  local sum = redis.pcall('HINCRBY', KEYS[5], as, all)
  if type(sum) == 'table' then return nil, spoilt() or refused(sum) end
  local n = redis.pcall('XACK', KEYS[2], ARGV[3], unpack(ARGV, from, to))
  if type(n) == 'table' then
    local no = spoilt()
    if no then
      redis.call('HINCRBY', KEYS[5], as, -all)
      return nil, no
    end
    -- What somebody parked under a name that is no entry's id must not hold up the rest.
    n = 0
    for i = from, to do
      local one = redis.pcall('XACK', KEYS[2], ARGV[3], ARGV[i])
      if type(one) == 'number' then n = n + one end
    end
  end
  if apart then
    redis.call('HDEL', KEYS[3], unpack(ARGV, from, to))
    -- Where somebody deleted the schedule, the parcels tell how many were parked.
    local due = redis.call('ZREM', KEYS[6], unpack(ARGV, from, to))
    n = n + math.max(due, redis.call('HDEL', KEYS[7], unpack(ARGV, from, to)))
  end
  if n ~= all then redis.call('HINCRBY', KEYS[5], as, n - all) end
  return n
end
local ended, no = finish(10, 9 + done, 'settled')
if not ended then return no end
local lost
lost, no = finish(10 + done, 9 + done + gone, 'lost')
if not lost then return no end

if ARGV[9] ~= '' then redis.call('HSET', KEYS[5], 'position', ARGV[9]) end

for i = counted + 1, buried, 2 do
  if ARGV[i + 1] == '0' then
    redis.call('HDEL', KEYS[3], ARGV[i])
  else
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  end
end
-- By pcall: charge.lua replaces what is no hash.
if runs > 0 then redis.pcall('HDEL', KEYS[4], unpack(ARGV, counted - runs + 1, counted)) end
return {1, ended + lost, dead}
